"""Robust standard errors over sites are those of R's survival and sandwich, and of statsmodels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from lifelines.datasets import load_rossi
from pydantic import ValidationError

from contract import wire_pb2 as wire
from contract.errors import DocumentError, UsageError
from contract.statistics import ending, models, robust
from contract.statistics.held import Held
from contract.statistics.meta import pool
from contract.work import StatisticsWork
from researcher.formulas import parse
from tests.contract.fits import category, fit, number, split
from tests.contract.world import World

SPECTOR = sm.datasets.spector.load_pandas().data
SITES = [np.arange(place, len(SPECTOR), 4) for place in range(4)]
GRADES = (
    number("GPA", 1, 5),
    number("TUCE", 0, 50),
    category("PSI", "0", "1"),
    category("GRADE", "0", "1"),
)
ROSSI = load_rossi()
ARRESTS = (
    number("week", 0, 60),
    number("start", 0, 60),
    number("age", 0, 100),
    number("prio", 0, 30),
    category("arrest", "0", "1"),
    category("fin", "0", "1"),
    number("w", 0.1, 9),
)


def grades() -> dict[str, Any]:
    return {name: SPECTOR[name].to_numpy() for name in SPECTOR.columns}


def arrests() -> dict[str, Any]:
    found = {name: ROSSI[name].to_numpy() for name in ("week", "arrest", "fin", "age", "prio")}
    place = np.arange(len(ROSSI))
    return found | {"w": 0.5 + place % 4 / 2, "start": place % 5 * 2.0}


@pytest.mark.parametrize(
    ("formula", "family", "kind", "expected"),
    [
        ("GRADE ~ GPA + TUCE + PSI", "logistic", True,
         [5.197585410094, 1.267545981997, 0.117922267744, 0.964419209608]),
        ("GRADE ~ GPA + TUCE + PSI", "logistic", "HC1",
         [5.556452526590, 1.355063653319, 0.126064206905, 1.031007502736]),
        ("GRADE ~ GPA + TUCE + PSI", "logistic", "site",
         [6.737322928732, 1.582683608823, 0.173907853461, 0.506634433452]),
        ("GPA ~ TUCE + PSI", "linear", "HC0",
         [0.3222741783648, 0.0149714872279, 0.1599717549006]),
        ("GPA ~ TUCE + PSI", "linear", "HC1",
         [0.338533382111, 0.015726820660, 0.168042563954]),
        ("GPA ~ TUCE + PSI", "linear", "site",
         [0.2235460824114, 0.0104741748552, 0.1197900982864]),
        ("GPA ~ TUCE + PSI", "gamma", "HC0",
         [0.10190529999416, 0.00467028803553, 0.05117605124281]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("secure", [False, True], ids=["in clear", "summed"])
def test_robust_errors_of_spector_and_mazzeos_data_are_those_of_rs_sandwich(
    formula: str, family: str, kind: Any, expected: list[float], secure: bool
) -> None:
    """sandwich 3.0.2: ``vcovHC``, and ``vcovCL`` by (row - 1) mod 4 with its defaults."""
    _, found = fit(formula, family, GRADES, grades(), SITES, robust=kind, secure=secure)
    assert found.errors == pytest.approx(expected, rel=1e-8)  # as near as R's own iterations stop
    assert found.clusters == (4 if kind == "site" else 0)


@pytest.mark.parametrize(
    ("formula", "settings", "expected"),
    [
        ("Surv(week, arrest) ~ fin + age + prio", {"robust": True},
         [0.1900147963007, 0.0233279027574, 0.0263988086652]),
        ("Surv(week, arrest) ~ fin + age + prio", {"robust": True, "ties": "breslow"},
         [0.1894619342147, 0.0232627399971, 0.0263231203140]),
        ("Surv(week, arrest) ~ fin + age + prio", {"robust": True, "weights": "w"},
         [0.2075181149432, 0.0239589476252, 0.0307848581408]),
        ("Surv(start, week, arrest) ~ fin + age + prio", {"robust": True},
         [0.1930958046835, 0.0236739411508, 0.0272034580705]),
    ],
    ids=["Efron", "Breslow", "weights", "entry"],
)  # fmt: skip
@pytest.mark.parametrize("secure", [False, True], ids=["in clear", "summed"])
def test_robust_errors_of_rossis_arrests_are_those_of_rs_coxph(
    formula: str, settings: dict[str, Any], expected: list[float], secure: bool
) -> None:
    """survival 3.5.3: ``coxph(... + strata(site), robust = TRUE)``, site being (row - 1) mod 3.

    They stay as they are when rows are in another order: two sites' rows are turned round.
    """
    rows = [np.arange(place, len(ROSSI), 3)[:: 1 - 2 * (place > 0)] for place in range(3)]
    _, found = fit(formula, "cox", ARRESTS, arrests(), rows, secure=secure, **settings)
    assert found.errors == pytest.approx(expected, rel=1e-9)
    assert found.proportionality


def test_errors_by_site_of_rossis_arrests_are_those_of_rs_coxph_for_finitely_many_sites() -> None:
    """``coxph(... + strata(site) + cluster(site))`` times the root of G / (G - 1), as Stata has."""
    rows = [np.arange(place, len(ROSSI), 3) for place in range(3)]
    formula = "Surv(week, arrest) ~ fin + age + prio"
    _, found = fit(formula, "cox", ARRESTS, arrests(), rows, robust="site")
    expected = [0.11867872977765, 0.00806220620835, 0.01358493559320]
    assert found.errors == pytest.approx(np.sqrt(3 / 2) * np.array(expected), rel=1e-7)


def test_a_relative_risk_by_poisson_has_the_error_of_zous_formula() -> None:
    """Zou 2004, Am J Epidemiol 159:702, of one exposure: 1/a - 1/(a+b) + 1/c - 1/(c+d)."""
    a, b, c, d = 43, 78, 22, 140
    data = {
        "ill": np.repeat([1.0, 0.0, 1.0, 0.0], [a, b, c, d]),
        "exposed": np.repeat([1, 1, 0, 0], [a, b, c, d]),
    }
    dictionary = [number("ill", 0, 1), category("exposed", "no", "yes")]
    sites = split(a + b + c + d, 4)
    _, found = fit("ill ~ exposed", "poisson", dictionary, data, sites, robust=True)
    assert math.exp(found.coefficients[1]) == pytest.approx(a / (a + b) / (c / (c + d)), rel=1e-9)
    expected = math.sqrt(1 / a - 1 / (a + b) + 1 / c - 1 / (c + d))
    assert found.errors[1] == pytest.approx(expected, rel=1e-9)
    assert found.standard_errors[1] > found.errors[1]


@pytest.mark.parametrize("kind", ["HC0", "site"])
def test_fixed_effects_of_sites_have_their_part_in_robust_errors(kind: str) -> None:
    """statsmodels, with an indicator of each site."""
    chance = np.random.default_rng(5)
    x, group = chance.normal(size=200), np.arange(200) % 5
    y = chance.poisson(np.exp(0.3 + 0.4 * x + group / 5)).astype(float)
    rows = [np.flatnonzero(group == one) for one in range(5)]
    dictionary = [number("x", -9, 9), number("y", 0, 99)]
    _, found = fit(
        "y ~ x", "poisson", dictionary, {"x": x, "y": y}, rows, robust=kind, by_site="fixed"
    )
    whole = np.column_stack([np.ones(200), x, group[:, None] == range(1, 5)]).astype(float)
    more = {"cov_type": "HC0"}
    if kind == "site":
        more = {
            "cov_type": "cluster",
            "cov_kwds": {"groups": group, "use_correction": False},  # type: ignore[dict-item]
        }
    expected = sm.GLM(y, whole, family=sm.families.Poisson()).fit(tol=1e-14, **more).bse[:2]
    scale = np.sqrt(5 / 4) if kind == "site" else 1.0
    assert found.errors == pytest.approx(scale * np.asarray(expected), rel=1e-7)


def test_sites_own_fits_are_pooled_by_their_robust_errors() -> None:
    _, found = fit(
        "GPA ~ TUCE", "linear", GRADES, grades(), split(32, 2), robust="HC1", by_site="each"
    )
    assert len(found.each) == 2
    for own, rows in zip(found.each, split(32, 2), strict=True):
        x = sm.add_constant(SPECTOR["TUCE"].to_numpy()[rows])
        expected = sm.OLS(SPECTOR["GPA"].to_numpy()[rows], x).fit(cov_type="HC1").bse
        assert not isinstance(own, str)
        assert own.errors == pytest.approx(expected, rel=1e-9)
    fits = [own for own in found.each if not isinstance(own, str)]
    pooled = pool([one.coefficients[1] for one in fits], [one.errors[1] for one in fits], "reml")
    assert found.coefficients[1] == pytest.approx(pooled.estimate, rel=1e-12)
    assert found.errors[1] == pytest.approx(pooled.standard_error, rel=1e-12)


def test_errors_by_site_need_three_sites_with_rows() -> None:
    empty = [*split(32, 2), np.zeros(0, dtype=np.intp)]
    with pytest.raises(DocumentError, match="need 3 sites"):
        fit("GPA ~ TUCE", "linear", GRADES, grades(), empty, robust="site")


def test_robust_errors_of_which_no_digits_would_be_left_are_refused() -> None:
    chance = np.random.default_rng(0)
    z = chance.integers(-900, 900, 90) / 64
    data = {"z": 1e9 + z, "y": z + chance.normal(size=90)}
    dictionary = [number("z", 0, 2e9), number("y", -99, 99)]
    with pytest.raises(DocumentError, match="take it from its middle"):
        fit("y ~ z", "linear", dictionary, data, split(90, 3), robust="HC0")
    _, found = fit("y ~ I(z - 1000000000)", "linear", dictionary, data, split(90, 3), robust="HC0")
    expected = sm.OLS(data["y"], sm.add_constant(z)).fit(cov_type="HC0").bse
    assert found.errors == pytest.approx(expected, rel=1e-9)


def test_errors_by_site_are_in_no_secure_sum() -> None:
    """Of three sites, one that knows its own score could work the others' out."""
    model = parse("GPA ~ TUCE", "linear", robust="site")
    ask = models.marginals(model, World().project(variables=GRADES))
    with pytest.raises(ValidationError, match="single sites"):
        StatisticsWork(ask=ask, analysis="main", lane="exact", secure=True, fit=model)


