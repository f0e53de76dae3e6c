"""Meta-analysis of sites' own estimates: fixed and random effects, heterogeneity, prediction.

Sources: DerSimonian, Laird 1986; Paule, Mandel 1982; Viechtbauer 2005 (REML, ML); Hartung, Knapp
2001; Sidik, Jonkman 2002; Higgins, Thompson 2002 (I-squared); Higgins, Thompson, Spiegelhalter 2009
(prediction interval); Viechtbauer 2007 (interval of tau-squared by Q's profile).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from contract.errors import DocumentError

Vector = NDArray[np.float64]
Method = Literal["fixed", "dl", "pm", "ml", "reml"]
"""How the variance between sites is estimated: not at all, by DerSimonian and Laird, by Paule and
Mandel, by (restricted) maximum likelihood."""
_MOST_STEPS = 1000


@dataclass(frozen=True)
class Pooled:
    """A pooled estimate with its interval.

    ``prediction`` is where the effect of another site would lie; NaN of a fixed effect, and below
    three sites. ``tau2`` is the variance of the effects between sites.
    """

    method: Method
    hartung_knapp: bool
    sites: int
    estimate: float
    standard_error: float
    interval: tuple[float, float]
    p: float
    q: float
    q_p: float
    tau2: float
    tau2_interval: tuple[float, float]
    i2: float
    """The share of the variability that is between sites, from 0 to 1."""
    h2: float
    prediction: tuple[float, float]
    weights: Vector
    """The sites' shares in the estimate."""


def pool(
    estimates: Sequence[float],
    standard_errors: Sequence[float],
    method: Method = "reml",
    *,
    hartung_knapp: bool = True,
    confidence: float = 0.95,
) -> Pooled:
    """Pool sites' estimates.

    ``DocumentError`` for another method, when there is no estimate, or an error isn't above zero.

    ``hartung_knapp`` is of random effects: the interval is then Student's, with a standard error
    from the estimates' own spread. The prediction interval has k - 2 degrees of freedom, as Higgins
    et al. have it.
    """
    from scipy.stats import chi2, norm, t

    if method not in get_args(Method):
        raise DocumentError(f"Estimates are pooled by {', '.join(get_args(Method))}, not {method}.")
    y, v = np.array(estimates, dtype=np.float64), np.array(standard_errors, dtype=np.float64) ** 2
    k = len(y)
    if not k or y.shape != v.shape:
        raise DocumentError("There is no site's estimate to pool.")
    if not (np.isfinite(y).all() and np.isfinite(v).all() and (v > 0).all()):
        raise DocumentError("A site's estimate has no standard error.")
    q = _q(y, v, 0.0)
    tau2 = 0.0
    if k > 1 and method != "fixed":
        match method:
            case "dl":
                tau2 = _dersimonian_laird(y, v, q)
            case "pm":
                tau2 = _of_q(y, v, float(k - 1))
            case _:
                tau2 = _likeliest(y, v, restricted=method == "reml")
    w = 1 / (v + tau2)
    estimate = float(w @ y / w.sum())
    error = math.sqrt(1 / w.sum())
    knapp = hartung_knapp and method != "fixed" and k > 1
    if knapp:
        error *= math.sqrt(float(w @ (y - estimate) ** 2) / (k - 1))
    law = t(k - 1) if knapp else norm()
    reach = float(law.ppf(0.5 + confidence / 2)) * error
    prediction = (math.nan, math.nan)
    if method != "fixed" and k > 2:
        spread = float(t(k - 2).ppf(0.5 + confidence / 2)) * math.sqrt(tau2 + error**2)
        prediction = (estimate - spread, estimate + spread)
    fixed = 1 / v
    typical = (k - 1) * fixed.sum() / (fixed.sum() ** 2 - (fixed**2).sum()) if k > 1 else math.nan
    if method == "fixed":
        i2 = max(0.0, (q - (k - 1)) / q) if q > 0 else 0.0
        h2 = q / (k - 1) if k > 1 else math.nan
    else:
        i2 = float(tau2 / (tau2 + typical)) if k > 1 else 0.0
        h2 = float(tau2 / typical + 1) if k > 1 else math.nan
    return Pooled(
        method,
        knapp,
        k,
        estimate,
        error,
        (estimate - reach, estimate + reach),
        2 * float(law.sf(abs(estimate) / error)) if error > 0 else math.nan,
        q,
        float(chi2(k - 1).sf(q)) if k > 1 else math.nan,
        tau2,
        _tau2_interval(y, v, confidence) if k > 1 else (math.nan, math.nan),
        i2,
        h2,
        prediction,
        np.asarray(w / w.sum()),
    )


def _q(y: Vector, v: Vector, tau2: float) -> float:
    """Return Cochran's Q at a variance between sites."""
    w = 1 / (v + tau2)
    return float(w @ (y - w @ y / w.sum()) ** 2)


def _dersimonian_laird(y: Vector, v: Vector, q: float) -> float:
    w = 1 / v
    return max(0.0, (q - (len(y) - 1)) / float(w.sum() - (w**2).sum() / w.sum()))


def _likeliest(y: Vector, v: Vector, *, restricted: bool) -> float:
    """Return the (restricted) maximum-likelihood estimate, by Fisher's scoring."""

    def slope(tau2: float) -> tuple[float, float]:
        w = 1 / (v + tau2)
        mean = w @ y / w.sum()
        s1, s2, s3 = w.sum(), (w**2).sum(), (w**3).sum()
        first = -s1 + float((w**2) @ (y - mean) ** 2)
        second = s2
        if restricted:
            first += s2 / s1
            second += -2 * s3 / s1 + (s2 / s1) ** 2
        return float(first), float(second)

    tau2 = _dersimonian_laird(y, v, _q(y, v, 0.0))
    for _ in range(_MOST_STEPS):
        first, second = slope(tau2)
        after = max(0.0, tau2 + first / second)
        if abs(after - tau2) <= 1e-14 * (1 + tau2):
            return after
        tau2 = after
    raise DocumentError("The variance between sites can't be estimated: its steps don't end.")


def _tau2_interval(y: Vector, v: Vector, confidence: float) -> tuple[float, float]:
    """Return the interval by Q's profile."""
    from scipy.stats import chi2

    degrees = len(y) - 1
    low, high = (
        _of_q(y, v, float(chi2(degrees).ppf(share)))
        for share in (0.5 + confidence / 2, 0.5 - confidence / 2)
    )
    return low, high


def _of_q(y: Vector, v: Vector, wanted: float) -> float:
    """Return the variance between sites at which Q is this large; 0 where it is never."""
    from scipy.optimize import brentq

    if _q(y, v, 0.0) <= wanted:
        return 0.0
    high = 1.0 + float(v.max())
    while _q(y, v, high) > wanted:
        high *= 10
    return float(brentq(lambda tau2: _q(y, v, tau2) - wanted, 0.0, high, xtol=1e-14))
