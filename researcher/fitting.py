"""``wardgate fit``: a model across the sites, printed as R does, or as JSON lines."""

from __future__ import annotations

import json
import math
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from contract.errors import UsageError
from researcher.analysing import show
from researcher.consortium import Consortium
from researcher.findings import origin
from researcher.home import DEFAULT_HOME
from researcher.models import ModelAnswer
from researcher.options import (
    ConfidenceOption,
    HomeOption,
    MethodsOption,
    ProjectOption,
    SecureOption,
    Whom,
    grouped,
    say_who_waits,
)
from researcher.study import Study

CONFIDENCE = 0.95


class Family(StrEnum):
    """What a model explains, and how."""

    LINEAR = "linear"
    LOGISTIC = "logistic"
    POISSON = "poisson"
    GAMMA = "gamma"
    COX = "cox"


class BySite(StrEnum):
    """What differs between sites."""

    POOLED = "pooled"
    FIXED = "fixed"
    RANDOM = "random"
    EACH = "each"


class Ties(StrEnum):
    """How a Cox model treats events at one time."""

    EFRON = "efron"
    BRESLOW = "breslow"


class Link(StrEnum):
    """A gamma model's."""

    LOG = "log"
    INVERSE = "inverse"


class Method(StrEnum):
    """How the variance between sites is estimated."""

    REML = "reml"
    ML = "ml"


class Robust(StrEnum):
    """By what standard errors are robust."""

    HC0 = "HC0"
    HC1 = "HC1"
    SITE = "site"


class Knots(StrEnum):
    """Where a spline's knots lie whose places the formula leaves open."""

    EVEN = "even"
    QUANTILES = "quantiles"


class TimeScale(StrEnum):
    """Against what of time proportionality is tested."""

    IDENTITY = "identity"
    LOG = "log"


@grouped
def fit(
    *,
    project: ProjectOption,
    formula: Annotated[str, typer.Argument(help='As R writes it: "y ~ age + arm:sex".')],
    family: Annotated[
        Family,
        typer.Option(metavar="FAMILY", help="linear, logistic, poisson, gamma or cox."),
    ],
    analysis: Annotated[str, typer.Option(help="The releases' analysis set.")],
    weights: Annotated[str | None, typer.Option(help="A variable: prior weights.")] = None,
    by_site: Annotated[
        BySite | None,
        typer.Option(
            metavar="HOW",
            help="What differs between sites: nothing (pooled); an effect of each (fixed); a "
            "random intercept (random; not of gamma or cox); everything, each site's own fit, "
            "pooled by random effects (each).",
        ),
    ] = None,
    ties: Annotated[Ties, typer.Option(help="Of a Cox model.")] = Ties.EFRON,
    time_scale: Annotated[
        TimeScale, typer.Option(help="Of a Cox model: what hazards are tested against.")
    ] = TimeScale.IDENTITY,
    link: Annotated[Link, typer.Option(help="Of a gamma model.")] = Link.LOG,
    knots: Annotated[
        Knots, typer.Option(help="Of splines by df: even over the range, or at quantiles.")
    ] = Knots.EVEN,
    robust: Annotated[
        Robust | None,
        typer.Option(
            metavar="HOW",
            help="Robust (sandwich) standard errors: by each subject (HC0; HC1 for a small "
            "sample), or by each site (site).",
        ),
    ] = None,
    method: Annotated[
        Method, typer.Option(help="Of a linear model's random intercept.")
    ] = Method.REML,
    secure: SecureOption = False,
    imputed: Annotated[
        list[str] | None,
        typer.Option(
            help="A variable of the formula that has imputations: fit to each, and pool; "
            "repeatable."
        ),
    ] = None,
    whom: Whom,
    confidence: ConfidenceOption = CONFIDENCE,
    methods: MethodsOption = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw a forest plot into this .png, .svg or .pdf.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all figures as JSON lines.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Fit a model across the sites: the estimates are those of the pooled rows.

    Example: wardgate fit -p preterm "preterm ~ arm + age" --family logistic --analysis main

    Example: wardgate fit -p t "Surv(days, died) ~ arm + strata(sex)" --family cox --analysis main

    Example: wardgate fit -p t "sbp ~ arm*ns(age, df=3) + (1 | site)" --family linear --analysis a

    Example: wardgate fit -p t "falls ~ arm + offset(log(years))" --family poisson --analysis main

    Example: wardgate fit -p t "died ~ arm" --family logistic --analysis main --by-site each

    Example: wardgate fit -p t "died ~ arm" --family logistic --analysis main --secure

    Example: wardgate fit -p t "died01 ~ arm" --family poisson --analysis main --robust HC0

    Example: wardgate fit -p t "died ~ bmi" --family logistic --analysis main --imputed bmi
    """
    if plot is not None:
        from researcher.plots import check_suffix

        check_suffix(plot)
    if plot is not None and imputed:
        raise UsageError("A pooled model of imputations has no plot; leave out --plot.")
    settings: dict[str, Any] = {
        "weights": weights,
        "ties": ties.value,
        "link": link.value if family is Family.GAMMA else None,
        "by_site": None if by_site is None else by_site.value,
        "method": method.value,
        "time_scale": time_scale.value,
        "knots": knots.value,
        "robust": None if robust is None else robust.value,
        "secure": secure,
    }
    terms = {"analysis": analysis, "waiting": say_who_waits, **whom.terms()}
    with Consortium.connect(home) as consortium:
        if imputed:
            study = Study(consortium, project, confidence=confidence, **terms)
            pooled = study.imputed_model(formula, family.value, imputed, **settings)
            show(pooled, as_json=as_json, methods=methods)
            return
        found = consortium.model(project, formula, family.value, **settings, **terms)
    show_model(found, confidence, as_json=as_json)
    if methods:
        print(found.methods)
    if plot is not None:
        from researcher.plots import save

        save(found.forest(), plot)
        print(f"drawn into {plot}", file=sys.stderr)


def show_model(found: ModelAnswer, confidence: float, *, as_json: bool) -> None:
    """Print a model as R does, or its records as JSON lines with the notes beside them."""
    if not as_json:
        print(found.text(confidence), end="")
        return
    for row in found.records(confidence):
        values = {
            k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()
        }
        print(json.dumps(values))
    print(json.dumps(origin("exact", found.answered, [found.job], found.notes)))
    for note in found.notes:
        print(note, file=sys.stderr)
