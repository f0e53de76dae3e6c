"""Variables compared with each other are as R 4.2's functions have them on published data."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from contract.dictionary import Variable
from contract.errors import DocumentError
from contract.statistics.summaries import Shape
from researcher.analysing import show
from researcher.findings import Finding
from researcher.study import Study
from tests.researcher.local import LocalConsortium, split

CANNED_TUNA = (
    (44.4, 45.9, 41.9, 53.3, 44.7, 44.1, 50.7, 45.2, 60.1),
    (2.6, 3.1, 2.5, 5.0, 3.6, 4.0, 5.2, 2.8, 3.8),
)
"""Hollander and Wolfe 1973, p. 187: R's example of ``cor.test``."""
SLEEP = (
    (0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0),
    (1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4),
)
"""Student 1908: R's ``sleep``."""
PLANTS = {
    "ctrl": (4.17, 5.58, 5.18, 6.11, 4.50, 4.61, 5.17, 4.53, 5.33, 5.14),
    "trt1": (4.81, 4.17, 4.41, 3.59, 5.87, 3.83, 6.03, 4.89, 4.32, 4.69),
    "trt2": (6.31, 5.12, 5.54, 5.50, 5.37, 5.29, 4.92, 6.15, 5.80, 5.26),
}
"""Dobson 1983: R's ``PlantGrowth``."""


def number(name: str, low: float, high: float, bins: int = 100) -> Variable:
    return Variable(name=name, kind="number", minimum=low, maximum=high, bins=bins)


def category(name: str, *levels: str) -> Variable:
    return Variable(name=name, kind="category", levels=levels)


def study(variables: list[Variable], columns: Mapping[str, NDArray[np.generic]]) -> Study:
    return LocalConsortium(variables, split(columns, 3)).study()  # type: ignore[arg-type]


def pair(first: tuple[float, ...], second: tuple[float, ...]) -> Study:
    variables = [number("x", -10, 10), number("y", -10, 10)]
    return study(variables, {"x": np.array(first), "y": np.array(second)})


def of_counts(names: tuple[Variable, ...], counts: NDArray[np.int64]) -> Study:
    """A study of as many subjects as a crosstab of categories counts."""
    cells = np.repeat(np.indices(counts.shape).reshape(counts.ndim, -1), counts.ravel(), axis=1)
    return study(list(names), {v.name: cells[i] for i, v in enumerate(names)})


def glanced(found: Finding, figure: str, of: str = "") -> dict[str, float]:
    (one,) = (r for r in found.glance() if r["figure"] == figure and r.get("of", "") == of)
    return {name: value for name, value in one.items() if not isinstance(value, str)}


def test_a_paired_t_test_is_rs_of_students_sleep() -> None:
    found = pair(*SLEEP).paired_t_test("x", "y")
    said = glanced(found, "paired t test")
    assert said["statistic"] == pytest.approx(-4.0621, abs=5e-5)
    assert (said["df"], said["estimate"]) == (9, pytest.approx(-1.58))
    assert said["p.value"] == pytest.approx(0.002833, abs=5e-7)
    assert (said["conf.low"], said["conf.high"]) == pytest.approx((-2.4598858, -0.7001142))


def test_rank_correlations_are_rs_of_canned_tuna() -> None:
    lengths, scores = map(np.array, CANNED_TUNA)
    grids = [number("x", 40, 61, 70), number("y", 2.05, 6.05, 40)]
    found = study(grids, {"x": lengths, "y": scores}).rank_correlation("x", "y")
    assert glanced(found, "Spearman's correlation")["estimate"] == pytest.approx(0.6)
    tau = glanced(found, "Kendall's test")
    assert tau["estimate"] == pytest.approx(4 / 9)
    # R: cor.test(x, y, method = "kendall", exact = FALSE)
    assert tau["p.value"] == pytest.approx(0.09529, abs=5e-6)


def test_a_trend_is_rs_of_smokers_among_lung_patients() -> None:
    # Fleiss 1981, p. 139: R's example of prop.trend.test.
    smokers, patients = np.array([83, 90, 129, 70]), np.array([86, 93, 136, 82])
    trial, smokes = category("trial", "a", "b", "c", "d"), category("smokes", "no", "yes")
    asked = of_counts((trial, smokes), np.column_stack([patients - smokers, smokers]))
    for first, second in (("trial", "smokes"), ("smokes", "trial")):
        found = asked.rank_correlation(first, second)
        said = glanced(found, "Cochran and Armitage's test for trend")
        assert said["statistic"] ** 2 == pytest.approx(8.2249222852)
        assert said["statistic"] < 0, "the share of smokers falls"
        assert said["p.value"] == pytest.approx(0.004132, abs=5e-7)


