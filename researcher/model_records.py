"""A fitted model as records: how it fits, its tests, its sites, with the names of R's broom."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from contract.errors import DocumentError
from contract.statistics.meta import Method

if TYPE_CHECKING:
    from researcher.models import ChiSquared, ModelAnswer

Record = dict[str, str | float]
_POOLED: tuple[tuple[Method, bool], ...] = (
    *(("reml", True), ("reml", False), ("ml", False)),
    *(("dl", False), ("pm", False), ("fixed", False)),
)
"""By which methods sites' own fits are pooled, and whether intervals are Hartung and Knapp's."""


def glance(answer: ModelAnswer) -> Record:
    """Return one record of how the model fits. What isn't of its family is left out."""
    fit, model = answer.fit, answer.model
    found: Record = {
        "nobs": fit.n,
        "missing": answer.left_out,
        "logLik": fit.log_likelihood,
        "AIC": fit.aic,
        "BIC": fit.bic,
        "deviance": fit.deviance,
        "null.deviance": fit.null_deviance,
        "df.residual": fit.residual_degrees,
    }
    if model.family == "cox":
        return found | {"nevent": fit.events, "concordance": fit.concordance}
    if fit.each:
        return found
    if answer.is_mixed:
        sigma = {"sigma": math.sqrt(fit.dispersion)} if model.family == "linear" else {}
        return found | sigma | {"site.variance": fit.site_variance}
    found["df.null"] = fit.n - int(model.intercept)
    if model.family == "gamma":
        found["dispersion"] = fit.dispersion
    if model.family == "linear":
        found |= _of_a_linear_model(answer)
    return found


def _of_a_linear_model(answer: ModelAnswer) -> Record:
    from scipy.stats import f as f_law

    fit, degrees = answer.fit, answer.fit.residual_degrees
    found: Record = {"sigma": math.sqrt(fit.dispersion)}
    explained = len(fit.coefficients) + fit.effects_fitted - int(answer.model.intercept)
    if explained and fit.null_deviance > 0:
        r2 = 1 - fit.deviance / fit.null_deviance
        null_degrees = fit.n - int(answer.model.intercept)
        found |= {"r.squared": r2, "adj.r.squared": 1 - (1 - r2) * null_degrees / degrees}
        if fit.dispersion > 0 and answer.model.robust is None:
            f = (fit.null_deviance - fit.deviance) / explained / fit.dispersion
            p = float(f_law(explained, degrees).sf(f))
            found |= {"statistic": f, "df": explained, "p.value": p}
    return found


def records(answer: ModelAnswer, confidence: float) -> Iterator[Record]:
    """Yield all that is known: the coefficients, then records that have a ``figure``.

    Those are of the fit, each test, sites' effects, sites' own fits and how they were pooled.
    """
    for one, row in zip(answer.tidy(confidence), answer.rows(confidence), strict=True):
        if answer.ratio:
            one |= {"ratio": row.ratio, "ratio.low": row.ratio_low, "ratio.high": row.ratio_high}
        yield one
    yield {"figure": "fit", **glance(answer)}
    yield from (_tested(test, f"{test.name} test") for test in answer.tests())
    if not answer.fit.each:
        yield from (_tested(test, "Wald test", test.name) for test in answer.wald())
    for test in answer.proportionality():
        yield _tested(test, "proportional hazards", test.name)
    for site, effect in answer.site_effects().items():
        yield {"figure": "site effect", "site": site, "estimate": effect}
    if answer.fit.each:
        yield from _of_sites(answer, confidence)


def _tested(test: ChiSquared, figure: str, of: str = "") -> Record:
    named: Record = {"figure": figure, **({"of": of} if of else {})}
    return named | {"statistic": test.statistic, "df": test.degrees, "p.value": test.p}


def _of_sites(answer: ModelAnswer, confidence: float) -> Iterator[Record]:
    """Yield each site's own coefficients, and how each coefficient was pooled."""
    for site in answer.sites:
        try:
            own = answer.own(site, confidence)
        except DocumentError:
            continue
        for row in own:
            yield {
                "figure": "site's own fit",
                "site": site,
                "term": row.name,
                "estimate": row.estimate,
                "std.error": row.naive_error,
                **({"robust.se": row.standard_error} if answer.model.robust else {}),
                "statistic": row.statistic,
                "p.value": row.p,
                "conf.low": row.low,
                "conf.high": row.high,
            }
    for column in answer.columns:
        for method, hartung_knapp in _POOLED:
            yield _pooled(answer, column, method, hartung_knapp, confidence)


def _pooled(
    answer: ModelAnswer, column: str, method: Method, hartung_knapp: bool, confidence: float
) -> Record:
    pooled = answer.meta(column, method, hartung_knapp=hartung_knapp, confidence=confidence)
    return {
        "figure": "pooled over sites",
        "of": column,
        "method": pooled.method + (", Hartung and Knapp" if hartung_knapp else ""),
        "sites": pooled.sites,
        "estimate": pooled.estimate,
        "std.error": pooled.standard_error,
        "p.value": pooled.p,
        "conf.low": pooled.interval[0],
        "conf.high": pooled.interval[1],
        "tau2": pooled.tau2,
        "tau2.low": pooled.tau2_interval[0],
        "tau2.high": pooled.tau2_interval[1],
        "I2": pooled.i2,
        "H2": pooled.h2,
        "Q": pooled.q,
        "Q.p.value": pooled.q_p,
        "prediction.low": pooled.prediction[0],
        "prediction.high": pooled.prediction[1],
    }
