"""A fit is read as R's are: summaries, tidy rows, tests, sites, a paragraph for a paper."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from lifelines.datasets import load_rossi
from scipy.stats import f

from contract.errors import DocumentError
from contract.statistics.fit import Fit
from contract.statistics.rubin import pool
from researcher.fitting import show_model
from researcher.formulas import parse
from researcher.imputed import table_of
from researcher.models import ModelAnswer
from researcher.statistics import Missing
from tests.contract.fits import Rows, category, fit, number
from tests.contract.world import World

ROSSI = load_rossi()
DATA = {name: ROSSI[name].to_numpy() for name in ROSSI}
DICTIONARY = (
    number("week", 1, 52), number("age", 15, 60), number("prio", 0, 20), number("fin", 0, 1),
    category("arrest", "no", "yes"), category("race", "black", "other"),
)  # fmt: skip
SITES = ("north", "south", "west")


def rows() -> list[Rows]:
    return list(np.array_split(np.random.default_rng(3).permutation(len(ROSSI)), 3))


def answer(formula: str, family: str, **settings: Any) -> ModelAnswer:
    """Return what a researcher gets of Rossi's data at three sites."""
    names, found = fit(formula, family, DICTIONARY, DATA, rows(), **settings)
    return ModelAnswer(
        "ab" * 32,
        parse(formula, family, **settings),
        found,
        tuple(names),
        SITES,
        (Missing("east", "offline", "It is offline."),),
        (),
        World().project(variables=DICTIONARY),
        SITES,
    )


COX = answer("Surv(week, arrest) ~ fin + age + race + prio", "cox")
LINEAR = answer("prio ~ fin + age*race", "linear")
ROBUST = answer("prio ~ fin + age*race", "linear", robust="HC1")
BY_SITE = answer("prio ~ fin + age*race", "poisson", robust="site")
MIXED = answer("arrest ~ age + (1 | site)", "logistic")
EACH = answer("arrest ~ fin + age", "logistic", by_site="each")
ALL = (
    COX, LINEAR, EACH,
    answer("prio ~ fin + offset(log(week))", "poisson", by_site="fixed"),
    answer("age ~ fin + ns(prio, df = 3)", "gamma"),
    answer("age ~ fin + (1 | site)", "linear"),
    answer("Surv(week, arrest) ~ age + strata(race)", "cox", by_site="each", ties="breslow"),
    answer("log(age) ~ relevel(race, ref = 'other') + fin", "linear", weights="week"),
    answer("Surv(week, arrest) ~ fin + age", "cox", robust=True),
    answer("arrest ~ fin + age", "logistic", by_site="each", robust=True),
    ROBUST, BY_SITE, MIXED,
)  # fmt: skip


@pytest.mark.parametrize("found", ALL, ids=lambda a: a.formula)
def test_everything_that_is_said_fits_a_terminal_and_a_notebook(found: ModelAnswer) -> None:
    said = str(found)
    assert max(map(len, said.splitlines())) <= 80
    assert said.startswith(found.formula)
    for name in found.columns:
        assert name in said
    assert "east is not in the model (It is offline.)." in said
    assert "<script" not in found._repr_html_()
    assert found.formula in found.methods
    assert "north, south, west" in found.methods
    assert "Not in the model: east." in found.methods
    again = parse(found.formula, found.model.family)
    assert (again.terms, again.intercept) == (found.model.terms, found.model.intercept)


def test_a_linear_models_summary_is_r_s() -> None:
    """The figures of summary.lm, by statsmodels."""
    x = np.column_stack([np.ones(432), ROSSI["fin"], ROSSI["age"], ROSSI["race"],
                         ROSSI["age"] * ROSSI["race"]])  # fmt: skip
    expected = sm.OLS(ROSSI["prio"].to_numpy(float), x).fit()
    assert [row.p for row in LINEAR.rows()] == pytest.approx(expected.pvalues, rel=1e-7)
    assert [row.statistic for row in LINEAR.rows()] == pytest.approx(expected.tvalues, rel=1e-8)
    low, high = expected.conf_int(0.1)[1]
    assert LINEAR.confint(0.9)["fin"] == pytest.approx((low, high), rel=1e-8)
    said = str(LINEAR)
    assert f"R-squared {expected.rsquared:.4f}, adjusted {expected.rsquared_adj:.4f}" in said
    assert f"F {expected.fvalue:.5g} on 4 and 427 df" in said
    assert f"AIC {2 * 6 - 2 * expected.llf:.6g}" in said
    assert LINEAR.ratios() == {}
    assert math.isnan(LINEAR["fin"].ratio)
    with pytest.raises(KeyError):
        LINEAR["height"]


