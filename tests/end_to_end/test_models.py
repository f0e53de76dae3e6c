"""Models fitted over hospitals are those of all rows together."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm
from numpy.typing import NDArray

from contract.errors import JobFailed, UsageError
from node.commands import release as node_release
from node.config import create_home
from node.home import NodeHome
from researcher.models import ModelAnswer
from tests.end_to_end.federation import (
    POLICY,
    PROJECT,
    Federation,
    canary,
    surname,
    take_in,
    write_csv,
    write_schema,
)
from tests.end_to_end.processes import PATIENCE_SECONDS, eventually

SITES = ("north", "south", "west")
ROWS = 150
GAP = 7
"""Every so manieth age is missing."""


def rows(site: str) -> list[dict[str, object]]:
    """A hospital's rows: an outcome that depends on age and arm."""
    chance = np.random.default_rng(SITES.index(site))
    made: list[dict[str, object]] = []
    for i in range(ROWS):
        age, arm = int(chance.integers(20, 90)), "AB"[int(chance.integers(0, 2))]
        eta = -2 + 0.03 * age + 0.8 * (arm == "B")
        made.append(
            {
                "patient": canary(site, i),
                "name": surname(site, i),
                "age": "" if i % GAP == 0 else age,
                "weight": 60 + i / 10,
                "arm": arm,
                "outcome": "yes" if chance.random() < 1 / (1 + np.exp(-eta)) else "no",
                "rare": "no",
            }
        )
    return made


