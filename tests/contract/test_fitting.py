"""Fits over sites, by formula and over the wire's forms, are those of R and others on all rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines.datasets import load_gbsg2, load_rossi

from contract.errors import DocumentError, UsageError
from contract.models import Model
from contract.statistics import models
from contract.statistics.fit import Fit
from researcher.formulas import parse
from tests.contract.fits import Rows, category, check, fit, number, split
from tests.contract.world import World
from tests.examples import examples

ROSSI = load_rossi()
ROSSI["w"] = 1 + ROSSI["age"] % 3
ROSSI["entry"] = ROSSI["week"] * 0.3 * (ROSSI["prio"] % 2)
DICTIONARY = (
    number("week", 1, 52),
    number("age", 15, 60),
    number("prio", 0, 20),
    number("fin", 0, 1),
    number("w", 1, 3),
    number("entry", 0, 52),
    category("arrest", "no", "yes"),
    category("wexp", "no", "yes"),
    category("race", "black", "other"),
)
DATA = {name: ROSSI[name].to_numpy() for name in ROSSI}


def rossi(formula: str, family: str, sites: int = 4, **settings: Any) -> Fit:
    """Return a fit of Rossi's data, which lifelines carries, over sites."""
    return fit(formula, family, DICTIONARY, DATA, split(len(ROSSI), sites), **settings)[1]


def figures(found: Fit) -> list[float]:
    return [found.deviance, found.null_deviance, found.aic, found.log_likelihood]


# ---- what R says ---------------------------------------------------------------------------------


def test_glms_with_weights_and_offsets_are_those_of_r() -> None:
    """R 4.2.2: glm(..., weights = w) on Rossi's data, w = 1 + age %% 3."""
    found = rossi("arrest ~ fin + age + offset(I(prio/100))", "logistic", weights="w")
    assert found.coefficients == pytest.approx(
        [0.8195743307378, -0.3141133258060, -0.0687697398726], rel=1e-6
    )
    assert figures(found) == pytest.approx(
        [1005.855341082, 1034.341644085, 1011.855341082, -502.927670541], rel=1e-11
    )
    assert found.bic == pytest.approx(1024.060617847, rel=1e-11)
    found = rossi("prio ~ fin + age + offset(log(week))", "poisson", weights="w")
    assert found.coefficients == pytest.approx(
        [-2.0967662153577, -0.0215398115454, -0.0248963575490], rel=1e-7
    )
    assert figures(found) == pytest.approx(
        [2703.40025825, 2755.39354484, 4982.91293274, -2488.45646637], rel=1e-11
    )
    found = rossi("age ~ fin + prio", "gamma", weights="w")
    assert found.coefficients == pytest.approx(
        [3.2120890585001, 0.0312960356977, -0.0106925612677], rel=1e-6
    )
    assert figures(found) == pytest.approx(
        [44.260592684921, 45.258597063187, 5423.719623882572, -2707.859811941286], rel=1e-10
    )
    assert found.dispersion == pytest.approx(0.119628749991, rel=1e-6)
    found = rossi("age ~ fin + prio", "gamma", weights="w", link="inverse")
    assert found.coefficients == pytest.approx(
        [0.040230420680876, -0.001248454262605, 0.000452481829416], rel=1e-8
    )
    assert figures(found) == pytest.approx(
        [44.263418486847, 45.258597063187, 5423.775829326511, -2707.887914663255], rel=1e-10
    )


@pytest.mark.parametrize("effect", [-0.2, 0.2])
def test_a_cox_models_number_may_lie_far_from_zero(effect: float) -> None:
    """Calendar years, of which each changes the hazard by a fifth."""
    chance = np.random.default_rng(3)
    year = chance.integers(2005, 2025, 300).astype(float)
    days = np.ceil(chance.exponential(300 * np.exp(-effect * (year - 2015))))
    data = {"year": year, "days": np.minimum(days, 1000), "died": (days < 1000).astype(int)}
    dictionary = [number("year", 2000, 2030), number("days", 0, 1000), category("died", "0", "1")]
    far, near = (
        fit(f"Surv(days, died) ~ {of}", "cox", dictionary, data, split(300, 3), robust=True)[1]
        for of in ("year", "I(year - 2015)")
    )
    assert far.converged
    assert far.coefficients == pytest.approx(near.coefficients, rel=1e-9)
    assert far.errors == pytest.approx(near.errors, rel=1e-9)