def test_robust_errors_are_what_intervals_and_tests_are_by() -> None:
    """The figures of lmtest's coeftest, by statsmodels."""
    x = np.column_stack([np.ones(432), ROSSI["fin"], ROSSI["age"], ROSSI["race"],
                         ROSSI["age"] * ROSSI["race"]])  # fmt: skip
    ols = sm.OLS(ROSSI["prio"].to_numpy(float), x)
    expected = ols.fit(cov_type="HC1", use_t=True)
    assert [row.p for row in ROBUST.rows()] == pytest.approx(expected.pvalues, rel=1e-7)
    low, high = expected.conf_int(0.1)[1]
    assert ROBUST.confint(0.9)["fin"] == pytest.approx((low, high), rel=1e-8)
    told = ROBUST.tidy()[1]
    assert told["robust.se"] == pytest.approx(expected.bse[1], rel=1e-9)
    assert told["std.error"] == pytest.approx(ols.fit().bse[1], rel=1e-9)
    assert "robust.se" not in LINEAR.tidy()[1]
    for test, place in zip(ROBUST.wald(), (1, 2, 3, 4), strict=True):
        assert test.p == pytest.approx(expected.pvalues[place], rel=1e-6)
    assert "F " not in str(ROBUST).replace("R-squared", "")  # by the information
    assert "White (1980)" in ROBUST.methods
    assert "robust" in str(ROBUST)


def test_errors_by_site_have_one_degree_less_than_sites_and_say_so() -> None:
    row = BY_SITE["fin"]
    assert BY_SITE.law == "t"
    half = 4.302652729911275 * row.standard_error  # Student's t with two degrees
    assert (row.low, row.high) == pytest.approx((row.estimate - half, row.estimate + half))
    assert "Standard errors by 3 sites" in str(BY_SITE)
    assert "Liang and Zeger (1986)" in BY_SITE.methods
    assert "Student's t" in BY_SITE.methods
    assert "(n - 1)" not in BY_SITE.methods
    cox = answer("Surv(week, arrest) ~ fin + age", "cox", robust="site")
    wald = cox.tests()[1]
    assert wald.p == pytest.approx(f.sf(wald.statistic / 2, 2, 2))
    assert [test.p for test in cox.wald()] == pytest.approx([row.p for row in cox.rows()])


def test_a_logistic_random_intercept_says_what_it_is() -> None:
    assert MIXED.law == "z"
    assert "Variance between sites" in str(MIXED)
    assert "quadrature" in MIXED.methods
    assert "REML" not in MIXED.methods
    assert set(MIXED.site_effects()) == set(SITES)
    told = MIXED.glance()
    assert told["site.variance"] == MIXED.fit.site_variance
    assert "sigma" not in told


def test_a_cox_models_tests_are_of_all_coefficients() -> None:
    """lifelines' log-likelihood ratio test and ours, stratified alike."""
    from lifelines import CoxPHFitter

    frame = ROSSI[["week", "arrest", "fin", "age", "race", "prio"]].copy()
    frame["site"] = 0
    for place, own in enumerate(rows()):
        frame.loc[own, "site"] = place
    other = CoxPHFitter().fit(frame, "week", "arrest", strata=["site"])
    likelihood, wald, score = COX.tests()
    test = other.log_likelihood_ratio_test()
    assert likelihood.statistic == pytest.approx(test.test_statistic, rel=1e-6)
    assert likelihood.p == pytest.approx(test.p_value, rel=1e-5)
    assert wald.statistic == pytest.approx(score.statistic, rel=0.1)
    assert COX["age"].ratio == pytest.approx(other.hazard_ratios_["age"], rel=1e-6)
    assert [t.degrees for t in COX.proportionality()] == [1, 1, 1, 1, 4]


