"""``wardgate analyse``: one analysis across the sites, printed, as JSON, or drawn into a file."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from contract.errors import UsageError
from contract.statistics import quantiles
from contract.statistics.estimates import CONFIDENCE
from researcher.consortium import Consortium
from researcher.findings import Finding
from researcher.home import DEFAULT_HOME
from researcher.options import (
    AnalysisOption,
    ByOption,
    ConfidenceOption,
    HomeOption,
    JsonOption,
    MethodsOption,
    ProjectOption,
    Protection,
    Summed,
    Whom,
    grouped,
    say_who_waits,
)
from researcher.study import Study


class Analysis(StrEnum):
    """What can be done with one call."""

    DESCRIBE = "describe"
    TABLE1 = "table1"
    HISTOGRAM = "histogram"
    INTENSITIES = "intensities"
    ACQUISITION = "acquisition"
    QUANTILES = "quantiles"
    BOX_PLOT = "box-plot"
    DENSITY = "density"
    MEAN = "mean"
    IMPUTED_MEAN = "imputed-mean"
    PROPORTION = "proportion"
    T_TEST = "t-test"
    PAIRED_T = "paired-t"
    ANOVA = "anova"
    RANKS = "ranks"
    CROSSTAB = "crosstab"
    CORRELATION = "correlation"
    COVARIANCE = "covariance"
    ORDER = "rank-correlation"
    RATES = "rates"
    SURVIVAL = "survival"
    INCIDENCE = "cumulative-incidence"
    ROC = "roc"
    ACCURACY = "accuracy"
    CALIBRATION = "calibration"
    AGREEMENT = "agreement"
    ICC = "icc"
    BLAND_ALTMAN = "bland-altman"


def _by(by: str | None, analysis: str) -> str:
    if by is None:
        raise UsageError(f"{analysis} compares groups; say which: --by arm.")
    return by


def _one(names: list[str], analysis: str) -> str:
    if len(names) != 1:
        raise UsageError(f"{analysis} is of one variable.")
    return names[0]


def _two(names: list[str], analysis: str, what: str) -> tuple[str, str]:
    if len(names) != 2:
        raise UsageError(f"{analysis} is of two variables: {what}.")
    return names[0], names[1]


class Alternative(StrEnum):
    """What a t test's hypothesis is tested against."""

    TWO_SIDED = "two-sided"
    LESS = "less"
    GREATER = "greater"


class Adjustment(StrEnum):
    """How p values are adjusted for being several."""

    HOLM = "holm"
    BONFERRONI = "bonferroni"
    BENJAMINI_HOCHBERG = "benjamini-hochberg"
    NONE = "none"


class Scale(StrEnum):
    """On which scale an interval of survival is symmetric."""

    LOG_LOG = "log-log"
    LOG = "log"
    PLAIN = "plain"