@pytest.fixture(scope="module")
def clinics(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Clinics under ``open-research``, which let models out."""
    federation = Federation(tmp_path_factory.mktemp("clinics") / "opt", SITES)
    try:
        for site in SITES:
            home = federation.home(site)
            home.parent.mkdir(parents=True, exist_ok=True)
            place = create_home(NodeHome(home))
            place.policy.write_text(POLICY.replace("minimum_cell", "models = true\nminimum_cell"))
            take_in(home, write_csv(home.parent / f"{site}.csv", rows(site)), schema(home.parent))
            node_release.create(
                "trial", table="trial", home=home, analysis=["main=age,arm,outcome"]
            )
            federation.homes[site] = home
        yield federation.bring_up()
    finally:
        federation.close()


def schema(folder: Path) -> Path:
    return write_schema(folder)


def pooled(*sites: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the complete rows of sites, or all: the matrix (1, age, B), and the outcome."""
    whole = [r for site in sites or SITES for r in rows(site) if r["age"] != ""]
    x = np.array([[1.0, float(str(r["age"])), float(r["arm"] == "B")] for r in whole])
    return x, np.array([float(r["outcome"] == "yes") for r in whole])


def test_a_logistic_model_is_that_of_all_rows_together(clinics: Federation) -> None:
    with clinics.connect() as ana:
        found = ana.model(PROJECT, "outcome ~ age + arm", "logistic", analysis="main")
    x, y = pooled()
    expected = sm.GLM(y, x, family=sm.families.Binomial()).fit(tol=1e-14)
    assert found.fit.converged
    assert found.answered == SITES
    assert {r.site for r in found.receipts} == set(SITES)
    assert found.columns == ("(Intercept)", "age", "arm[B]")
    assert found.fit.n == len(y)
    assert found.fit.coefficients == pytest.approx(expected.params, rel=1e-9)
    assert found.fit.standard_errors == pytest.approx(expected.bse, rel=1e-8)
    low, high = expected.conf_int()[1]
    assert (found["age"].low, found["age"].high) == pytest.approx((low, high), rel=1e-7)
    assert found["age"].p == pytest.approx(expected.pvalues[1], rel=1e-6)
    assert 0 < found.left_out <= sum(r["age"] == "" for site in SITES for r in rows(site))
    assert f"({found.left_out} or more others aren't in main: they lack a value" in str(found)
    assert f"At least {found.left_out} others were not in the analysis set main" in found.methods
    assert "odds" in str(found)
    assert max(map(len, str(found).splitlines())) <= 80


def test_a_linear_model_takes_one_step(clinics: Federation) -> None:
    with clinics.connect() as ana:
        found = ana.model(PROJECT, "age ~ arm + outcome", "linear", analysis="main")
    x, y = pooled()
    design = np.column_stack([np.ones(len(y)), x[:, 2], y])
    expected = sm.OLS(x[:, 1], design).fit()
    assert found.fit.coefficients == pytest.approx(expected.params, rel=1e-9)
    assert found.fit.standard_errors == pytest.approx(expected.bse, rel=1e-9)
    for site in SITES:
        [entry] = clinics.answers(site, found.job)
        assert entry.body["lane"] == "exact"


def test_robust_errors_and_a_random_intercept_are_those_of_all_rows(clinics: Federation) -> None:
    x, y = pooled()
    expected = sm.GLM(y, x, family=sm.families.Binomial()).fit(tol=1e-14, cov_type="HC0")
    asked = (PROJECT, "outcome ~ age + arm", "logistic")
    with clinics.connect() as ana:
        for secure in (False, True):
            found = ana.model(*asked, analysis="main", robust=True, secure=secure)
            assert found.fit.errors == pytest.approx(expected.bse, rel=1e-8)
        mixed = ana.model(*asked, analysis="main", by_site="random")
    assert mixed.fit.converged
    assert mixed.fit.log_likelihood >= expected.llf - 1e-9
    assert set(mixed.site_effects()) == set(SITES)


SECURE = (
    ("outcome ~ age + arm", "logistic"),
    ("age ~ arm + outcome", "linear"),
    ("Surv(age, outcome) ~ arm", "cox"),
)


@pytest.mark.parametrize(("formula", "family"), SECURE)
def test_a_fit_of_secure_sums_is_the_one_in_clear(
    clinics: Federation, formula: str, family: str
) -> None:
    with clinics.connect() as ana:
        plain = ana.model(PROJECT, formula, family, analysis="main")
        found = ana.model(PROJECT, formula, family, analysis="main", secure=True)
    assert found.fit.converged
    assert found.fit.n == plain.fit.n
    assert found.left_out == plain.left_out > 0
    assert found.fit.coefficients == pytest.approx(plain.fit.coefficients, rel=1e-9)
    assert found.fit.standard_errors == pytest.approx(plain.fit.standard_errors, rel=1e-9)
    assert found.fit.pairs == plain.fit.pairs
    assert found.fit.proportionality == pytest.approx(plain.fit.proportionality, rel=1e-7)
    assert {r.site for r in found.receipts} == set(SITES)
    assert any("nobody saw the sums of a single hospital" in note for note in found.notes)
    assert "secure aggregation" in found.methods
    for site in SITES:
        first = clinics.answers(site, plain.job)[0].body["payload"]
        entries = clinics.answers(site, found.job)
        assert all(e.body["task"].startswith("sum-") for e in entries)
        vectors = [e for e in entries if e.body["task"].endswith(".3")]
        assert [bool(e.body.get("masked")) for e in entries] == [e in vectors for e in entries]
        # What was masked is what leaves in clear otherwise: the ledger has the digests of both.
        assert vectors[0].body["masked"] == first


@pytest.mark.slow
def test_the_command_fits_by_secure_sums(clinics: Federation) -> None:
    asked = ("fit", "-p", PROJECT, "outcome ~ age", "--family", "logistic", "--analysis", "main")
    done = clinics.as_researcher("ana", *asked, "--secure")
    assert done.code == 0, done.errors
    assert "By secure sums" in done.out
    clinics.as_researcher("ana", *asked, "--secure", "--by-site", "fixed").fails(2, "own sums")


def by_site() -> NDArray[np.int64]:
    """Return the place of each complete row's site."""
    sites = [SITES.index(site) for site in SITES for r in rows(site) if r["age"] != ""]
    return np.array(sites, dtype=np.int64)


def test_a_cox_model_is_stratified_by_site_and_checked(clinics: Federation) -> None:
    with clinics.connect() as ana:
        found = ana.model(PROJECT, "Surv(age, outcome) ~ arm", "cox", analysis="main")
    x, y = pooled()
    model = sm.PHReg(x[:, 1], x[:, 2:], status=y, strata=by_site(), ties="efron")
    expected = model.fit(method="newton", tol=1e-12, maxiter=100, disp=0)
    assert found.fit.coefficients == pytest.approx(expected.params, rel=1e-6)
    assert found.fit.standard_errors == pytest.approx(expected.bse, rel=1e-6)
    assert found.fit.events == int(y.sum())
    assert 0.4 < found.fit.concordance < 0.7
    assert [test.name for test in found.proportionality()] == ["arm[B]", "GLOBAL"]
    assert {r.site for r in found.receipts} == set(SITES)
    said = str(found)
    assert "Concordance" in said
    assert "Proportional hazards" in said
    assert max(map(len, said.splitlines())) <= 80


def test_sites_can_have_effects_of_their_own(clinics: Federation) -> None:
    x, y = pooled()
    others = np.column_stack([by_site() == place for place in (1, 2)]).astype(float)
    with clinics.connect() as ana:
        fixed = ana.model(PROJECT, "outcome ~ age", "logistic", analysis="main", by_site="fixed")
        mixed = ana.model(PROJECT, "age ~ arm + (1 | site)", "linear", analysis="main")
        each = ana.model(PROJECT, "outcome ~ age", "logistic", analysis="main", by_site="each")
    wide = np.column_stack([x[:, :2], others])
    expected = sm.GLM(y, wide, family=sm.families.Binomial()).fit(tol=1e-14)
    assert fixed.fit.coefficients == pytest.approx(expected.params[:2], rel=1e-8)
    assert list(fixed.site_effects().values()) == pytest.approx([0, *expected.params[2:]], rel=1e-8)
    assert set(mixed.site_effects()) == set(SITES)
    for place, site in enumerate(SITES):
        own = by_site() == place
        alone = sm.GLM(y[own], x[own, :2], family=sm.families.Binomial()).fit(tol=1e-14)
        assert [row.estimate for row in each.own(site)] == pytest.approx(alone.params, rel=1e-8)
    assert each["age"].estimate == pytest.approx(each.meta("age").estimate)
    assert each.forest("age").labels == (*SITES, "pooled")
    for found in (fixed, mixed, each):
        assert max(map(len, str(found).splitlines())) <= 80
        assert found.answered[0] in found.methods


def test_the_command_fits_and_prints_coefficients(clinics: Federation) -> None:
    asked = ("fit", "-p", PROJECT, "outcome ~ age*arm", "--family", "logistic")
    done = clinics.as_researcher("ana", *asked, "--analysis", "main", "--json")
    assert done.code == 0, done.errors
    told = [json.loads(line) for line in done.out.splitlines()]
    names = [one["term"] for one in told if "figure" not in one]
    assert names == ["(Intercept)", "age", "arm[B]", "age:arm[B]"]
    assert [one["of"] for one in told if one.get("figure") == "Wald test"] == [
        "age",
        "arm",
        "age:arm",
    ]


def test_what_is_not_declared_is_not_fitted(clinics: Federation) -> None:
    with clinics.connect() as ana:
        for formula, analysis in (("outcome ~ weight", "main"), ("outcome ~ age", "other")):
            with pytest.raises(JobFailed):
                ana.model(PROJECT, formula, "logistic", analysis=analysis)
        with pytest.raises(UsageError):
            ana.model(PROJECT, "outcome ~ exp(age)", "logistic", analysis="main")


def test_a_hospital_whose_policy_allows_no_models_is_in_none(clinics: Federation) -> None:
    policy = clinics.home("west") / "policy.toml"
    text = policy.read_text()
    policy.write_text(text.replace("models = true", "models = false"))
    try:
        with clinics.connect() as ana:
            found = ana.model(PROJECT, "outcome ~ age", "logistic", analysis="main")
    finally:
        policy.write_text(text)
    assert found.answered == ("north", "south")
    assert "allows no models" in found.notes[0]
    assert (found.missing_share, found.absent_share) == (0, pytest.approx(1 / 3, abs=0.05))
    assert "are at sites that are not in this model (1 refused)" in found.notes[1]


def test_a_model_with_many_coefficients_for_its_subjects_is_refused(clinics: Federation) -> None:
    policy = clinics.home("west") / "policy.toml"
    text = policy.read_text()
    policy.write_text(text.replace("minimum_cell", "subjects_per_coefficient = 60\nminimum_cell"))
    try:
        with clinics.connect() as ana:
            found = ana.model(PROJECT, "outcome ~ age + arm", "logistic", analysis="main")
    finally:
        policy.write_text(text)
    assert found.answered == ("north", "south")
    assert [m.site for m in found.missing] == ["west"]
    assert found.missing_share == pytest.approx(1 / 3)
    assert any("33% of the subjects" in note for note in found.notes)


def test_a_site_that_is_killed_in_the_middle_is_left_out_and_named(clinics: Federation) -> None:
    policy, node = clinics.home("west") / "policy.toml", clinics.node("west")
    text = policy.read_text()
    slow = "per_hour = 100000\nanswer_ms = 3000"  # so that a step is still to come
    policy.write_text(text.replace("per_hour = 100000", slow))
    found: list[ModelAnswer] = []

    def fit() -> None:
        with clinics.connect() as ana:
            found.append(
                ana.model(PROJECT, "outcome ~ age", "logistic", analysis="main", minimum_sites=2)
            )

    def has_begun() -> bool:
        return any(e.body.get("task") == "step-1" for e in clinics.entries("west")[before:])

    before = len(clinics.entries("west"))
    try:
        thread = threading.Thread(target=fit, daemon=True)
        thread.start()
        eventually(has_begun, "the fit is in the middle")
        node.kill()
    finally:
        policy.write_text(text)
        node.start()
    thread.join(PATIENCE_SECONDS)
    (answer,) = found
    x, y = pooled("north", "south")
    expected = sm.GLM(y, x[:, :2], family=sm.families.Binomial()).fit(tol=1e-14)
    assert answer.fit.coefficients == pytest.approx(expected.params, rel=1e-9)
    assert answer.answered == ("north", "south")
    assert [m.site for m in answer.missing] == ["west"]
    assert "left in the middle" in answer.notes[0]
    clinics.wait_for_sites()
    clinics.nothing_is_stuck()