def test_a_gamma_model_whose_steps_get_slowly_smaller_converges_as_rs_does() -> None:
    """Five columns of one number, and an outcome that varies far more than they explain."""
    chance = np.random.default_rng(3)
    x = np.round(chance.normal(50, 10, 60), 2)
    y = chance.gamma(0.3, 2, 60) + 0.01
    dictionary = [number("x", 0, 100), number("y", 0.001, 500)]
    formula = "y ~ poly(x, 4, raw = TRUE)"
    _, found = fit(formula, "gamma", dictionary, {"x": x, "y": y}, split(60, 3))
    log = sm.families.Gamma(sm.families.links.Log())
    columns = np.vander((x - 50) / 50, 5, increasing=True)
    expected = sm.GLM(y, columns, family=log).fit(tol=1e-14, maxiter=500)
    assert found.converged
    assert found.deviance == pytest.approx(expected.deviance, rel=1e-9)


def test_a_linear_model_with_weights_and_offset_is_that_of_r() -> None:
    """R 4.2.2: lm(log(age) ~ fin + prio + offset(0.1 * wexp), weights = w)."""
    found = rossi("log(age) ~ fin + prio + offset(I(entry/10))", "linear", weights="w")
    x = np.column_stack([np.ones(len(ROSSI)), ROSSI["fin"], ROSSI["prio"]])
    y = np.log(ROSSI["age"]) - ROSSI["entry"] / 10
    expected = sm.WLS(y, x, weights=ROSSI["w"]).fit()
    assert found.coefficients == pytest.approx(expected.params.to_numpy(), rel=1e-9)
    assert found.standard_errors == pytest.approx(expected.bse.to_numpy(), rel=1e-9)
    assert found.log_likelihood == pytest.approx(expected.llf, rel=1e-10)
    assert 1 - found.deviance / found.null_deviance == pytest.approx(expected.rsquared, rel=1e-9)


def cox(formula: str, **settings: Any) -> Fit:
    """Return a Cox model's fit at one site: R's has no site."""
    return rossi(formula, "cox", 1, **settings)


def test_cox_models_with_strata_weights_and_offset_are_those_of_r() -> None:
    """R 4.2.2, survival 3.5-3: coxph."""
    found = cox(
        "Surv(week, arrest) ~ fin + age + prio + strata(wexp) + offset(I(age/50))", weights="w"
    )
    assert found.coefficients == pytest.approx(
        [-0.2721733138030, -0.0683921899779, 0.0948077952191], rel=1e-8
    )
    assert found.standard_errors == pytest.approx(
        [0.1294923676285, 0.0147409850168, 0.0196123307732], rel=1e-8
    )
    assert -found.null_deviance / 2 == pytest.approx(-1458.63933295, rel=1e-11)
    assert found.log_likelihood == pytest.approx(-1432.53211864, rel=1e-11)
    assert found.score_test == pytest.approx(50.2879888514, rel=1e-10)


def test_the_checks_of_a_cox_model_are_those_of_r() -> None:
    """R 4.2.2, survival 3.5-3: cox.zph with transform = "identity" and "log", concordance."""
    formula = "Surv(week, arrest) ~ fin + age + prio + strata(wexp)"
    found = cox(formula)
    assert found.proportionality == pytest.approx(
        (0.00674278306372, 12.16862870059348, 0.03540040645309, 12.18546957968695), rel=1e-6
    )
    assert found.pairs == (12564, 8254, 107)
    assert found.concordance == pytest.approx(0.602986857826, rel=1e-11)
    assert found.events == 114
    found = cox(formula, time_scale="log")
    assert found.proportionality == pytest.approx(
        (0.144375243312, 13.438661392699, 0.215072597773, 14.090260643587), rel=1e-7
    )


