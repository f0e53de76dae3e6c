"""A random intercept has the published estimates."""

from __future__ import annotations

import numpy as np
import pytest

from contract.errors import DocumentError
from contract.statistics.least_squares import Factor
from contract.statistics.mixed import fit_random_intercept

DYESTUFF = {
    "A": [1545, 1440, 1440, 1520, 1580], "B": [1540, 1555, 1490, 1560, 1495],
    "C": [1595, 1550, 1605, 1510, 1560], "D": [1445, 1440, 1595, 1465, 1545],
    "E": [1595, 1630, 1515, 1635, 1625], "F": [1520, 1455, 1450, 1480, 1445],
}  # fmt: skip
"""Davies, Goldsmith 1972: yields of six batches, five each."""


def factors() -> list[Factor]:
    return [Factor.of(np.ones((5, 1)), np.array(y, dtype=float)) for y in DYESTUFF.values()]


def test_dyestuff_has_the_estimates_of_lme4() -> None:
    """Bates, lme4: mixed-effects modeling with R, 1.3; in closed form 1764.05 and 2451.25."""
    found = fit_random_intercept(factors())
    assert found.site_variance == pytest.approx(1764.05, rel=1e-10)
    assert found.fit.dispersion == pytest.approx(2451.25, rel=1e-10)
    assert found.fit.coefficients == pytest.approx([1527.5], rel=1e-12)
    assert found.fit.standard_errors == pytest.approx([19.3834121788], rel=1e-6)
    assert -2 * found.fit.log_likelihood == pytest.approx(319.654276842, rel=1e-10)
    assert found.effects == pytest.approx(
        [-17.606851366879, 0.391263363708, 28.562225550712, -23.084538458797, 56.733187737718,
         -44.995286826467],
        rel=1e-6,
    )  # fmt: skip
    assert found.intraclass_correlation == pytest.approx(1764.05 / (1764.05 + 2451.25), rel=1e-9)


def test_by_maximum_likelihood_the_variance_is_smaller() -> None:
    """Bates, 1.3.3: 1388.3333, 2451.25, deviance 327.3271."""
    found = fit_random_intercept(factors(), "ml")
    assert found.site_variance == pytest.approx(1388.3333333, rel=1e-9)
    assert -2 * found.fit.log_likelihood == pytest.approx(327.327059881, rel=1e-10)


def test_where_sites_do_not_differ_the_variance_is_zero() -> None:
    """Bates, 1.3.2 (Dyestuff2) has such a fit; here each batch is the same."""
    same = [Factor.of(np.ones((5, 1)), np.array(DYESTUFF["A"], dtype=float))] * 6
    found = fit_random_intercept(same)
    assert found.site_variance == 0
    assert not found.effects.any()


def test_what_can_not_be_fitted_is_said() -> None:
    with pytest.raises(DocumentError, match="3 sites"):
        fit_random_intercept(factors()[:2])
    flat = [Factor.of(np.ones((5, 1)), np.full(5, 3.0))] * 3
    with pytest.raises(DocumentError):
        fit_random_intercept(flat)
