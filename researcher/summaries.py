"""What is said of a fitted model: its formula, R's summary, and a paragraph for a paper."""

from __future__ import annotations

import math
from importlib.metadata import version
from typing import TYPE_CHECKING

from rich.table import Table

from contract.models import Model
from contract.statistics import knots
from contract.statistics.design import bounds
from contract.statistics.mixed_steps import NODES
from contract.terms import Factor, Spline, Value
from researcher.findings import p_value

if TYPE_CHECKING:
    from contract.statistics.fit import Fit
    from researcher.models import ModelAnswer

_NAMES = {
    "linear": "linear model",
    "logistic": "logistic regression",
    "poisson": "Poisson regression",
    "gamma": "gamma regression",
    "cox": "Cox proportional hazards model",
}
_SANDWICHES = {
    "HC0": "the sandwich estimator of Huber (1967) and White (1980) of subjects' scores",
    "HC1": "the sandwich estimator of Huber (1967) and White (1980) of subjects' scores, times "
    "n / (n - p)",
    "site": "the sandwich estimator of Liang and Zeger (1986) of sites' scores, times G / (G - 1) "
    "for G sites",
}
_NAME_WIDTH = 20


def formula(model: Model) -> str:
    """Return the model as R would write it."""
    left = model.outcome if model.transform is None else f"{model.transform}({model.outcome})"
    if model.event is not None:
        times = [model.entry, model.outcome] if model.entry else [model.outcome]
        left = f"Surv({', '.join([*times, model.event])})"
    right = [] if model.intercept else ["0"]
    right += [":".join(map(_written, term.factors)) for term in model.terms]
    right += [f"offset({factor.label})" for factor in model.offset]
    right += [f"strata({', '.join(model.strata)})"] if model.strata else []
    right += ["(1 | site)"] if model.site == "random" else []
    return f"{left} ~ {' + '.join(right or ['1'])}"


def _written(factor: Factor) -> str:
    """Return a factor as a formula has it: a label, which columns bear, tells of no reference."""
    if isinstance(factor, Value) and factor.reference is not None:
        quote = "'" if '"' in factor.reference else '"'
        return f"relevel({factor.variable}, ref = {quote}{factor.reference}{quote})"
    return factor.label


def spline_places(answer: ModelAnswer) -> list[str]:
    """Return where a spline's knots are whose places the formula left open."""
    found = {}
    for factor in (f for term in answer.model.terms for f in term.factors):
        variable = answer.project.variable(factor.variable)
        if isinstance(factor, Spline) and factor.df is not None and variable is not None:
            boundary = factor.boundary or bounds(variable)
            places = [f"{knot:.4g}" for knot in knots.of(factor, boundary, variable)]
            found[factor.label] = (
                f"{factor.label}: knots evenly over {boundary[0]:g} to {boundary[1]:g}"
                + (f", at {', '.join(places)}" if places else "")
                + "; R's would be at the data's quantiles."
            )
    return list(found.values())


def name(model: Model) -> str:
    """Return what the model is called, with its settings in brackets."""
    settings = []
    if model.family == "gamma":
        settings.append(f"{model.link} link")
    if model.family == "cox":
        settings.append(f"{model.ties.capitalize()}'s ties")
    if model.weights:
        settings.append(f"weights {model.weights}")
    by_site = {
        "fixed": "with an effect of each site",
        "random": "random intercept by site, "
        + (model.method.upper() if model.family == "linear" else "ML"),
        "each": "at each site by itself",
    }
    if model.site != "pooled":
        settings.append(by_site[model.site])
    if model.robust:
        settings.append(f"robust errors by {'site' if model.robust == 'site' else model.robust}")
    return _NAMES[model.family] + (f" ({'; '.join(settings)})" if settings else "")


def table(answer: ModelAnswer, confidence: float = 0.95) -> Table:
    """Return the coefficients as a table that fits 80 columns."""
    ratio = answer.ratio
    found = Table(box=None, pad_edge=False)
    longest = max(map(len, answer.columns))
    found.add_column("", overflow="fold", min_width=min(longest, _NAME_WIDTH))
    share = f"{100 * confidence:g} % CI"
    error = "std.\nerror" if answer.fit.robust is None else "robust\nerror"
    names = ["estimate", error, answer.law, "p"]
    names += [ratio.replace(" ", "\n"), share] if ratio else [share]
    for column in names:
        found.add_column(column, justify="right", no_wrap=True)
    for row in answer.rows(confidence):
        low, high = (row.ratio_low, row.ratio_high) if ratio else (row.low, row.high)
        found.add_row(
            row.name,
            f"{row.estimate:.4g}",
            f"{row.standard_error:.4g}",
            f"{row.statistic:.3f}",
            p_value(row.p),
            *([f"{row.ratio:.4g}"] if ratio else []),
            f"{low:.4g} to {high:.4g}",
        )
    return found