def test_late_entry_with_breslows_ties_is_that_of_r() -> None:
    """R 4.2.2, survival 3.5-3: coxph(Surv(entry, week, arrest) ~ ..., ties = "breslow")."""
    found = cox("Surv(entry, week, arrest) ~ fin + age + prio", ties="breslow", weights="w")
    assert found.coefficients == pytest.approx(
        [-0.2577134081091, -0.0521909966940, 0.0945317316594], rel=1e-8
    )
    assert found.log_likelihood == pytest.approx(-1573.86295704, rel=1e-11)
    assert found.proportionality == pytest.approx(
        (0.1082322118383, 16.1233295473855, 0.0514356372512, 16.1997664710216), rel=1e-6
    )
    assert found.pairs == (101196, 61785, 1053)


def test_the_german_breast_cancer_studys_model_has_its_published_coefficients() -> None:
    """Everitt, Hothorn, A handbook of statistical analyses using R, 2nd edition, figure 11.7.

    There the grade is coded by polynomials: L 0.5512988, Q -0.2010905.
    """
    data = load_gbsg2()
    levels = {"horTh": ["no", "yes"], "menostat": ["Pre", "Post"], "tgrade": ["I", "II", "III"]}
    values = {name: data[name].to_numpy() for name in data}
    values |= {n: np.array([held.index(v) for v in data[n]]) for n, held in levels.items()}
    numbers = {"age": 100, "tsize": 200, "pnodes": 60, "progrec": 3000, "estrec": 3000}
    dictionary = [
        *(number(name, 0, most) for name, most in {**numbers, "time": 3000}.items()),
        *(category(name, *held) for name, held in levels.items()),
        category("cens", "0", "1"),
    ]
    formula = f"Surv(time, cens) ~ {' + '.join([*levels, *numbers])}"
    names, found = fit(formula, "cox", dictionary, values, [np.arange(len(data))])
    coefficients = dict(zip(names, found.coefficients, strict=True))
    errors = dict(zip(names, found.standard_errors, strict=True))
    for name, coefficient, error in (
        ("horTh[yes]", -0.3462784, 0.1290747), ("age", -0.0094592, 0.0093006),
        ("menostat[Post]", 0.2584448, 0.1834765), ("tsize", 0.0077961, 0.0039390),
        ("pnodes", 0.0487886, 0.0074471), ("progrec", -0.0022172, 0.0005735),
        ("estrec", 0.0001973, 0.0004504),
    ):  # fmt: skip
        assert coefficients[name] == pytest.approx(coefficient, abs=6e-8)
        assert errors[name] == pytest.approx(error, abs=6e-8)
    linear, quadratic = 0.5512988 / np.sqrt(2), -0.2010905 / np.sqrt(6)
    assert coefficients["tgrade[II]"] == pytest.approx(linear - 3 * quadratic, abs=3e-7)
    assert coefficients["tgrade[III]"] == pytest.approx(2 * linear, abs=3e-7)


# ---- any partition -------------------------------------------------------------------------------


def data_of(seed: int, n: int = 150) -> dict[str, Any]:
    chance = np.random.default_rng(seed)
    x, z = chance.uniform(-2, 2, n), chance.uniform(20, 90, n)
    arm, sex = chance.integers(0, 3, n), chance.integers(0, 2, n)
    eta = 0.3 * x + 0.02 * (z - 50) - 0.4 * (arm == 1) + 0.3 * sex * x
    return {
        "x": x, "z": z, "arm": arm, "sex": sex, "w": chance.uniform(0.5, 3, n),
        "t": chance.uniform(0.5, 4, n),
        "yes": (chance.random(n) < 1 / (1 + np.exp(-eta))).astype(int),
        "count": chance.poisson(np.exp(eta)).astype(float),
        "cost": chance.gamma(2.0, np.exp(eta) / 2) + 1e-3,
        "size": eta + chance.normal(size=n),
    }  # fmt: skip