@dataclass(frozen=True)
class Particular:
    """What some analyses alone are told."""

    equal_variances: Annotated[
        bool,
        typer.Option("--equal-variances", help="Of t-test (Student's) and anova (Fisher's)."),
    ] = False
    alternative: Annotated[
        Alternative, typer.Option(help="Of t tests: one-sided, that it is less or greater.")
    ] = Alternative.TWO_SIDED
    null: Annotated[
        float, typer.Option(help="Of t tests: the mean, or difference, that is tested against.")
    ] = 0.0
    overall: Annotated[
        bool, typer.Option("--overall", help="Of table1: a column of all groups together, too.")
    ] = False
    median: Annotated[
        list[str] | None,
        typer.Option(
            "--median", help="Of table1: give this number as median [quartiles]; repeatable."
        ),
    ] = None
    given: Annotated[
        list[str] | None,
        typer.Option("--given", help="Of correlation: hold this number fixed; repeatable."),
    ] = None
    pairwise: Annotated[
        bool,
        typer.Option("--pairwise", help="Of correlation: of all who have both values of a pair."),
    ] = False
    share: Annotated[
        list[float] | None,
        typer.Option("--share", help="Of quantiles: 0.9 for the 90th percentile; repeatable."),
    ] = None
    type: Annotated[
        int,
        typer.Option(
            "--type", min=1, max=9, help="Of quantiles: Hyndman and Fan's type, as of R's quantile."
        ),
    ] = quantiles.TYPE
    adjust: Annotated[
        Adjustment | None,
        typer.Option(help="Of anova, table1, correlation: p values for being several."),
    ] = None
    simulate: Annotated[
        int | None,
        typer.Option(
            "--simulate",
            metavar="SEED",
            help="Of crosstab: Fisher's test by random tables where it would take too long.",
        ),
    ] = None
    score: Annotated[
        list[float] | None,
        typer.Option("--score", help="Of agreement: a level's number; once for each, in order."),
    ] = None
    modality: Annotated[
        str | None, typer.Option(help="Of acquisition: CT for how CT images were taken.")
    ] = None
    stratum: Annotated[
        str | None, typer.Option(help="Of survival, incidence: stratify tests by this category.")
    ] = None
    at: Annotated[
        list[float] | None,
        typer.Option("--at", help="Of survival, incidence: tell it at this time; repeatable."),
    ] = None
    until: Annotated[
        float | None, typer.Option(help="Of survival: tell the mean time up to this one.")
    ] = None
    rho: Annotated[
        float,
        typer.Option(
            help="Of survival, incidence: weigh the test by S^rho (1 is Peto's), or (1 - F)^rho."
        ),
    ] = 0.0
    scale: Annotated[
        Scale, typer.Option(help="Of survival, incidence: of intervals; R's default is log.")
    ] = Scale.LOG_LOG

    def check(self, kind: Analysis) -> None:
        """Raise ``UsageError`` for an option that the analysis doesn't have."""
        curves = (Analysis.SURVIVAL, Analysis.INCIDENCE)
        t_tests = (Analysis.MEAN, Analysis.T_TEST, Analysis.PAIRED_T)
        for given, option, kinds in (
            (self.equal_variances, "--equal-variances", (Analysis.T_TEST, Analysis.ANOVA)),
            (self.alternative is not Alternative.TWO_SIDED, "--alternative", t_tests),
            (self.null, "--null", t_tests),
            (self.overall, "--overall", (Analysis.TABLE1,)),
            (self.median, "--median", (Analysis.TABLE1,)),
            (self.given, "--given", (Analysis.CORRELATION,)),
            (self.pairwise, "--pairwise", (Analysis.CORRELATION,)),
            (self.share, "--share", (Analysis.QUANTILES,)),
            (self.type != quantiles.TYPE, "--type", (Analysis.QUANTILES,)),
            (
                self.adjust is not None,
                "--adjust",
                (Analysis.ANOVA, Analysis.TABLE1, Analysis.CORRELATION),
            ),
            (self.simulate is not None, "--simulate", (Analysis.CROSSTAB,)),
            (self.score, "--score", (Analysis.AGREEMENT,)),
            (self.modality, "--modality", (Analysis.ACQUISITION,)),
            (self.stratum, "--stratum", curves),
            (self.at, "--at", curves),
            (self.until is not None, "--until", (Analysis.SURVIVAL,)),
            (self.rho, "--rho", curves),
            (self.scale is not Scale.LOG_LOG, "--scale", curves),
        ):
            if given and kind not in kinds:
                raise UsageError(f"{option} is of {' and '.join(one.value for one in kinds)}.")

    @property
    def adjusting(self) -> dict[str, Any]:
        """How p values are adjusted; nothing where the analysis has its own way."""
        return {} if self.adjust is None else {"adjust": self.adjust.value}

    @property
    def hypothesis(self) -> dict[str, Any]:
        """What a t test is told."""
        return {"alternative": self.alternative.value, "null": self.null}


