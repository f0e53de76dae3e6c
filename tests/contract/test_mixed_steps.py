"""Logistic and Poisson models with a random intercept by site are those of R's lme4."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lifelines.datasets import load_rossi

from contract.errors import DocumentError, UsageError
from contract.statistics import mixed_steps
from researcher.formulas import parse
from tests.contract.fits import category, fit, number

# Lesnoff et al. 2004, as lme4's cbpp has them: herd, period, cattle that fell ill, and all.
HERDS = np.array([
    (1, 1, 2, 14), (1, 2, 3, 12), (1, 3, 4, 9), (1, 4, 0, 5), (2, 1, 3, 22), (2, 2, 1, 18),
    (2, 3, 1, 21), (3, 1, 8, 22), (3, 2, 2, 16), (3, 3, 0, 16), (3, 4, 2, 20), (4, 1, 2, 10),
    (4, 2, 0, 10), (4, 3, 2, 9), (4, 4, 0, 6), (5, 1, 5, 18), (5, 2, 0, 25), (5, 3, 0, 24),
    (5, 4, 1, 4), (6, 1, 3, 17), (6, 2, 0, 17), (6, 3, 0, 18), (6, 4, 1, 20), (7, 1, 8, 16),
    (7, 2, 1, 10), (7, 3, 3, 9), (7, 4, 0, 5), (8, 1, 12, 34), (9, 1, 2, 9), (9, 2, 0, 6),
    (9, 3, 0, 8), (9, 4, 0, 6), (10, 1, 1, 22), (10, 2, 1, 22), (10, 3, 0, 18), (10, 4, 2, 22),
    (11, 1, 0, 25), (11, 2, 5, 27), (11, 3, 3, 22), (11, 4, 1, 22), (12, 1, 2, 10), (12, 2, 1, 8),
    (12, 3, 0, 6), (12, 4, 0, 5), (13, 1, 1, 21), (13, 2, 2, 24), (13, 3, 0, 19), (13, 4, 0, 23),
    (14, 1, 11, 19), (14, 2, 0, 2), (14, 3, 0, 3), (14, 4, 0, 2), (15, 1, 1, 19), (15, 2, 1, 15),
    (15, 3, 1, 15), (15, 4, 0, 15),
])  # fmt: skip
NEAR = {"rel": 1e-5, "abs": 1e-7}
"""As near as R's own optimizer comes to the maximum."""


def test_a_logistic_random_intercept_is_that_of_rs_glmer() -> None:
    """lme4 1.1: ``glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), nAGQ = 25)``."""
    ill, size = HERDS[:, 2], HERDS[:, 3]
    herd, period = (np.repeat(HERDS[:, place], size) for place in (0, 1))
    fell = [np.arange(all_of) < few for few, all_of in zip(ill, size, strict=True)]
    data = {"period": period - 1, "ill": np.concatenate(fell).astype(int)}
    dictionary = [category("period", "1", "2", "3", "4"), category("ill", "no", "yes")]
    rows = [np.flatnonzero(herd == one) for one in range(1, 16)]
    _, found = fit("ill ~ period + (1 | site)", "logistic", dictionary, data, rows)
    assert found.converged
    assert found.coefficients == pytest.approx(
        [-1.3992304606, -0.9914036701, -1.1278194594, -1.5794707969], **NEAR
    )
    assert found.standard_errors == pytest.approx(
        [0.2335113638, 0.3067675444, 0.3267679239, 0.4275941437], **NEAR
    )
    assert found.site_variance == pytest.approx(0.4192801731, **NEAR)
    assert found.parameters == 5
    # R tells the likeliest effects of sites, here they are the means given the outcomes.
    modes = [0.5930, -0.3003, 0.4079, 0.0397, -0.1908, -0.4024, 0.8933, 0.6023, -0.2395, -0.5437,
             -0.0848, -0.0652, -0.6938, 0.9759, -0.5336]  # fmt: skip
    assert found.site_effects == pytest.approx(modes, abs=0.06)


@pytest.mark.parametrize(
    ("offset", "expected", "errors", "variance"),
    [
        ("", [1.248222593040, -0.005536914646, 0.001752936486],
         [0.16874913297, 0.00524239133, 0.05595578120], 0.0688558643),
        ("offset(log(age)) + ", [-1.037068511488, -0.041878331158, 0.001272826397],
         [0.170974508822, 0.005323647589, 0.055955312047], 0.0706600939),
    ],
)  # fmt: skip
def test_a_poisson_random_intercept_is_that_of_rs_glmer(
    offset: str, expected: list[float], errors: list[float], variance: float
) -> None:
    """Rossi's arrests; ``glmer(prio ~ age + fin + (1 | g), poisson, nAGQ = 25)``."""
    rossi = load_rossi()
    group = rossi["wexp"] * 4 + rossi["mar"] * 2 + rossi["paro"]
    data: dict[str, Any] = {name: rossi[name].to_numpy() for name in ("prio", "age", "fin")}
    dictionary = [number("prio", 0, 20), number("age", 10, 60), category("fin", "0", "1")]
    rows = [np.flatnonzero(group == one) for one in range(8)]
    formula = f"prio ~ age + fin + {offset}(1 | site)"
    _, found = fit(formula, "poisson", dictionary, data, rows)
    assert found.converged
    assert found.coefficients == pytest.approx(expected, rel=2e-5, abs=1e-7)
    assert found.standard_errors == pytest.approx(errors, **NEAR)
    assert found.site_variance == pytest.approx(variance, **NEAR)