def test_order_needs_a_grid() -> None:
    plain = Variable(name="x", kind="number", minimum=0, maximum=1)
    with pytest.raises(DocumentError, match="no grid"):
        LocalConsortium([plain, category("c", "a", "b")], []).study().rank_correlation("x", "c")


def test_a_partial_correlation_is_that_of_what_a_regression_leaves() -> None:
    generator = np.random.default_rng(5)
    z = generator.normal(size=200)
    x, y = z + generator.normal(size=200), z + generator.normal(size=200)
    left = [v - np.polyval(np.polyfit(z, v, 1), z) for v in (x, y)]
    wanted = stats.pearsonr(*left).statistic
    asked = study([number(n, -9, 9) for n in "xyz"], {"x": x, "y": y, "z": z})
    found = asked.correlations("x", "y", given=["z"])
    assert [row[1:3] for row in found.rows] == [("x", "y")]
    said = glanced(found, "partial correlation", "x with y")
    assert said["estimate"] == pytest.approx(wanted, rel=1e-9)
    assert said["df"] == 197
    assert "given z" in str(found)


def test_pairs_of_groups_are_compared_as_rs_pairwise_t_test() -> None:
    values = np.array([v for some in PLANTS.values() for v in some])
    codes = np.repeat(np.arange(3), 10)
    asked = study(
        [number("weight", 0, 10), category("group", *PLANTS)], {"weight": values, "group": codes}
    )
    found = asked.anova("weight", by="group")
    # pairwise.t.test(weight, group, pool.sd = FALSE), with Holm's adjustment.
    for of, p in (
        ("ctrl less trt1", 0.2503825085875),
        ("ctrl less trt2", 0.0957985112039),
        ("trt1 less trt2", 0.0278952141518),
    ):
        assert glanced(found, "Welch's t test, p by Holm", of)["p.value"] == pytest.approx(p)
        assert of in str(found)
    assert glanced(found, "Bartlett's test", "group")["statistic"] == pytest.approx(2.87857378724)


def test_risks_are_of_the_second_level_among_those_of_the_second() -> None:
    # Hosmer and Lemeshow 1989: birth weight below 2500 g by smoking; odds ratio 2.02 (1.08, 3.78).
    smoke, low = category("smoke", "no", "yes"), category("low", "no", "yes")
    found = of_counts((smoke, low), np.array([[86, 29], [44, 30]])).crosstab("smoke", "low")
    assert glanced(found, "risk ratio")["estimate"] == pytest.approx((30 / 74) / (29 / 115))
    assert glanced(found, "risk difference")["estimate"] == pytest.approx(30 / 74 - 29 / 115)
    said = glanced(found, "odds ratio")
    assert [round(said[k], 2) for k in ("estimate", "conf.low", "conf.high")] == [2.02, 1.08, 3.78]
    assert "Risks are of low = yes, and compare smoke = yes with no." in str(found)
    # R's fisher.test, whose figures have three digits: 2.014137 (1.028780 to 3.964904).
    exact = glanced(found, "Fisher's exact test")
    assert [exact[k] for k in ("estimate", "conf.low", "conf.high")] == pytest.approx(
        [2.014137, 1.028780, 3.964904], rel=1e-3
    )
    third = category("race", "white", "black", "other")
    # By mother's race, R's mantelhaen.test: 3.086 (1.491 to 6.390).
    tables = np.array([[[40, 4], [33, 19]], [[11, 5], [4, 6]], [[35, 20], [7, 5]]])
    strata = of_counts((smoke, low, third), np.moveaxis(tables, 0, 2))
    common = glanced(strata.crosstab("smoke", "low", "race"), "Mantel and Haenszel's odds ratio")
    assert common["estimate"] == pytest.approx(3.08638125261291)
    assert (common["conf.low"], common["conf.high"]) == pytest.approx(
        (1.49073956177483, 6.38994864075343)
    )