def _of_one(
    study: Study, kind: Analysis, name: str, by: str | None, options: Particular
) -> Finding:
    match kind:
        case Analysis.HISTOGRAM:
            found = study.histogram(name, by)
        case Analysis.INTENSITIES:
            found = study.intensities(name)
        case Analysis.T_TEST:
            equal = options.equal_variances
            found = study.t_test(
                name, _by(by, kind.value), equal_variances=equal, **options.hypothesis
            )
        case Analysis.MEAN:
            found = study.mean(name, by, **options.hypothesis)
        case Analysis.IMPUTED_MEAN:
            found = study.imputed_mean(name, by)
        case Analysis.PROPORTION:
            found = study.proportion(name, by)
        case Analysis.ANOVA:
            equal = options.equal_variances
            found = study.anova(
                name, _by(by, kind.value), equal_variances=equal, **options.adjusting
            )
        case _:
            found = study.ranks(name, _by(by, kind.value))
    return found


def _of_two(
    study: Study, kind: Analysis, names: list[str], by: str | None, options: Particular
) -> Finding:
    match kind:
        case Analysis.SURVIVAL:
            found = study.survival(
                *_two(names, kind.value, "a time and an event"),
                by=by,
                stratum=options.stratum,
                at=options.at or (),
                until=options.until,
                rho=options.rho,
                scale=options.scale.value,
            )
        case Analysis.INCIDENCE:
            found = study.cumulative_incidence(
                *_two(names, kind.value, "a time and an event"),
                by=by,
                stratum=options.stratum,
                at=options.at or (),
                rho=options.rho,
                scale=options.scale.value,
            )
        case Analysis.ACCURACY:
            found = study.accuracy(*_two(names, kind.value, "a test and an outcome"), by=by)
        case Analysis.ROC:
            found = study.roc(*_two(names, kind.value, "a score and an outcome"), by=by)
        case Analysis.CALIBRATION:
            found = study.calibration(*_two(names, kind.value, "a probability and an outcome"))
        case Analysis.PAIRED_T:
            pair = _two(names, kind.value, "two measurements")
            found = study.paired_t_test(*pair, **options.hypothesis)
        case Analysis.ORDER:
            found = study.rank_correlation(*_two(names, kind.value, "two orders"), by=by)
        case _:
            found = study.bland_altman(*_two(names, kind.value, "two methods"))
    return found


_OF_ONE = (
    Analysis.HISTOGRAM,
    Analysis.INTENSITIES,
    Analysis.MEAN,
    Analysis.IMPUTED_MEAN,
    Analysis.PROPORTION,
    Analysis.T_TEST,
    Analysis.ANOVA,
    Analysis.RANKS,
)


_OF_NO_GROUPS = (
    Analysis.DENSITY,
    Analysis.INTENSITIES,
    Analysis.ACQUISITION,
    Analysis.PAIRED_T,
    Analysis.CALIBRATION,
    Analysis.ICC,
    Analysis.BLAND_ALTMAN,
)


def run(
    study: Study, kind: Analysis, names: list[str], by: str | None, options: Particular
) -> Finding:
    """Do one analysis of a study; of agreement ``by`` is how many raters rated a subject."""
    if by is not None and kind in _OF_NO_GROUPS:
        raise UsageError(f"{kind.value} is of everybody; use --where for a part of them.")
    options.check(kind)
    if kind is Analysis.ACQUISITION:
        if names:
            raise UsageError("acquisition is of all parameters; use --modality for one modality's.")
        return study.acquisition(options.modality)
    if not names:
        raise UsageError(f"{kind.value} is of variables; say which: wardgate analyse KIND age.")
    if kind in _OF_ONE:
        return _of_one(study, kind, _one(names, kind.value), by, options)
    of_several: dict[Analysis, Callable[..., Finding]] = {
        Analysis.DESCRIBE: study.describe,
        Analysis.BOX_PLOT: study.box_plots,
        Analysis.COVARIANCE: study.covariances,
    }
    if kind in of_several:
        return of_several[kind](*names, by=by)
    match kind:
        case Analysis.TABLE1:
            medians = options.median or ()
            found = study.table_one(
                *names, by=by, overall=options.overall, medians=medians, **options.adjusting
            )
        case Analysis.QUANTILES:
            shares: dict[str, Any] = {"shares": options.share} if options.share else {}
            found = study.quantiles(*names, by=by, type=options.type, **shares)
        case Analysis.CROSSTAB:
            found = study.crosstab(*names, by=by, simulate=options.simulate)
        case Analysis.RATES:
            found = study.rates(*_two(names, kind.value, "a time at risk and an event"), by=by)
        case Analysis.DENSITY:
            found = study.density(*_two(names, kind.value, "two numbers"))
        case Analysis.CORRELATION:
            given = options.given or ()
            found = study.correlations(
                *names, by=by, given=given, pairwise=options.pairwise, **options.adjusting
            )
        case Analysis.AGREEMENT:
            found = study.agreement(*names, ratings=by, scores=options.score or ())
        case Analysis.ICC:
            found = study.icc(*names)
        case _:
            found = _of_two(study, kind, names, by, options)
    return found