def lines(answer: ModelAnswer) -> list[str]:
    """Return the figures under the coefficients, a line each."""
    fit, model = answer.fit, answer.model
    who = f"{fit.n} subjects" + (f", {fit.events} events" if model.family == "cox" else "")
    found = [
        f"{name(model)[:1].upper()}{name(model)[1:]}",
        f"{who} at {len(_counted(answer))} sites",
    ]
    if answer.left_out:
        found.append(
            f"({answer.left_out} or more others aren't in {answer.analysis}: they lack a value, or "
            "are left out)"
        )
    if fit.each:
        pooled = "Coefficients pooled by random effects (REML), intervals by Hartung and Knapp"
        return [*found, pooled, *_heterogeneity(answer)]
    found += [
        f"Wald test of {test.name}: chi-squared {test.statistic:.4g} on {test.degrees} df, "
        f"p = {test.p:.3g}"
        for test in answer.wald()
        if test.degrees > 1
    ]
    if model.family == "cox":
        found += [
            f"{test.name[:1].upper()}{test.name[1:]} test: {test.statistic:.4g} on "
            f"{test.degrees} df, p = {test.p:.3g}"
            for test in answer.tests()
        ]
        if not math.isnan(fit.concordance):
            found.append(f"Concordance, of pairs within strata: {fit.concordance:.4f}")
        tests = answer.proportionality()
        if tests:
            found.append(
                f"Proportional hazards (against {_scale(model)}): chi-squared "
                f"{tests[-1].statistic:.4g} on {tests[-1].degrees} df, p = {tests[-1].p:.3g}"
            )
            found += [f"  {t.name}: {t.statistic:.4g}, p = {t.p:.3g}" for t in tests[:-1]]
    elif answer.is_mixed and model.family != "linear":
        variance = fit.site_variance
        found.append(f"Variance between sites {variance:.5g}, SD {math.sqrt(variance):.5g}")
    elif answer.is_mixed:
        share = fit.site_variance / (fit.site_variance + fit.dispersion)
        found.append(
            f"Variance between sites {fit.site_variance:.5g}, within {fit.dispersion:.5g}; "
            f"intraclass correlation {share:.3f}"
        )
    elif model.family == "linear":
        found += _of_a_linear_model(answer)
    else:
        degrees = fit.residual_degrees
        null = fit.n - int(model.intercept)
        if model.family == "gamma":
            found.append(f"Dispersion {fit.dispersion:.5g}")
        found.append(f"Null deviance: {fit.null_deviance:.6g} on {null} degrees of freedom")
        found.append(f"Residual deviance: {fit.deviance:.6g} on {degrees} degrees of freedom")
    found.append(f"Log-likelihood {fit.log_likelihood:.6g}, AIC {fit.aic:.6g}, BIC {fit.bic:.6g}")
    effects = answer.site_effects()
    if effects:
        said = ", ".join(f"{site} {effect + 0.0:+.4g}" for site, effect in effects.items())
        found.append(f"Sites' effects: {said}")
    return found


def _scale(model: Model) -> str:
    return "log time" if model.time_scale == "log" else "time"


def _of_a_linear_model(answer: ModelAnswer) -> list[str]:
    told, degrees = answer.glance(), answer.fit.residual_degrees
    found = [f"Residual standard error {told['sigma']:.5g} on {degrees} degrees of freedom"]
    if "r.squared" in told:
        found.append(f"R-squared {told['r.squared']:.4f}, adjusted {told['adj.r.squared']:.4f}")
    if "p.value" in told:
        found.append(
            f"F {told['statistic']:.5g} on {told['df']} and {degrees} df, p = {told['p.value']:.3g}"
        )
    return found