def test_terms_of_several_columns_are_tested_together() -> None:
    """statsmodels' Wald tests: chi-squared, and F of a linear model."""
    names, found = fit(
        "prio ~ age*race + poly(week, 2, raw = TRUE)", "linear", DICTIONARY, DATA, rows()
    )
    linear = ModelAnswer(**{
        **LINEAR.__dict__, "fit": found, "columns": tuple(names),
        "model": parse("prio ~ age*race + poly(week, 2, raw = TRUE)", "linear"),
    })  # fmt: skip
    age, race, week = (ROSSI[n].to_numpy(float) for n in ("age", "race", "week"))
    x = np.column_stack([np.ones(432), age, race, week, week**2, age * race])
    other = sm.OLS(ROSSI["prio"].to_numpy(float), x).fit()
    tests = {test.name: test for test in linear.wald()}
    assert list(tests) == ["age", "race", "poly(week, 2, raw=TRUE)", "age:race"]
    expected = other.f_test("x3 = 0, x4 = 0")
    found_test = tests["poly(week, 2, raw=TRUE)"]
    assert found_test.degrees == 2
    assert found_test.statistic / 2 == pytest.approx(float(expected.fvalue), rel=1e-6)
    assert found_test.p == pytest.approx(float(expected.pvalue), rel=1e-6)
    assert "Wald test of poly(week, 2, raw=TRUE)" in str(linear)
    assert tests["age"].p == pytest.approx(linear["age"].p, rel=1e-6)
    assert all(test.degrees == 1 for test in COX.wald())


def test_rows_have_brooms_names() -> None:
    first = COX.tidy(exponentiate=True)[0]
    assert list(first) == [
        "term", "estimate", "std.error", "statistic", "p.value", "conf.low", "conf.high",
    ]  # fmt: skip
    assert first["estimate"] == COX.ratios()["fin"][0] == math.exp(COX["fin"].estimate)
    assert COX.tidy()[0]["estimate"] == COX["fin"].estimate
    assert COX.glance()["nevent"] == 114
    assert LINEAR.glance()["nobs"] == 432
    with pytest.raises(DocumentError):
        list(COX.rows(1.5))


def test_how_a_model_fits_is_told_in_numbers_as_statsmodels_has_them() -> None:
    age, race, fin = (ROSSI[n].to_numpy(float) for n in ("age", "race", "fin"))
    other = sm.OLS(
        ROSSI["prio"].to_numpy(float),
        np.column_stack([np.ones(432), fin, age, race, age * race]),
    ).fit()
    told = LINEAR.glance()
    for name, true in (
        ("r.squared", other.rsquared),
        ("adj.r.squared", other.rsquared_adj),
        ("sigma", math.sqrt(other.mse_resid)),
        ("statistic", other.fvalue),
        ("p.value", other.f_pvalue),
        ("df", other.df_model),
        ("df.null", 431),
    ):
        assert told[name] == pytest.approx(true, rel=1e-9)
    assert f"R-squared {other.rsquared:.4f}" in str(LINEAR)
    assert ALL[4].glance()["dispersion"] == ALL[4].fit.dispersion


def test_records_tell_all_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    def figures(of: ModelAnswer) -> list[str]:
        return list(dict.fromkeys(str(r.get("figure", "")) for r in of.records()))

    assert figures(COX) == [
        "", "fit", "likelihood ratio test", "Wald test", "score test", "proportional hazards",
    ]  # fmt: skip
    assert figures(EACH) == ["", "fit", "site's own fit", "pooled over sites"]
    assert figures(ALL[3]) == ["", "fit", "Wald test", "site effect"]
    of_age = {r["method"]: r for r in EACH.records() if r.get("of") == "age"}
    assert list(of_age) == ["reml, Hartung and Knapp", "reml", "ml", "dl", "pm", "fixed"]
    age, other = of_age["reml, Hartung and Knapp"], of_age["dl"]
    assert (age["tau2"], age["I2"]) == (EACH.meta("age").tau2, EACH.meta("age").i2)
    laird = EACH.meta("age", "dl", hartung_knapp=False)
    assert (other["estimate"], other["std.error"]) == (laird.estimate, laird.standard_error)
    assert (other["conf.low"], other["conf.high"]) == laird.interval
    own = [r for r in EACH.records(0.9) if r.get("site") == "south" and r["term"] == "age"]
    assert [(r["conf.low"], r["conf.high"]) for r in own] == [
        (EACH.own("south", 0.9)[2].low, EACH.own("south", 0.9)[2].high)
    ]
    for model in ALL:
        show_model(model, 0.95, as_json=True)
        lines = capsys.readouterr().out.splitlines()
        told = [json.loads(line, parse_constant=pytest.fail) for line in lines]
        assert told[-1]["figure"] == "answer"
        assert (told[-1]["sites"], told[-1]["jobs"]) == (list(model.answered), [model.job])