ANY = (
    number("x", -2, 2), number("z", 20, 90), number("w", 0.1, 5), number("t", 0.1, 5),
    number("count", 0, 1000), number("cost", 1e-4, 1e4), number("size", -100, 100),
    category("arm", "A", "B", "C"), category("sex", "f", "m"), category("yes", "no", "yes"),
)  # fmt: skip
RIGHT = "x*sex + C(arm, ref = 'B') + poly(z, 3, raw = TRUE) + offset(log(t))"
PATSY = "x*C(sex) + C(arm, Treatment(1)) + z + I(z**2) + I(z**3)"
FAMILIES = {
    "logistic": ("yes", sm.families.Binomial()),
    "poisson": ("count", sm.families.Poisson()),
    "gamma": ("cost", sm.families.Gamma(sm.families.links.Log())),
    "linear": ("size", sm.families.Gaussian()),
}


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=examples(3, 6), deadline=None)
@given(seed=st.integers(0, 10**6), sites=st.integers(1, 7))
def test_any_partition_gives_the_fit_of_all_rows(family: str, seed: int, sites: int) -> None:
    outcome, other = FAMILIES[family]
    data = data_of(seed)
    rows = [*split(150, sites, seed), np.array([], dtype=np.intp)]
    names, found = fit(f"{outcome} ~ {RIGHT}", family, ANY, data, rows, weights="w")
    alone = fit(f"{outcome} ~ {RIGHT}", family, ANY, data, [np.arange(150)], weights="w")[1]
    frame = pd.DataFrame(data)
    model = smf.glm(
        f"{outcome} ~ {PATSY}", frame, family=other,
        var_weights=data["w"], offset=np.log(data["t"]),
    )  # fmt: skip
    expected = model.fit(tol=1e-14, maxiter=200)
    order = [
        "Intercept", "x", "C(sex)[T.1]", "C(arm, Treatment(1))[T.0]", "C(arm, Treatment(1))[T.2]",
        "z", "I(z ** 2)", "I(z ** 3)", "x:C(sex)[T.1]",
    ]  # fmt: skip
    assert names == ["(Intercept)", "x", "sex[m]", "arm[A]", "arm[C]", "poly(z, 3, raw=TRUE)1",
                     "poly(z, 3, raw=TRUE)2", "poly(z, 3, raw=TRUE)3", "x:sex[m]"]  # fmt: skip
    assert found.converged
    assert found.coefficients == pytest.approx(alone.coefficients, rel=1e-9)
    assert found.standard_errors == pytest.approx(alone.standard_errors, rel=1e-9)
    # The other implementation's own rounding, of a cubic on 20 to 90.
    assert found.coefficients == pytest.approx(expected.params[order].to_numpy(), rel=1e-5)
    assert found.standard_errors == pytest.approx(expected.bse[order].to_numpy(), rel=1e-5)
    assert found.deviance == pytest.approx(expected.deviance, rel=1e-10)


@settings(max_examples=examples(4, 10), deadline=None)
@given(seed=st.integers(0, 10**6), sites=st.integers(1, 5))
def test_any_partition_within_strata_gives_the_same_cox_model(seed: int, sites: int) -> None:
    """Sites are strata, so a site's rows may only be dealt out with its stratum."""
    data = data_of(seed)
    chance = np.random.default_rng(seed)
    data["time"] = np.ceil(chance.exponential(10, 150))
    data["died"] = (chance.random(150) < 0.6).astype(int)
    dictionary = (*ANY, number("time", 0, 200), category("died", "no", "yes"))
    rows = split(150, sites, seed)
    found = fit("Surv(time, died) ~ x + sex", "cox", dictionary, data, rows)[1]
    stratum = np.zeros(150, dtype=int)
    for place, own in enumerate(rows):
        stratum[own] = place
    x = np.column_stack([data["x"], data["sex"]])
    model = sm.PHReg(data["time"], x, status=data["died"], strata=stratum, ties="efron")
    expected = model.fit(method="newton", tol=1e-13, maxiter=100, disp=0)
    assert found.coefficients == pytest.approx(expected.params, rel=1e-6, abs=1e-8)
    assert found.standard_errors == pytest.approx(expected.bse, rel=1e-6)