@pytest.mark.parametrize(
    ("family", "settings", "said"),
    [
        ("cox", {"robust": "HC1"}, "HC0 or site"),
        ("linear", {"robust": "HC0", "by_site": "random"}, "no robust errors"),
        ("logistic", {"robust": "site", "by_site": "each"}, "by site"),
        ("linear", {"robust": "HC3"}, "robust"),
    ],
)
def test_robust_errors_that_are_none_are_refused_in_a_sentence(
    family: str, settings: dict[str, Any], said: str
) -> None:
    formula = "Surv(week, arrest) ~ age" if family == "cox" else "GRADE ~ GPA"
    with pytest.raises(UsageError, match=said):
        parse(formula, family, **settings)


def test_a_row_that_has_most_of_one_figure_alone_is_noticed() -> None:
    """Of the product of two columns, of which neither alone is one row's."""
    scores = np.ones((40, 2))
    scores[:20, 0] = scores[21:, 1] = 0
    whole = np.ones((2, 2), np.bool_)
    one = [robust.Cells(whole, np.zeros(40, np.int64))]
    halves = [(scores[:30], slice(0, 30)), (scores[30:], slice(30, 40))]
    found, share = robust.of_rows(halves, 2, one)
    assert found.squares[0, 1] == 1
    assert share == 1
    alike = [(np.ones((40, 2)), slice(0, 40))]
    assert robust.of_rows(alike, 2, one)[1] == pytest.approx(1 / 40)
    four = [robust.Cells(whole, np.arange(40) % 4)]
    assert robust.of_rows(alike, 2, four)[1] == pytest.approx(1 / 10)