def test_the_score_and_information_are_the_likelihoods_derivatives() -> None:
    chance = np.random.default_rng(0)
    x = np.column_stack([np.ones(60), chance.normal(size=60)])
    for family, y in (
        ("logistic", chance.integers(0, 2, 60).astype(float)),
        ("poisson", chance.poisson(2.0, 60).astype(float)),
    ):

        def log(beta: Any, family: Any = family, y: Any = y) -> float:
            return -mixed_steps.sums(family, lambda: [(x, y, None)], 2, beta).deviance / 2

        at = np.array([0.3, -0.2, 0.7])
        told = mixed_steps.sums(family, lambda y=y: [(x, y, None)], 2, at)  # type: ignore[misc,arg-type]
        step = 1e-4 * np.eye(3)
        score = [(log(at + d) - log(at - d)) / 2e-4 for d in step]
        assert told.score == pytest.approx(score, rel=1e-5, abs=1e-5)
        second = [
            [(log(at + a + b) - log(at + a - b) - log(at - a + b) + log(at - a - b)) / 4e-8
             for a in step] for b in step
        ]  # fmt: skip
        assert told.information == pytest.approx(-np.array(second), rel=1e-4, abs=1e-4)


def alike(sites: int) -> tuple[dict[str, Any], list[Any]]:
    """Sites of a hundred, half of each ill."""
    rows = 100 * sites
    data = {"x": np.random.default_rng(5).normal(size=rows), "ill": np.arange(rows) % 2}
    return data, [np.arange(100 * place, 100 * (place + 1)) for place in range(sites)]


DICTIONARY = [number("x", -9, 9), category("ill", "no", "yes")]


def test_sites_that_do_not_differ_have_no_variance_and_the_pooled_fit() -> None:
    data, rows = alike(6)
    _, found = fit("ill ~ x + (1 | site)", "logistic", DICTIONARY, data, rows)
    _, pooled = fit("ill ~ x", "logistic", DICTIONARY, data, rows)
    assert found.converged
    assert found.site_variance == 0
    assert found.coefficients == pytest.approx(pooled.coefficients, rel=1e-7, abs=1e-9)
    assert found.standard_errors == pytest.approx(pooled.standard_errors, rel=1e-7)
    assert found.log_likelihood == pytest.approx(pooled.log_likelihood, rel=1e-9)


def test_outcomes_that_sites_tell_apart_end_the_fit_with_a_sentence() -> None:
    data, rows = alike(6)
    data["ill"] = np.repeat([0, 1], 300)
    with pytest.raises(DocumentError, match="the same for all"):
        fit("ill ~ x + (1 | site)", "logistic", DICTIONARY, data, rows)


def test_a_random_intercept_needs_three_sites_and_a_family_that_has_one() -> None:
    data, rows = alike(2)
    with pytest.raises(DocumentError, match="3 sites"):
        fit("ill ~ x + (1 | site)", "logistic", DICTIONARY, data, [*rows, rows[0][:0]])
    with pytest.raises(UsageError, match="linear, logistic or Poisson"):
        parse("ill ~ x + (1 | site)", "gamma")


def test_sites_a_thousandfold_apart_keep_the_digits_that_end_the_steps() -> None:
    chance = np.random.default_rng(9)
    place = np.arange(600) % 8
    means = np.exp(np.linspace(0, 8.5, 8))
    data = {"x": chance.normal(size=600), "y": chance.poisson(means[place]).astype(float)}
    dictionary = [number("x", -9, 9), number("y", 0, 99999)]
    rows = [np.flatnonzero(place == one) for one in range(8)]
    _, found = fit("y ~ x + (1 | site)", "poisson", dictionary, data, rows)
    assert found.converged
    effects = found.coefficients[0] + np.array(found.site_effects)
    assert np.exp(effects[1:]) == pytest.approx(means[1:], rel=0.1)


@pytest.mark.parametrize("site", ["", " + (1 | site)"])
def test_steps_among_large_counts_end_where_only_rounding_is_left(site: str) -> None:
    """A number far from zero, and counts of which sums have few digits: no step is the last."""
    chance = np.random.default_rng(3)
    place, x = np.arange(600) % 8, chance.normal(size=600) * 1e3
    eta = 9 + x * 3e-4 + (chance.normal(size=8) * 0.3)[place]
    y = chance.poisson(np.exp(eta)).astype(float)
    dictionary = [number("x", -1e5, 2e5), number("y", 0, 1e6)]
    rows = [np.flatnonzero(place == one) for one in range(8)]
    _, near = fit(f"y ~ x{site}", "poisson", dictionary, {"x": x, "y": y}, rows)
    _, far = fit(f"y ~ x{site}", "poisson", dictionary, {"x": x + 1e5, "y": y}, rows)
    assert far.converged
    assert far.steps < 13
    assert far.coefficients[1] == pytest.approx(near.coefficients[1], rel=1e-10)
    assert far.standard_errors[1] == pytest.approx(near.standard_errors[1], rel=1e-9)