@grouped
def analyse(
    *,
    kind: Annotated[
        Analysis,
        typer.Argument(metavar="KIND", help=f"One of {', '.join(one.value for one in Analysis)}."),
    ],
    variables: Annotated[
        list[str] | None,
        typer.Argument(help="What it is of.", metavar="VARIABLES...", show_default=False),
    ] = None,
    project: ProjectOption,
    by: ByOption = None,
    whom: Whom,
    analysis: AnalysisOption = None,
    protection: Protection,
    summed: Summed,
    particular: Particular,
    confidence: ConfidenceOption = CONFIDENCE,
    plot: Annotated[
        Path | None, typer.Option(help="Draw it into this file: .png, .svg or .pdf.")
    ] = None,
    methods: MethodsOption = False,
    as_json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Do one analysis across the sites: described, compared, crossed, over time, or evaluated.

    Each is one question; what it tells is of all sites' subjects together.

    Example: wardgate analyse table1 age sex bmi -p preterm --by arm --overall --median bmi

    Example: wardgate analyse t-test age -p preterm --by arm --where 'age >= 18'

    Example: wardgate analyse t-test age -p preterm --by arm --alternative less --confidence 0.9

    Example: wardgate analyse survival months died -p t --by arm --analysis main --plot km.svg

    Example: wardgate analyse cumulative-incidence months ended -p t --by arm --analysis main

    Example: wardgate analyse acquisition -p lung --modality CT
    """
    if plot is not None:
        from researcher.plots import check_suffix

        check_suffix(plot)
    with Consortium.connect(home) as consortium:
        study = Study(
            consortium,
            project,
            analysis=analysis,
            confidence=confidence,
            waiting=say_who_waits,
            **whom.terms(),
            **protection.terms(),
            **summed.terms(),
        )
        found = run(study, kind, variables or [], by, particular)
    show(found, as_json=as_json, methods=methods)
    if plot is not None:
        if found.figure is None:
            raise UsageError(f"There is nothing to draw of: {found.title}.")
        from researcher.plots import save

        save(found.figure, plot)
        print(f"drawn into {plot}", file=sys.stderr)


def show(found: Finding, *, as_json: bool, methods: bool) -> None:
    """Print a finding: a table with its notes, or JSON lines with the notes on standard error.

    The lines of tests and estimates, which are told after the rows, have a ``figure``; the last
    says by which lane and from which sites it all came.
    """
    if as_json:
        for row in (*found.tidy(), *found.glance()):
            finite = {
                k: None if isinstance(v, float) and not math.isfinite(v) else v
                for k, v in row.items()
            }
            print(json.dumps(finite))
        print(json.dumps(found.origin()))
        for note in found.notes:
            print(note, file=sys.stderr)
    else:
        Console(markup=False).print(found.printed())
        print(f"{len(found.receipts)} receipts verified")
        for answer in found.answers:
            print(f"job {answer.job}")
    if methods:
        print(found.methods)