def test_figures_are_looked_at_by_the_categories_that_they_differ_by() -> None:
    """Of the number's square there is one figure; its sums tell of arms, the rest of both."""
    dictionary = [number("x", -9, 9), number("y", -9, 9),
                  category("arm", "A", "B"), category("sex", "f", "m")]  # fmt: skip
    chance = np.random.default_rng(1)
    data = {"x": chance.normal(size=200), "y": chance.normal(size=200),
            "arm": np.arange(200) % 2, "sex": np.arange(200) // 2 % 2}  # fmt: skip
    project = World().project(variables=tuple(dictionary))
    model = parse("y ~ sex + x*arm", "linear", robust="HC0")
    columns = models.columns_of(model, project)
    held = Held.of({name: data[name] for name in model.variables}, project)
    told: list[float] = []
    found = ending.ending(model, columns, held, np.zeros(5), lambda _: None, told.append)
    assert found.scores is not None
    x = np.column_stack([np.ones(200), data["sex"], data["x"], data["arm"],
                         data["x"] * data["arm"]])  # fmt: skip
    assert found.scores.squares == pytest.approx((x * data["y"][:, None] ** 2).T @ x)
    squares, shares = data["y"] ** 2, []
    for arm in (0, 1):
        for sex in (0, 1):
            inside = (data["arm"] == arm) & (data["sex"] == sex)
            for power in (0, 1):
                part = squares[inside] * np.abs(data["x"][inside]) ** power
                shares.append(part.max() / part.sum())
        part = squares[data["arm"] == arm] * data["x"][data["arm"] == arm] ** 2
        shares.append(part.max() / part.sum())
    assert told == [pytest.approx(max(shares))]


def test_no_site_says_that_more_are_missing_than_there_can_be() -> None:
    model = parse("GRADE ~ GPA", "logistic", robust="HC0")
    step = wire.ModelPart(n=20, information=[1.0] * 3, score=[0.0] * 2, missing=1 << 48)
    ending.check_form(step, model, 2)
    step.missing += 1
    end = wire.ModelPart(n=20, ending=wire.ModelEnding(squares=[1.0] * 3))
    ending.check_form(end, model, 2)
    end.missing = 10  # the fit's steps have said so
    for wrong in (step, end):
        with pytest.raises(DocumentError, match="form"):
            ending.check_form(wrong, model, 2)