def test_three_categories_of_any_levels_are_tested_together_and_in_each_stratum() -> None:
    """R 4.2.2 of HairEyeColor: mantelhaen.test, summary, and chisq.test of each sex."""
    counts = [32, 53, 10, 3, 11, 50, 10, 30, 10, 25, 7, 5, 3, 15, 7, 8, 36, 66, 16, 4, 9, 34, 7, 64,
              5, 29, 7, 5, 2, 14, 7, 8]  # fmt: skip
    of = (category("eye", *"abcd"), category("hair", *"efgh"), category("sex", "man", "woman"))
    found = of_counts(of, np.moveaxis(np.reshape(counts, (2, 4, 4)), 0, 2))
    found = found.crosstab("eye", "hair", "sex")
    for figure, statistic in (
        ("Generalised Cochran, Mantel and Haenszel's test", 140.2833320514),
        ("Test of mutual independence", 164.9247174),
        ("sex = man: Pearson's chi-squared test", 41.28028879),
        ("sex = woman: Pearson's chi-squared test", 106.6637338),
    ):
        assert glanced(found, figure)["statistic"] == pytest.approx(statistic, rel=1e-8)
        assert figure in str(found).replace("\n", " ")
    assert max(map(len, str(found).splitlines())) <= 80


def test_two_judgements_of_two_levels_are_compared_by_mcnemars_test() -> None:
    # Agresti 1990, p. 350: approval ratings, R's example of mcnemar.test.
    then, now = category("then", "approve", "not"), category("now", "approve", "not")
    asked = of_counts((then, now), np.array([[794, 150], [86, 570]]))
    levels = ("approve", "not")
    assert then.levels == now.levels == levels
    said = glanced(asked.agreement("then", "now"), "McNemar's test")
    assert said["statistic"] == pytest.approx(16.8177966102)


def test_skewness_and_kurtosis_are_told_in_all_three_definitions() -> None:
    # Joanes and Gill 1998; as type 1, 2 and 3 of R's e1071 and methods 1 to 3 of DataSHIELD.
    values = np.random.default_rng(2).gamma(2.0, size=40)
    found = study([number("x", 0, 20)], {"x": values}).describe("x")
    n, spread = len(values), values.std(ddof=1)
    third, fourth = (float(((values - values.mean()) ** k).mean()) for k in (3, 4))
    for figure, wanted in (
        ("skewness g1", stats.skew(values)),
        ("skewness b1", third / spread**3),
        ("excess kurtosis g2", stats.kurtosis(values)),
        ("excess kurtosis b2", fourth / spread**4 - 3),
    ):
        assert glanced(found, figure, "x")["estimate"] == pytest.approx(wanted, rel=1e-9)
    row = found.tidy()[0]
    assert row["skew"] == pytest.approx(stats.skew(values, bias=False))
    assert row["kurt"] == pytest.approx(stats.kurtosis(values, bias=False))
    assert glanced(found, "Jarque and Bera's test", "x")["statistic"] == pytest.approx(
        stats.jarque_bera(values).statistic
    )
    assert n == row["n"]
    assert all(math.isnan(v) for v in (Shape().g1, Shape().b1, Shape().g2, Shape().b2))


def test_json_tells_tests_after_the_rows(capsys: pytest.CaptureFixture[str]) -> None:
    found = pair(*SLEEP).paired_t_test("x", "y")
    show(found, as_json=True, methods=False)
    *lines, origin = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["figure"] for line in lines] == ["mean x", "mean y", "x less y", "paired t test"]
    assert lines[-1]["p.value"] == pytest.approx(0.002833, abs=5e-7)
    assert (origin["figure"], origin["lane"], origin["notes"]) == ("answer", "exact", found.notes)
    assert origin["sites"] == list(found.answers[0].answered)
    assert origin["jobs"] == [found.answers[0].job]


def test_many_numbers_are_described_within_80_columns_unbroken() -> None:
    names = ("pregnancies", "glucose", "pressure", "pedigree")
    generator = np.random.default_rng(9)
    columns = {n: generator.normal(50, 10, 60) for n in names}
    found = study([number(n, -1e6, 1e6) for n in names], columns).describe(*names)
    printed = str(found).splitlines()
    assert max(map(len, printed)) <= 80
    for name in names:
        assert any(line.split()[:1] == [name] for line in printed), "a name isn't broken"
