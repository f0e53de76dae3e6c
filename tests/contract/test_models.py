"""Models over sites are the pooled ones: of published data, by other implementations."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lifelines.datasets import load_larynx, load_rossi
from numpy.typing import NDArray

from contract.dictionary import Variable
from contract.errors import DocumentError
from contract.statistics import cox as cox_models
from contract.statistics import design, least_squares, regression
from contract.statistics.cox import Rows as CoxRows
from contract.statistics.cox import Ties
from contract.statistics.fit import Fit
from contract.statistics.least_squares import Factor
from contract.statistics.regression import Family, Sums
from contract.terms import Term
from tests.contract.world import World

Rows = NDArray[np.intp]
TIGHT = {"rel": 1e-9, "abs": 1e-11}


def split(rows: int, sites: int, seed: int = 0) -> list[Rows]:
    """Deal rows out to sites, unevenly."""
    owner = np.random.default_rng(seed).integers(0, sites, rows) ** 2 // max(1, sites - 1)
    return [np.flatnonzero(owner == site) for site in range(sites)]


def fitted(family: Family, x: Any, y: Any, sites: Sequence[Rows]) -> Fit:
    """Fit over sites as the coordinator does."""
    if family == "linear":
        parts = [Factor.of(x[rows], y[rows]) for rows in sites]
        return least_squares.finish_linear(reduce(Factor.merge, parts))
    state: regression.State | Fit = regression.start(x.shape[1])
    while not isinstance(state, Fit):
        beta = state.beta
        merged = reduce(
            Sums.merge,
            [regression.sums(family, x[r], y[r], beta) for r in sites],
        )
        state = regression.advance(family, state, merged)
    return state


# ---- published and certified values --------------------------------------------------------------


def test_spector_and_mazzeos_logistic_model_has_its_published_coefficients() -> None:
    """Greene, Econometric analysis, 5th edition, table 21.1 (logit)."""
    data = sm.datasets.spector.load_pandas().data
    x = sm.add_constant(data[["GPA", "TUCE", "PSI"]].to_numpy())
    fit = fitted("logistic", x, data["GRADE"].to_numpy(), split(len(x), 3))
    assert fit.coefficients == pytest.approx([-13.021, 2.826, 0.095, 2.379], abs=6e-4)
    assert fit.standard_errors == pytest.approx([4.931, 1.263, 0.142, 1.065], abs=6e-4)
    assert -fit.deviance / 2 == pytest.approx(-12.8896, abs=5e-5)


NORRIS = np.array([
    [0.1, 0.2], [338.8, 337.4], [118.1, 118.2], [888.0, 884.6], [9.2, 10.1], [228.1, 226.5],
    [668.5, 666.3], [998.5, 996.3], [449.1, 448.6], [778.9, 777.0], [559.2, 558.2], [0.3, 0.4],
    [0.1, 0.6], [778.1, 775.5], [668.8, 666.9], [339.3, 338.0], [448.9, 447.5], [10.8, 11.6],
    [557.7, 556.0], [228.3, 228.1], [998.0, 995.8], [888.8, 887.6], [119.6, 120.2], [0.3, 0.3],
    [0.6, 0.3], [557.6, 556.8], [339.3, 339.1], [888.0, 887.2], [998.5, 999.0], [778.9, 779.0],
    [10.2, 11.1], [117.6, 118.3], [228.9, 229.2], [668.4, 669.1], [449.2, 448.9], [0.2, 0.5],
])  # fmt: skip
"""NIST StRD, Norris: y, x."""


def test_norris_has_its_certified_values() -> None:
    """NIST Statistical Reference Datasets, linear regression, lower level of difficulty."""
    y, x = NORRIS[:, 0], np.column_stack([np.ones(36), NORRIS[:, 1]])
    fit = fitted("linear", x, y, split(36, 3))
    assert fit.coefficients == pytest.approx([-0.262323073774029, 1.00211681802045], rel=1e-9)
    assert fit.standard_errors == pytest.approx([0.232818234301152, 0.429796848199937e-3], rel=1e-9)
    assert np.sqrt(fit.dispersion) == pytest.approx(0.884796396144373, rel=1e-9)


WAMPLER = {
    "Wampler1": (1, 1, 1, 1, 1, 1),
    "Wampler2": (1, 0.1, 0.01, 0.001, 1e-4, 1e-5),
}


@pytest.mark.parametrize("name", WAMPLER)
def test_wamplers_polynomials_have_their_certified_coefficients(name: str) -> None:
    """NIST StRD, Wampler 1 and 2: exact polynomials of degree 5, higher level of difficulty."""
    t = np.arange(21.0)
    x = np.column_stack([t**power for power in range(6)])
    y = x @ np.array(WAMPLER[name])
    fit = fitted("linear", x, y, split(21, 3))
    assert fit.coefficients == pytest.approx(WAMPLER[name], rel=1e-9)


# ---- other implementations -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "other"),
    [
        ("logistic", sm.families.Binomial()),
        ("poisson", sm.families.Poisson()),
        ("gamma", sm.families.Gamma(sm.families.links.Log())),
        ("linear", sm.families.Gaussian()),
    ],
)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**6), sites=st.integers(1, 6))
def test_a_model_over_sites_is_the_pooled_one(
    family: Family, other: Any, seed: int, sites: int
) -> None:
    chance = np.random.default_rng(seed)
    x = np.column_stack([np.ones(200), chance.normal(size=(200, 3)), chance.integers(0, 2, 200)])
    eta = x @ np.array([0.3, 0.5, -0.4, 0.2, 0.6])
    y = {
        "logistic": lambda: (chance.random(200) < 1 / (1 + np.exp(-eta))).astype(float),
        "poisson": lambda: chance.poisson(np.exp(eta)).astype(float),
        "gamma": lambda: chance.gamma(2.0, np.exp(eta) / 2),
        "linear": lambda: eta + chance.normal(size=200),
    }[family]()
    fit = fitted(family, x, y, split(200, sites, seed))
    expected = sm.GLM(y, x, family=other).fit(tol=1e-14, maxiter=100)
    assert fit.converged
    assert fit.n == 200
    assert fit.coefficients == pytest.approx(expected.params, **TIGHT)
    assert fit.standard_errors == pytest.approx(expected.bse, rel=1e-7)
    assert fit.deviance == pytest.approx(expected.deviance, rel=1e-9)


def test_perfect_separation_is_said() -> None:
    x = np.column_stack([np.ones(40), np.arange(40.0)])
    y = (np.arange(40) >= 20).astype(float)
    try:
        fit = fitted("logistic", x, y, split(40, 2))
    except DocumentError as error:
        assert "singular" in str(error)
    else:
        assert not fit.converged


@pytest.mark.parametrize("family", ["linear", "logistic"])
def test_a_constant_column_is_said(family: Family) -> None:
    chance = np.random.default_rng(1)
    x = np.column_stack([np.ones(50), chance.normal(size=50), np.full(50, 3.0)])
    with pytest.raises(DocumentError, match="singular"):
        fitted(family, x, chance.integers(0, 2, 50).astype(float), split(50, 3))


def test_a_site_without_rows_changes_nothing() -> None:
    data = sm.datasets.spector.load_pandas().data
    x = sm.add_constant(data[["GPA", "TUCE", "PSI"]].to_numpy())
    y = data["GRADE"].to_numpy()
    rows = split(len(x), 2)
    for family in ("logistic", "linear"):
        alone = fitted(family, x, y, rows)  # type: ignore[arg-type]
        beside = fitted(family, x, y, [*rows, np.array([], dtype=np.intp)])  # type: ignore[arg-type]
        assert beside.coefficients == pytest.approx(alone.coefficients, **TIGHT)


def test_an_outcome_that_can_not_be_is_refused() -> None:
    x = np.ones((3, 1))
    for family, y in (("logistic", [0, 1, 2]), ("poisson", [1, -1, 0]), ("gamma", [1, 0, 2])):
        with pytest.raises(DocumentError, match=family):
            regression.sums(family, x, np.array(y, float), np.zeros(1))  # type: ignore[arg-type]


# ---- the matrix ----------------------------------------------------------------------------------


def test_columns_are_treatment_coded_as_r_has_them() -> None:
    project = World().project(
        variables=(
            Variable(name="age", kind="number"),
            Variable(name="arm", kind="category", levels=("A", "B", "C")),
            Variable(name="sex", kind="category", levels=("F", "M")),
        )
    )
    terms = [Term.of("age"), Term.of("arm"), Term.of("arm", "sex"), Term.of("age", "sex")]
    made = design.columns(terms, project)
    assert [c.name for c in made] == [
        "(Intercept)", "age", "arm[B]", "arm[C]",
        "arm[A]:sex[M]", "arm[B]:sex[M]", "arm[C]:sex[M]", "age:sex[M]",
    ]  # fmt: skip
    values: dict[str, Any] = {
        "age": np.array([30.0, 40.0]),
        "arm": np.array([1, 2]),
        "sex": np.array([0, 1]),
    }
    assert design.matrix(made, values, 2).tolist() == [
        [1, 30, 1, 0, 0, 0, 0, 0],
        [1, 40, 0, 1, 0, 0, 1, 40],
    ]
    for wrong in ([Term.of("height")], [Term.of("age"), Term.of("age")]):
        with pytest.raises(DocumentError):
            design.columns(wrong, project)


# ---- survival ------------------------------------------------------------------------------------


def cox(
    x: Any, time: Any, event: Any, strata: Sequence[Rows], ties: Ties, entry: Any = None
) -> Fit:
    state: regression.State | Fit = regression.start(x.shape[1])
    while not isinstance(state, Fit):
        beta = state.beta
        parts = [
            cox_models.cox_sums(
                CoxRows(x[r], time[r], event[r], None if entry is None else entry[r]), beta, ties
            )
            for r in strata
        ]
        state = regression.advance("cox", state, reduce(Sums.merge, parts))
    return state


def test_rossis_cox_model_has_its_published_coefficients() -> None:
    """Fox, Weisberg: An R companion, appendix on Cox regression (Efron ties)."""
    data = load_rossi()
    names = ["fin", "age", "race", "wexp", "mar", "paro", "prio"]
    fit = cox(
        data[names].to_numpy(float), data["week"].to_numpy(float),
        data["arrest"].to_numpy(bool), [np.arange(len(data))], "efron",
    )  # fmt: skip
    assert fit.coefficients == pytest.approx(
        [-0.37942, -0.05744, 0.31390, -0.14980, -0.43370, -0.08487, 0.09150], abs=6e-6
    )
    assert fit.standard_errors == pytest.approx(
        [0.19138, 0.02200, 0.30799, 0.21222, 0.38187, 0.19576, 0.02865], abs=6e-6
    )


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_a_cox_model_stratified_by_site_is_that_of_statsmodels(ties: Ties) -> None:
    data = load_larynx()
    x = data[["age", "Stage_II", "Stage_III", "Stage_IV"]].to_numpy(float)
    time, event = data["time"].to_numpy(float), data["death"].to_numpy(bool)
    strata = split(len(x), 3, 2)
    fit = cox(x, time, event, strata, ties)
    site = np.zeros(len(x), int)
    for number, rows in enumerate(strata):
        site[rows] = number
    model = sm.PHReg(time, x, status=event.astype(int), strata=site, ties=ties)
    expected = model.fit(method="newton", tol=1e-12, maxiter=100, disp=0)
    assert fit.coefficients == pytest.approx(expected.params, rel=1e-6)
    assert fit.standard_errors == pytest.approx(expected.bse, rel=1e-6)


def test_late_entry_is_that_of_statsmodels() -> None:
    chance = np.random.default_rng(4)
    x = chance.normal(size=(150, 2))
    entry = chance.uniform(0, 1, 150)
    time = entry + chance.exponential(1 / np.exp(x @ np.array([0.5, -0.3])))
    event = chance.random(150) < 0.7
    fit = cox(x, time, event, [np.arange(150)], "efron", entry)
    model = sm.PHReg(time, x, status=event.astype(int), entry=entry, ties="efron")
    expected = model.fit(method="newton", tol=1e-12, maxiter=100, disp=0)
    assert fit.coefficients == pytest.approx(expected.params, rel=1e-6)


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize("at_once", [1, 7, 64])
def test_a_cox_models_sums_are_those_of_all_rows_however_few_are_worked_on_at_once(
    monkeypatch: pytest.MonkeyPatch, ties: Ties, at_once: int
) -> None:
    chance = np.random.default_rng(at_once)
    n = 150
    time = chance.integers(1, 12, n) + np.where(chance.random(n) < 0.5, 0.0, chance.random(n))
    rows = CoxRows(
        chance.normal(50, 1, (n, 3)), time, chance.random(n) < 0.6,
        np.maximum(time - chance.integers(0, 9, n), 0.0), chance.uniform(0.5, 2, n),
        chance.normal(size=n), chance.integers(0, 3, n),
    )  # fmt: skip
    beta = np.array([0.5, -0.2, 0.1])
    sums, checks = cox_models.cox_sums(rows, beta, ties), cox_models.cox_checks(rows, beta, ties)
    monkeypatch.setattr(cox_models.risk_sets, "ROWS_AT_ONCE", at_once)
    few = cox_models.cox_sums(rows, beta, ties)
    assert few.n == sums.n < n
    assert few.deviance == pytest.approx(sums.deviance, rel=1e-13)
    assert few.score == pytest.approx(sums.score, rel=1e-11, abs=1e-10)
    assert few.information == pytest.approx(sums.information, rel=1e-11, abs=1e-10)
    again = cox_models.cox_checks(rows, beta, ties)
    assert again.with_time == pytest.approx(checks.with_time, rel=1e-11, abs=1e-9)
    assert again.with_square == pytest.approx(checks.with_square, rel=1e-11, abs=1e-8)
    assert (again.concordant, again.tied) == (checks.concordant, checks.tied)


def test_a_stratum_with_one_event_or_none_is_allowed() -> None:
    data = load_rossi()
    x, time = data[["fin", "age"]].to_numpy(float), data["week"].to_numpy(float)
    event = data["arrest"].to_numpy(bool)
    quiet = np.flatnonzero(~event)[:20]
    rest = np.setdiff1d(np.arange(len(x)), quiet)
    fit = cox(x, time, event, [rest, quiet], "efron")
    alone = cox(x, time, event, [rest], "efron")
    assert fit.coefficients == pytest.approx(alone.coefficients, **TIGHT)