def _heterogeneity(answer: ModelAnswer) -> list[str]:
    found = []
    for column in answer.columns:
        if column == "(Intercept)":
            continue
        pooled = answer.meta(column)
        said = (
            f"{column}: tau-squared {pooled.tau2:.4g}, I-squared {100 * pooled.i2:.1f} %, "
            f"Q {pooled.q:.4g} (p = {pooled.q_p:.3g})"
        )
        if not math.isnan(pooled.prediction[0]):
            low, high = pooled.prediction
            if answer.ratio:
                low, high = math.exp(min(low, 700.0)), math.exp(min(high, 700.0))
            said += f", prediction {low:.4g} to {high:.4g}"
        found.append(said)
    return found


def _is_pooled(own: Fit | str) -> bool:
    return not isinstance(own, str) and own.converged


def _counted(answer: ModelAnswer) -> list[str]:
    """Return the sites that the number of subjects is of: of fits of single sites those pooled."""
    if not answer.fit.each:
        return list(answer.answered)
    return [s for s, own in zip(answer.sites, answer.fit.each, strict=False) if _is_pooled(own)]


def _sent(answer: ModelAnswer) -> str:
    linear = answer.model.family == "linear"
    if answer.secure:
        what = "sums of squares and products" if linear else "score and information"
        return (
            f"each site's {what} were summed with the others' by a secure aggregation protocol "
            "(Bonawitz et al. 2017), so that nobody saw those of a single site"
        )
    what = "the triangular factor of its data's QR decomposition"
    return f"each site sent {what if linear else 'its score and information'}"


def _left_out(answer: ModelAnswer) -> str:
    return (
        f"At least {answer.left_out} others were not in the analysis set {answer.analysis}: they "
        "lacked a value of one of its variables, or were left out so that nobody can be told apart."
    )


def methods(answer: ModelAnswer) -> str:
    """Return a methods paragraph."""
    model, fit, project = answer.model, answer.fit, answer.project
    sites = _counted(answer)
    events = f" ({fit.events} events)" if model.family == "cox" else ""
    said = [
        f"A {name(model)} was fitted to {fit.n} subjects{events} of {len(sites)} sites "
        f"({', '.join(sites)}): {formula(model)}.",
        *([_left_out(answer)] if answer.left_out else []),
        f"It was fitted by federation with Wardgate {version('wardgate')}, under project "
        f"{project.name} version {project.version} ({project.ethics_reference}): {_sent(answer)}, "
        "and no individual's data left it.",
    ]
    if model.site == "each":
        said.append(
            "Each coefficient of the sites' own fits was pooled by random effects (REML), with "
            "intervals by Hartung and Knapp."
        )
    elif model.family == "cox":
        strata = f" and {', '.join(model.strata)}" if model.strata else ""
        said.append(
            "The partial likelihood is stratified by site" + strata + "; its maximum is that of a "
            "stratified analysis of the pooled rows."
        )
        if fit.proportionality:
            said.append(
                f"Proportionality was tested by Grambsch and Therneau's score test against "
                f"{_scale(model)}; concordance is Harrell's, of pairs within strata."
            )
    else:
        said.append("The estimates are those of the pooled rows.")
    if answer.is_mixed and model.family != "linear":
        said.append(
            "The likelihood was integrated over each site's intercept by adaptive Gauss-Hermite "
            f"quadrature with {NODES} nodes (Pinheiro and Bates 1995)."
        )
    if not fit.converged:
        said.append("The fit did not converge: its figures are not estimates.")
    without = [s for s, f in zip(answer.sites, fit.each, strict=False) if not _is_pooled(f)]
    if without:
        said.append(f"Without a fit of their own, and so in no coefficient: {', '.join(without)}.")
    if model.robust:
        said.append(f"Standard errors are robust: {_SANDWICHES[model.robust]}.")
        if (model.robust, model.family) == ("site", "linear"):
            said[-1] = f"{said[-1][:-1]} and (n - 1) / (n - p)."
        if model.family == "cox":
            said[-1] = f"{said[-1][:-1]}, as Lin and Wei (1989) have them for Cox models."
    if model.site != "each":
        law = "Student's t" if answer.law == "t" else "the normal"
        said.append(f"Confidence intervals are Wald's, by {law} distribution.")
    if answer.missing:
        said.append(f"Not in the model: {', '.join(m.site for m in answer.missing)}.")
    said.append(f"Each site signed what it sent (job {answer.job[:12]}).")
    return " ".join(said)