def shares(sites: int, seed: int) -> list[Rows]:
    """Deal 150 rows out to sites of which none is empty."""
    return list(np.array_split(np.random.default_rng(seed).permutation(150), sites))


def place_of(rows: list[Rows]) -> Rows:
    """Return the place of each row's site."""
    site = np.zeros(150, dtype=np.intp)
    for place, own in enumerate(rows):
        site[own] = place
    return site


# ---- sites' own effects --------------------------------------------------------------------------


def test_fixed_effects_of_sites_are_those_of_a_category_of_sites() -> None:
    data = data_of(3)
    rows = shares(4, 1)
    frame = pd.DataFrame({**data, "site": place_of(rows)})
    for family, (outcome, other) in FAMILIES.items():
        found = fit(f"{outcome} ~ x + sex", family, ANY, data, rows, by_site="fixed")[1]
        expected = smf.glm(f"{outcome} ~ x + sex + C(site)", frame, family=other).fit(tol=1e-14)
        assert found.coefficients == pytest.approx(
            expected.params[["Intercept", "x", "sex"]].to_numpy(), rel=1e-7
        )
        assert found.standard_errors == pytest.approx(
            expected.bse[["Intercept", "x", "sex"]].to_numpy(), rel=1e-6
        )
        effects = [expected.params[f"C(site)[T.{place}]"] for place in (1, 2, 3)]
        assert found.site_effects == pytest.approx((0, *effects), rel=1e-6)
        assert found.residual_degrees == expected.df_resid
        assert found.null_deviance == pytest.approx(expected.null_deviance, rel=1e-9)


def test_each_sites_own_fit_is_that_of_its_rows() -> None:
    data = data_of(4)
    rows = [*shares(3, 2), np.array([], dtype=np.intp)]
    found = fit("yes ~ x + z", "logistic", ANY, data, rows, by_site="each")[1]
    assert found.each[3] == "It has no rows of the model."
    for own, alone in zip(rows[:3], found.each, strict=False):
        assert isinstance(alone, Fit)
        x = sm.add_constant(np.column_stack([data["x"], data["z"]])[own])
        expected = sm.GLM(data["yes"][own], x, family=sm.families.Binomial()).fit(tol=1e-14)
        assert alone.coefficients == pytest.approx(expected.params, rel=1e-7)


def mixed(method: str, seed: int) -> tuple[Fit, dict[str, Any], list[Rows]]:
    """Return a fit with a random intercept of six sites, and what it is of."""
    chance = np.random.default_rng(seed)
    data, rows = data_of(seed), shares(6, seed)
    for own in rows:
        data["size"][own] += chance.normal(0, chance.choice([0.0, 0.2, 2.0]))
    formula = "size ~ x + sex + (1 | site)"
    return fit(formula, "linear", ANY, data, rows, method=method)[1], data, rows


