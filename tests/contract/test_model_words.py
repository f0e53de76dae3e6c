"""Parts of a model's steps written as words add up to those of the pooled rows."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lifelines.datasets import load_rossi

from contract.errors import DocumentError
from contract.statistics import model_words, models, regression
from contract.statistics.fit import Fit
from contract.statistics.fitting import Fitting
from contract.statistics.held import Held
from contract.statistics.least_squares import Factor
from contract.statistics.regression import Sums
from researcher.formulas import parse
from tests.contract.fits import category, fit, number, split
from tests.contract.test_certified_fits import FILIP, PONTIUS_X, PONTIUS_Y
from tests.contract.world import World

DICTIONARY = (
    number("age", 0, 120),
    number("tiny", 0, 1e-6),
    number("huge", 0, 1e12),
    number("score", -1e3, 1e3),
    number("falls", 0, 1e4),
    number("cost", 1e-3, 1e6),
    category("arm", "A", "B", "C"),
    category("ill", "no", "yes"),
    number("days", 0, 4000),
)


def table(rows: int, seed: int) -> dict[str, object]:
    chance = np.random.default_rng(seed)
    age, arm = chance.uniform(18, 95, rows), chance.integers(0, 3, rows)
    eta = -2 + 0.03 * age + 0.4 * (arm == 1)
    return {
        "age": age,
        "tiny": chance.uniform(0, 1e-6, rows),
        "huge": chance.uniform(0, 1e12, rows),
        "score": 3 * eta + chance.normal(size=rows),
        "falls": chance.poisson(np.exp(eta / 2)).astype(float),
        "cost": chance.gamma(2.0, np.exp(eta) / 2) + 0.01,
        "arm": arm,
        "ill": (chance.random(rows) < 1 / (1 + np.exp(-eta))).astype(int),
        "days": np.ceil(chance.exponential(300 * np.exp(-eta / 2))).clip(1, 3000),
    }


def assert_same(one: Fit, other: Fit) -> None:
    assert one.n == other.n
    assert one.converged and other.converged
    size = other.standard_errors
    # A coefficient near zero is compared with what it is known to.
    assert one.coefficients / size == pytest.approx(other.coefficients / size, rel=1e-9, abs=1e-9)
    assert one.standard_errors == pytest.approx(size, rel=1e-9)
    assert one.deviance == pytest.approx(other.deviance, rel=1e-9)
    assert one.log_likelihood == pytest.approx(other.log_likelihood, rel=1e-9)
    assert one.proportionality == pytest.approx(other.proportionality, rel=1e-7, nan_ok=True)
    assert one.pairs == pytest.approx(other.pairs, rel=1e-12)


FORMULAS = (
    ("score ~ age + arm + tiny + huge", "linear"),
    ("ill ~ age + arm + huge", "logistic"),
    ("falls ~ age * arm", "poisson"),
    ("cost ~ age + arm", "gamma"),
    ("Surv(days, ill) ~ age + arm", "cox"),
)


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32), st.integers(1, 7))
@pytest.mark.parametrize(("formula", "family"), FORMULAS)
def test_a_fit_of_summed_words_is_that_of_parts_in_clear(
    formula: str, family: str, seed: int, sites: int
) -> None:
    data = table(300, seed)
    parts = split(300, sites, seed)
    assert_same(
        fit(formula, family, DICTIONARY, data, parts, secure=True)[1],
        fit(formula, family, DICTIONARY, data, parts)[1],
    )


def test_a_logistic_fit_of_words_is_that_of_the_pooled_rows() -> None:
    data = sm.datasets.spector.load_pandas().data
    names = ["GPA", "TUCE", "PSI"]
    dictionary = [number("GPA", 0, 5), number("TUCE", 0, 30), number("PSI", 0, 1)]
    columns = {name: data[name].to_numpy() for name in names}
    columns["grade"] = data["GRADE"].to_numpy().astype(int)
    dictionary.append(category("grade", "no", "yes"))
    formula = "grade ~ GPA + TUCE + PSI"
    _, found = fit(formula, "logistic", dictionary, columns, split(len(data), 3), secure=True)
    x = sm.add_constant(data[names].to_numpy())
    expected = sm.GLM(data["GRADE"].to_numpy(), x, family=sm.families.Binomial()).fit(tol=1e-14)
    assert found.coefficients == pytest.approx(expected.params, rel=1e-9)
    assert found.standard_errors == pytest.approx(expected.bse, rel=1e-8)


def test_a_cox_fit_of_words_is_that_of_statsmodels() -> None:
    data = load_rossi()
    names = ["fin", "age", "prio"]
    dictionary = [number("week", 0, 52), category("arrest", "no", "yes")]
    dictionary += [number(name, 0, 100) for name in names]
    columns = {name: data[name].to_numpy() for name in ["week", "arrest", *names]}
    parts = split(len(data), 4)
    formula = "Surv(week, arrest) ~ fin + age + prio"
    _, found = fit(formula, "cox", dictionary, columns, parts, secure=True)
    site = np.zeros(len(data))
    for number_, rows in enumerate(parts):
        site[rows] = number_
    expected = sm.PHReg(
        data["week"], data[names], status=data["arrest"], strata=site, ties="efron"
    ).fit(method="newton", tol=1e-14)
    assert found.coefficients == pytest.approx(np.asarray(expected.params), rel=1e-7)


@pytest.mark.parametrize("sites", [1, 3])
def test_a_linear_fit_of_words_has_nists_certified_digits(sites: int) -> None:
    data = {"y": PONTIUS_Y, "x": PONTIUS_X}
    dictionary = [number("y"), number("x", 0, 4e6)]
    found = fit("y ~ x + I(x^2)", "linear", dictionary, data, split(40, sites), secure=True)[1]
    assert found.coefficients == pytest.approx(
        [0.673565789473684e-3, 0.732059160401003e-6, -0.316081871345029e-14], rel=1e-9
    )
    data = {"y": FILIP[:, 0], "x": FILIP[:, 1]}
    dictionary = [number("y"), number("x", -9, -3)]
    formula = "y ~ poly(x, 10, raw = TRUE)"
    found = fit(formula, "linear", dictionary, data, split(len(FILIP), sites), secure=True)[1]
    assert found.coefficients[:3] == pytest.approx(
        [-1467.48961422980, -2772.17959193342, -2316.37108160893], rel=1e-7
    )


def test_a_column_that_follows_from_others_is_said() -> None:
    data = table(200, 1) | {"twice": 2 * np.asarray(table(200, 1)["age"])}
    dictionary = (*DICTIONARY, number("twice", 0, 240))
    with pytest.raises(DocumentError, match="singular"):
        fit("score ~ age + twice", "linear", dictionary, data, split(200, 3), secure=True)
    with pytest.raises(DocumentError, match="singular"):
        fit("ill ~ age + twice", "logistic", dictionary, data, split(200, 3), secure=True)


def test_a_step_that_one_site_must_turn_back_from_is_one_for_all() -> None:
    width = 2
    good = Sums(9, np.eye(width), np.ones(width), 1.0, 1.0)
    model = parse("ill ~ age", "logistic")
    for bad in (regression.impossible(7, width), Sums(7, np.eye(width) * 1e99, *good_rest())):
        total = model_words.encode(good, (0, 7)) + model_words.encode(bad, (0, 7))
        found = model_words.decode(total, model, width, (0, 7))
        assert isinstance(found, Sums)
        assert (found.n, found.deviance) == (16, regression.IMPOSSIBLE)


def good_rest() -> tuple[np.ndarray, float, float]:
    return np.ones(2), 1.0, 1.0


def test_words_are_as_many_as_are_said_and_rounded_by_less_than_a_double_holds() -> None:
    project = World().project(variables=DICTIONARY)
    data = table(50, 3)
    for formula, family in FORMULAS:
        model = parse(formula, family)
        columns = models.columns_of(model, project)
        powers = model_words.exponents(model, columns, project)
        held = Held.of({n: np.asarray(data[n]) for n in model.variables}, project)
        part = models.part_of(model, columns, held, Fitting(model, len(columns)).beta)
        words = model_words.encode(part, powers)
        assert len(words) == model_words.length(model, len(columns))
        back = model_words.decode(words, model, len(columns), powers)
        if isinstance(part, Factor):
            assert isinstance(back, Factor)
            assert back.r == pytest.approx(part.r, rel=1e-13, abs=1e-300)
        else:
            assert isinstance(back, Sums)
            assert (np.triu(back.information) == np.triu(part.information)).all()
            assert (back.score == part.score).all()