def test_sites_own_fits_are_pooled_and_drawn() -> None:
    pooled = EACH.meta("age")
    assert EACH["age"].estimate == pytest.approx(pooled.estimate)
    assert (EACH["age"].low, EACH["age"].high) == pytest.approx(pooled.interval)
    assert EACH["age"].p == pytest.approx(pooled.p)
    assert EACH.meta("age", "fixed").tau2 == 0
    own = EACH.own("south")[2]
    x = np.column_stack([np.ones(144), ROSSI["fin"].iloc[rows()[1]], ROSSI["age"].iloc[rows()[1]]])
    y = ROSSI["arrest"].iloc[rows()[1]]
    alone = sm.GLM(y.to_numpy(), x, family=sm.families.Binomial()).fit(tol=1e-13)
    assert own.estimate == pytest.approx(alone.params[2], rel=1e-7)
    assert own.p == pytest.approx(alone.pvalues[2], rel=1e-6)
    forest = EACH.forest("age")
    assert forest.labels == (*SITES, "pooled")
    assert forest.values[1] == pytest.approx(math.exp(own.estimate))
    assert forest.logarithmic
    assert COX.forest().labels == COX.columns
    assert LINEAR.forest().null == 0
    with pytest.raises(DocumentError, match="by_site='each'"):
        COX.meta("age")
    with pytest.raises(DocumentError, match="no fit of north"):
        COX.own("north")


def test_a_site_without_a_fit_is_named() -> None:
    fits = list(EACH.fit.each)
    assert isinstance(fits[0], Fit)
    changed = ModelAnswer(**{
        **EACH.__dict__,
        "fit": Fit(**{**EACH.fit.__dict__, "each": ("It has no rows of the model.", *fits[1:])}),
    })  # fmt: skip
    assert "north alone has no fit. It has no rows of the model." in changed.notes
    assert "Without a fit of their own, and so in no coefficient: north." in changed.methods
    assert "subjects of 2 sites (south, west)" in changed.methods
    assert "subjects at 2 sites" in str(changed)
    assert changed.forest("age").labels == ("south", "west", "pooled")
    with pytest.raises(DocumentError, match="north alone has no fit"):
        changed.own("north")


def test_where_a_splines_knots_are_is_said() -> None:
    [note] = [note for note in ALL[4].notes if "knots" in note]
    assert note == (
        "ns(prio, df=3): knots evenly over 0 to 20, at 6.667, 13.33; R's would be at the data's "
        "quantiles."
    )


def test_a_fit_that_did_not_converge_is_no_estimate() -> None:
    changed = ModelAnswer(
        **{**COX.__dict__, "fit": Fit(**{**COX.fit.__dict__, "converged": False})}
    )
    assert "Its figures are not estimates." in changed.notes[1]
    assert "did not converge" in changed.methods
    pooled = {row.name: pool([row.estimate] * 2, [row.standard_error**2] * 2) for row in COX.rows()}
    found = table_of(pooled, "", [COX, COX])
    assert "jobs abababababab" in found.methods
    assert found.receipts == COX.receipts * 2
    with pytest.raises(DocumentError, match="did not converge"):
        table_of(pooled, "", [COX, changed])
    other = ModelAnswer(**{**COX.__dict__, "answered": SITES[:2]})
    with pytest.raises(DocumentError, match="other sites"):
        table_of(pooled, "", [COX, other])


def test_a_model_says_what_absent_sites_mean_for_it() -> None:
    assert not any("listed subjects" in note for note in LINEAR.notes)
    found = ModelAnswer(**{**LINEAR.__dict__, "absent_share": 0.3})
    assert found.notes[1].startswith("30% of the listed subjects are at sites that are not in this")