@pytest.mark.parametrize("method", ["reml", "ml"])
@settings(max_examples=examples(3, 10), deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_random_intercept_maximises_the_likelihood_of_all_rows(method: str, seed: int) -> None:
    """The likelihood is written out with the covariance of all rows."""
    found, data, rows = mixed(method, seed)
    x = np.column_stack([np.ones(150), data["x"], data["sex"]])
    y, z = data["size"], np.equal.outer(place_of(rows), np.arange(6)).astype(float)

    def log_likelihood(within: float, between: float) -> tuple[float, Any]:
        v = within * np.eye(150) + between * z @ z.T
        w = np.linalg.inv(v)
        information = x.T @ w @ x
        beta = np.linalg.solve(information, x.T @ w @ y)
        r = y - x @ beta
        size = 150 - 3 if method == "reml" else 150
        minus_two = size * np.log(2 * np.pi) + np.linalg.slogdet(v)[1] + r @ w @ r
        if method == "reml":
            minus_two += np.linalg.slogdet(information)[1]
        return -minus_two / 2, beta

    within, between = found.dispersion, found.site_variance
    best, beta = log_likelihood(within, between)
    assert found.log_likelihood == pytest.approx(best, rel=1e-10)
    assert found.coefficients == pytest.approx(beta, rel=1e-9, abs=1e-11)
    for a, b in ((1.01, 1), (0.99, 1), (1, 1.01), (1, 0.99), (1.01, 1.01)):
        assert log_likelihood(within * a, between * b + 1e-5 * (b > 1))[0] <= best + 1e-9


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_a_random_intercept_is_that_of_statsmodels(method: str) -> None:
    found, data, rows = mixed(method, 11)
    frame = pd.DataFrame({**data, "site": place_of(rows)})
    model = smf.mixedlm("size ~ x + sex", frame, groups="site")
    expected = model.fit(reml=method == "reml")
    assert found.log_likelihood == pytest.approx(expected.llf, rel=1e-8)
    assert found.coefficients == pytest.approx(expected.fe_params.to_numpy(), rel=1e-4)
    assert found.site_variance == pytest.approx(float(expected.cov_re.iloc[0, 0]), rel=1e-3)
    effects = [float(expected.random_effects[place].iloc[0]) for place in range(6)]
    assert found.site_effects == pytest.approx(effects, rel=1e-3, abs=1e-4)


# ---- what can't be fitted ------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["a number", "a level"])
def test_separation_is_said_within_few_steps(by: str) -> None:
    data = data_of(1, 60)
    data["yes"] = (
        (data["x"] > 0) * 1 if by == "a number" else np.where(data["arm"] == 2, 1, data["yes"])
    )
    try:
        found = fit("yes ~ x + arm", "logistic", ANY, data, split(60, 3))[1]
    except DocumentError as error:
        assert "tell the outcome apart" in str(error)
    else:
        assert not found.converged
        assert found.steps < 30


@pytest.mark.parametrize("family", FAMILIES)
def test_the_column_that_follows_from_others_is_named(family: str) -> None:
    data = data_of(2)
    outcome, _ = FAMILIES[family]
    constant = {**data, "t": np.full(150, 2.0)}
    for values, right, column in (
        (constant, "x + t", "t"),
        ({**data, "t": data["x"] + 2.5}, "x + t", "t"),
        ({**data, "arm": np.minimum(data["arm"], 1)}, "x + arm", r"arm\[C\]"),
    ):
        with pytest.raises(DocumentError, match=f"column {column} is"):
            fit(f"{outcome} ~ {right}", family, ANY, values, split(150, 3))


def test_an_outcome_without_variation_is_said() -> None:
    data = data_of(2)
    for family, outcome in (("logistic", "yes"), ("poisson", "count")):
        flat = {**data, outcome: np.zeros(150, dtype=data[outcome].dtype)}
        with pytest.raises(DocumentError, match="nothing to explain"):
            fit(f"{outcome} ~ x", family, ANY, flat, split(150, 3))


def test_a_cox_model_without_an_event_is_said_and_with_one_event_a_site_is_fitted() -> None:
    quiet = {**DATA, "arrest": np.zeros(len(ROSSI), dtype=int)}
    rows = [own for own in split(len(ROSSI), 3) if len(own)]
    formula = "Surv(week, arrest) ~ age"
    with pytest.raises(DocumentError, match="No site has an event"):
        fit(formula, "cox", DICTIONARY, quiet, rows)
    for own in rows:
        quiet["arrest"][own[0]] = 1
    assert fit(formula, "cox", DICTIONARY, quiet, rows)[1].events == len(rows)


def test_coefficients_are_refused_by_how_far_the_predictor_gets() -> None:
    """A year's slope and the intercept are large, and the predictor is not."""
    dictionary = (number("year", 1990, 2030), category("arm", "A", "B"), number("n", 0, 100))
    project = World().project(variables=dictionary)
    model = parse("n ~ year*arm", "poisson")
    columns = models.columns_of(model, project)
    models.check_coefficients(model, columns, np.array([-1e6, 500, 3000, -1]))
    for wild in ([-1e6, 900, 0, 0], [0, 0, 4e5, 0], [-1e6, 500, 0, 1e3], [np.nan, 0, 0, 0], [0]):
        with pytest.raises(DocumentError):
            models.check_coefficients(model, columns, np.array(wild))


def test_a_step_that_leads_out_of_range_is_halved() -> None:
    """One row is so far out that the first step would overflow."""
    chance = np.random.default_rng(8)
    x = np.append(chance.uniform(0, 1, 199), 2000.0)
    y = chance.poisson(3.0, 200) + 1.0
    y[-1] = 1e4
    dictionary = (number("y", 0, 1e6), number("x", 0, 2000))
    found = fit("y ~ x", "poisson", dictionary, {"x": x, "y": y}, split(200, 3))[1]
    expected = sm.GLM(y, sm.add_constant(x), family=sm.families.Poisson()).fit(tol=1e-14)
    assert found.converged
    assert found.coefficients == pytest.approx(expected.params, rel=1e-6)


def test_a_model_without_rows_or_with_few_is_said() -> None:
    data = data_of(2)
    nobody = [np.array([], dtype=np.intp)] * 3
    few = [np.arange(2), np.arange(2, 3)]
    for family, (outcome, _) in FAMILIES.items():
        with pytest.raises(DocumentError, match="No site has"):
            fit(f"{outcome} ~ x", family, ANY, data, nobody)
        with pytest.raises(DocumentError):
            fit(f"{outcome} ~ x + z + t + w", family, ANY, data, few)
    with pytest.raises(DocumentError, match="needs 3 sites"):
        fit("size ~ x + (1 | site)", "linear", ANY, data, split(150, 2))


@pytest.mark.parametrize(
    ("formula", "family", "settings", "says"),
    [
        ("arrest ~ age", "linear", {}, "can't be what"),
        ("age ~ prio", "logistic", {}, "can't be what .* levels \"0\" and \"1\""),
        ("age ~ site", "linear", {}, "--by-site"),
        ("Surv(week, arrest) ~ age + strata(site)", "cox", {}, "--by-site"),
        ("race ~ age", "logistic", {"weights": "prio"}, "zero or less"),
        ("prio ~ age", "gamma", {}, "can't explain"),
        ("age ~ prio + offset(race)", "poisson", {}, "can't be an offset"),
        ("age ~ prio + offset(I(age/0.01))", "poisson", {}, "explain itself"),
        ("age ~ prio + offset(I(week*10))", "poisson", {}, "too large"),
        ("log(prio) ~ age", "linear", {}, "isn't defined"),
        ("Surv(week, age) ~ prio", "cox", {}, "can't be what"),
        ("Surv(week, arrest) ~ age + strata(prio)", "cox", {}, "no category"),
        ("Surv(week, arrest) ~ bs(age, df = 20) + bs(prio, df = 20) + bs(entry, df = 20):race",
         "cox", {}, "at most 60"),
    ],
)  # fmt: skip
def test_what_the_dictionary_does_not_allow_is_said(
    formula: str, family: str, settings: dict[str, str], says: str
) -> None:
    with pytest.raises((DocumentError, UsageError), match=says):
        rossi(formula, family, **settings)


def test_the_variables_of_a_model_are_all_that_it_uses() -> None:
    model = Model.model_validate(
        {
            "family": "cox", "outcome": "week", "event": "arrest", "entry": "entry",
            "weights": "w", "strata": ["wexp"], "terms": [["age", "race"]],
            "offset": [{"form": "function", "variable": "prio", "function": "log1p"}],
        }
    )  # fmt: skip
    assert set(model.variables) == {
        "week", "arrest", "entry", "w", "wexp", "age", "race", "prio",
    }  # fmt: skip
    project = World().project(variables=DICTIONARY)
    assert check(model, project) == ["age:race[black]", "age:race[other]"]
    [column, _] = models.columns_of(model, project)
    assert column.variables == ("age", "race")
    assert column.categories == ("race",)
