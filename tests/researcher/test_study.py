"""A study's findings are what SciPy and statsmodels say of the pooled rows."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from contract import deriving
from contract.dictionary import Variable
from contract.errors import DocumentError, UsageError
from contract.statistics.rates import rate_ratio
from researcher.findings import Finding
from researcher.plots import save
from researcher.study import Study
from tests.researcher.local import LocalConsortium, split

ARMS = ("control", "treatment")
VARIABLES = (
    Variable(name="age", kind="number", minimum=0, maximum=120, bins=120, unit="a", whole=True),
    Variable(name="bmi", kind="number", minimum=10, maximum=60, bins=50),
    Variable(name="arm", kind="category", levels=ARMS),
    Variable(name="stage", kind="category", levels=("I", "II", "III")),
    Variable(name="ill", kind="category", levels=("no", "yes")),
)
N = 900


def rows() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(11)
    arm = generator.integers(0, 2, N)
    stage = generator.integers(0, 3, N)
    age = np.rint(np.clip(generator.normal(55 + 2 * arm, 14, N), 0, 120))
    bmi = np.clip(generator.normal(22 + age / 20, 4, N), 10, 60)
    bmi[generator.random(N) < 0.06] = np.nan
    ill = (generator.random(N) < 0.2 + 0.1 * arm + 0.05 * stage).astype(np.int64)
    ill[generator.random(N) < 0.04] = -1
    return {"age": age, "bmi": bmi, "arm": arm, "stage": stage, "ill": ill}


TABLE = rows()


@pytest.fixture
def consortium() -> LocalConsortium:
    return LocalConsortium(VARIABLES, split(TABLE, 4))


@pytest.fixture
def study(consortium: LocalConsortium) -> Study:
    return consortium.study()


def row(found: Finding, **wanted: str) -> dict[str, object]:
    """The one row whose cells are these."""
    (only,) = (r for r in found.tidy() if all(r[k] == v for k, v in wanted.items()))
    return dict(only)


def test_numbers_are_described_as_scipy_has_them(study: Study) -> None:
    found = row(study.describe("age", "bmi"), variable="bmi")
    present = TABLE["bmi"][~np.isnan(TABLE["bmi"])]
    assert found["n"] == present.size
    assert found["missing"] == N - present.size
    assert found["mean"] == pytest.approx(present.mean(), rel=1e-12)
    assert found["SD"] == pytest.approx(present.std(ddof=1), rel=1e-12)
    assert found["skew"] == pytest.approx(stats.skew(present, bias=False), rel=1e-9)
    assert found["kurt"] == pytest.approx(stats.kurtosis(present, bias=False), rel=1e-9)
    between = [r for r in study.describe("age").glance() if r["figure"] == "interquartile range"]
    assert [r["estimate"] for r in between] == pytest.approx([stats.iqr(TABLE["age"])])


def test_quantiles_of_all_numbers_are_one_question_and_within_a_cell_of_the_pooled_ones(
    consortium: LocalConsortium,
) -> None:
    found = consortium.study().quantiles("bmi", "age", shares=(0.25, 0.5, 0.75))
    assert len(consortium.asked) == 1
    assert {line["variable"] for line in found.tidy()} == {"bmi", "age"}
    for line in found.tidy():
        values = TABLE[str(line["variable"])]
        true = np.nanquantile(values, float(line["share"]))
        assert float(line["cell.low"]) - 1e-9 <= true <= float(line["cell.high"]) + 1e-9
        assert abs(float(line["value"]) - true) <= 1.0


def test_boxes_of_all_numbers_are_one_question_and_within_a_cell(
    consortium: LocalConsortium, tmp_path: Path
) -> None:
    found = consortium.study().box_plots("age", "bmi", by="arm")
    assert len(consortium.asked) == 1
    for arm, label in enumerate(("control", "treatment")):
        for name in ("age", "bmi"):
            held = TABLE[name][(TABLE["arm"] == arm) & ~np.isnan(TABLE[name])]
            line = row(found, variable=name, group=label)
            assert line["n"] == held.size
            for column, share in (("5 %", 0.05), ("Q1", 0.25), ("median", 0.5), ("95 %", 0.95)):
                true = np.quantile(held, share)
                cell = next(q for q in found.result[name, label] if q.q == share)
                assert cell.low - 1e-9 <= true <= cell.high + 1e-9
                assert line[column] == cell.value
    axes = found.plot()
    assert [one.get_text() for one in axes.get_xticklabels()] == [
        "age, control", "age, treatment", "bmi, control", "bmi, treatment",
    ]  # fmt: skip
    with pytest.raises(DocumentError, match="no grid"):
        consortium.study().box_plots("stage")


def test_the_density_of_two_numbers_is_their_counts_on_both_grids(study: Study) -> None:
    found = study.density("age", "bmi")
    one = found.result
    known = ~np.isnan(TABLE["bmi"]) & ~np.isnan(TABLE["age"])
    true = np.histogram2d(
        TABLE["age"][known], TABLE["bmi"][known], [one.first_edges, one.second_edges]
    )[0]
    assert np.array_equal(one.counts, true)
    assert one.outside == known.sum() - true.sum()
    assert sum(float(line["count"]) for line in found.tidy()) == true.sum()
    found.plot()


def test_a_category_is_described_by_its_levels(study: Study) -> None:
    found = study.describe("age", "stage", "ill", by="arm")
    line = row(found, variable="ill", level="yes", group="control")
    ill = TABLE["ill"][TABLE["arm"] == 0]
    told = [line[name] for name in ("n", "missing", "count", "share")]
    known = (ill >= 0).sum()
    assert told == [known, (ill < 0).sum(), (ill == 1).sum(), (ill == 1).sum() / known]
    assert row(found, variable="age", group="control")["n"] == ill.size
    assert max(map(len, str(found).splitlines())) <= 80


def test_a_t_test_is_scipys_over_the_pooled_rows(study: Study) -> None:
    control, treatment = (TABLE["age"][TABLE["arm"] == arm] for arm in (0, 1))
    for equal in (False, True):
        found = study.t_test("age", by="arm", equal_variances=equal).result
        true = stats.ttest_ind(control, treatment, equal_var=equal)
        assert found.statistic == pytest.approx(true.statistic, rel=1e-9)
        assert found.p_value == pytest.approx(true.pvalue, rel=1e-9)


def test_one_sided_t_tests_and_null_differences_are_scipys(consortium: LocalConsortium) -> None:
    study = consortium.study(confidence=0.9)
    control, treatment = (TABLE["age"][TABLE["arm"] == arm] for arm in (0, 1))
    for way in ("two-sided", "less", "greater"):
        found = study.t_test("age", by="arm", alternative=way, null=-1.5).result  # type: ignore[arg-type]
        true = stats.ttest_ind(control, treatment + -1.5, equal_var=False, alternative=way)
        assert found.statistic == pytest.approx(true.statistic, rel=1e-9)
        assert found.p_value == pytest.approx(true.pvalue, rel=1e-9)
        ends = true.confidence_interval(0.9)
        wanted = (ends.low - 1.5, ends.high - 1.5)
        assert (found.estimate.low, found.estimate.high) == pytest.approx(wanted, rel=1e-9)
        one = row(study.mean("age", alternative=way, null=55))  # type: ignore[arg-type]
        alone = stats.ttest_1samp(TABLE["age"], 55, alternative=way)
        assert one["p.value"] == pytest.approx(alone.pvalue, rel=1e-9)
        ends = alone.confidence_interval(0.9)
        assert (one["conf.low"], one["conf.high"]) == pytest.approx((ends.low, ends.high))
    with pytest.raises(DocumentError, match="one-sided"):
        consortium.study(confidence=0.4).t_test("age", by="arm", alternative="less")


def test_shares_of_levels_have_wilsons_and_exact_intervals(study: Study) -> None:
    found = row(study.proportion("ill", by="arm"), group="treatment", level="yes")
    known = (TABLE["arm"] == 1) & (TABLE["ill"] >= 0)
    ill = int((TABLE["ill"][known] == 1).sum())
    true = stats.binomtest(ill, int(known.sum()))
    assert (found["count"], found["n"]) == (ill, known.sum())
    for ends, method in (("conf", "wilson"), ("exact", "exact")):
        wanted = true.proportion_ci(method=method)
        assert (found[f"{ends}.low"], found[f"{ends}.high"]) == pytest.approx(
            (wanted.low, wanted.high), rel=1e-9
        )
    with pytest.raises(DocumentError, match="category"):
        study.proportion("age")


def test_a_tests_accuracy_is_counted_of_second_levels(study: Study) -> None:
    found = study.accuracy("arm", "ill")
    treated, known = TABLE["arm"] == 1, TABLE["ill"] >= 0
    ill = TABLE["ill"] == 1
    sensitivity = (treated & ill).sum() / ill.sum()
    assert row(found, figure="sensitivity")["value"] == pytest.approx(sensitivity, rel=1e-12)
    assert row(found, figure="negative predictive value")["value"] == pytest.approx(
        (~treated & known & ~ill).sum() / (~treated & known).sum(), rel=1e-12
    )
    assert max(map(len, str(found).splitlines())) <= 80


def test_two_by_two_tells_yates_and_plain_chi_squared_and_whom_to_treat(study: Study) -> None:
    known = TABLE["ill"] >= 0
    table = np.zeros((2, 2))
    np.add.at(table, (TABLE["arm"][known], TABLE["ill"][known]), 1)
    told = {str(r["figure"]): r for r in study.crosstab("arm", "ill").glance()}
    for correction, name in ((True, "with Yates' correction"), (False, ", without correction")):
        (one,) = (r for figure, r in told.items() if figure.endswith(name))
        true = stats.chi2_contingency(table, correction=correction)
        assert one["statistic"] == pytest.approx(true.statistic, rel=1e-9)
    risks = table[:, 1] / table.sum(axis=1)
    whom = told["number needed to treat"]["estimate"]
    assert whom == pytest.approx(1 / (risks[1] - risks[0]), rel=1e-9)


def test_an_analysis_of_variance_is_scipys(study: Study) -> None:
    groups = [TABLE["age"][TABLE["stage"] == stage] for stage in range(3)]
    found = study.anova("age", by="stage", equal_variances=True).result
    true = stats.f_oneway(*groups)
    assert found.test.statistic == pytest.approx(true.statistic, rel=1e-9)
    assert found.test.p_value == pytest.approx(true.pvalue, rel=1e-9)
    pairs = [stats.ttest_ind(a, b).pvalue for a, b in itertools.combinations(groups, 2)]
    adjusted = study.anova("age", by="stage", equal_variances=True, adjust="bonferroni")
    told = [r["p.value"] for r in adjusted.glance() if "p by Bonferroni" in str(r["figure"])]
    assert told == pytest.approx([min(3 * p, 1) for p in pairs], rel=1e-9)
    assert "pairs of groups adjusted by Bonferroni" in adjusted.methods
    plain = study.anova("age", by="stage", equal_variances=True, adjust="none")
    told = [r["p.value"] for r in plain.glance() if r["figure"] == "Student's t test"]
    assert told == pytest.approx(pairs, rel=1e-9)
    assert "None" not in str(plain)


def test_ranks_on_whole_numbers_are_scipys(study: Study) -> None:
    control, treatment = (TABLE["age"][TABLE["arm"] == arm] for arm in (0, 1))
    found = study.ranks("age", by="arm").result
    true = stats.mannwhitneyu(control, treatment, method="asymptotic")
    assert found.test.statistic == pytest.approx(true.statistic, rel=1e-12)
    assert found.test.p_value == pytest.approx(true.pvalue, rel=1e-9)


def test_a_crosstab_is_tested_as_scipy_does(study: Study) -> None:
    known = TABLE["ill"] >= 0
    table = np.array(
        [[np.sum((TABLE["stage"] == s) & (TABLE["ill"] == i) & known) for i in (0, 1)]
         for s in range(3)]
    )  # fmt: skip
    found = study.crosstab("stage", "ill")
    true = stats.chi2_contingency(table, correction=False)
    assert found.result["all"].test.p_value == pytest.approx(true.pvalue, rel=1e-9)
    assert row(found, stage="II", ill="yes")["count"] == table[1, 1]


def test_correlations_are_those_of_complete_subjects(study: Study) -> None:
    known = ~np.isnan(TABLE["bmi"])
    true = stats.pearsonr(TABLE["age"][known], TABLE["bmi"][known])
    found = study.correlations("age", "bmi").tidy()[0]
    interval = true.confidence_interval()
    assert found["r"] == pytest.approx(true.statistic, rel=1e-9)
    assert found["conf.low"] == pytest.approx(interval.low, rel=1e-6)
    assert found["conf.high"] == pytest.approx(interval.high, rel=1e-6)


def test_correlations_can_be_of_all_who_have_both_values() -> None:
    table = TABLE | {"sbp": np.where(TABLE["arm"] == 1, np.nan, TABLE["age"] + TABLE["stage"])}
    sbp = Variable(name="sbp", kind="number", minimum=0, maximum=200)
    consortium = LocalConsortium((*VARIABLES, sbp), split(table, 3))
    study = consortium.study()
    found = study.correlations("age", "bmi", "sbp", pairwise=True)
    assert len(consortium.asked) == 1
    for line in found.tidy():
        x, y = (table[str(line[k])] for k in ("of", "with"))
        both = ~np.isnan(x) & ~np.isnan(y)
        assert line["n"] == both.sum()
        assert line["r"] == pytest.approx(stats.pearsonr(x[both], y[both]).statistic, rel=1e-9)
    everything = study.covariances("age", "bmi", "sbp").result["all"]
    rows = np.column_stack([table[name] for name in ("age", "bmi", "sbp")])
    wanted = np.cov(rows[~np.isnan(rows).any(axis=1)].T)
    assert everything == pytest.approx(wanted, rel=1e-9)
    (answer,) = study.covariances("age", "bmi").answers
    told = {(r.statistic, r.variable, r.level): r.value for r in answer.rows()}
    both = ~np.isnan(TABLE["bmi"])
    wanted = np.cov(TABLE["age"][both], TABLE["bmi"][both])
    assert told["variance", "bmi", ""] == pytest.approx(wanted[1, 1], rel=1e-9)
    assert told["covariance", "age", "bmi"] == pytest.approx(wanted[0, 1], rel=1e-9)
    assert told["mean", "age", ""] == pytest.approx(TABLE["age"][both].mean(), rel=1e-12)
    assert told["missing", "age x bmi", ""] == N - both.sum()


def test_table_1_is_one_question_and_says_how_groups_differ(consortium: LocalConsortium) -> None:
    found = consortium.study().table_one("age", "stage", "ill", by="arm")
    assert len(consortium.asked) == 1
    control, treatment = (TABLE["age"][TABLE["arm"] == arm] for arm in (0, 1))
    line = row(found, variable="age", group="control")
    told = [line[name] for name in ("n", "missing", "mean", "SD")]
    assert told == pytest.approx([control.size, 0, control.mean(), control.std(ddof=1)], rel=1e-12)
    spread = np.sqrt((control.var(ddof=1) + treatment.var(ddof=1)) / 2)
    apart = (control.mean() - treatment.mean()) / spread
    (smd,) = (r for r in found.glance() if r["of"] == "age: control and treatment")
    assert smd["estimate"] == pytest.approx(apart, rel=1e-9)
    (differ,) = (r for r in found.glance() if r["of"] == "age")
    assert differ["p.value"] == pytest.approx(
        stats.ttest_ind(control, treatment, equal_var=False).pvalue, rel=1e-9
    )
    second = (TABLE["stage"] == 1) & (TABLE["arm"] == 1)
    line = row(found, variable="stage", level="II", group="treatment")
    assert (line["count"], line["share"]) == (second.sum(), second.sum() / treatment.size)
    printed = str(found)
    assert f"{control.mean():.4g} ({control.std(ddof=1):.3g})" in printed
    assert f"{abs(apart):.3f}" in printed
    assert all(level in printed for level in ("  I ", "  II ", "  III ", "  missing"))


def test_p_values_of_several_are_adjusted_where_that_is_wanted(study: Study) -> None:
    for ask in (
        lambda adjust: study.table_one("age", "bmi", "stage", "ill", by="arm", adjust=adjust),
        lambda adjust: study.correlations("age", "bmi", by="arm", adjust=adjust),
    ):
        plain, held = (
            [r for r in (*found.tidy(), *found.glance()) if "p.value" in r]
            for found in map(ask, ("none", "bonferroni"))
        )
        of = 4 if len(plain) > 2 else 1  # in each arm there is one pair of numbers
        wanted = [min(1.0, of * float(r["p.value"])) for r in plain]
        assert [r["p.value"] for r in held] == pytest.approx(wanted, rel=1e-12)
    found = study.table_one("age", "bmi", "stage", by="arm", adjust="benjamini-hochberg")
    assert "Benjamini and Hochberg" in found.methods
    assert all("Benjamini" in str(r["figure"]) for r in found.glance() if "p.value" in r)
    with pytest.raises(DocumentError, match="no adjustment"):
        study.table_one("age", by="arm", adjust="tukey")


def test_a_table_1_without_groups_is_of_everybody(study: Study) -> None:
    found = study.table_one("age", "ill")
    line = row(found, variable="age", group="all")
    assert (line["n"], line["mean"]) == (N, pytest.approx(TABLE["age"].mean(), rel=1e-12))
    ill, known = (TABLE["ill"] == 1).sum(), (TABLE["ill"] >= 0).sum()
    line = row(found, variable="ill", level="yes")
    assert (line["count"], line["missing"], line["share"]) == (ill, N - known, ill / known)
    assert found.glance() == []
    assert "SMD" not in str(found)


def test_a_table_1_tells_of_all_groups_together_and_medians_where_they_are_wanted(
    consortium: LocalConsortium,
) -> None:
    found = consortium.study().table_one(
        "age", "bmi", "stage", by="arm", overall=True, medians=["age"]
    )
    assert len(consortium.asked) == 1
    line = row(found, variable="bmi", group="all")
    bmi = TABLE["bmi"][~np.isnan(TABLE["bmi"])]
    assert (line["n"], line["missing"]) == (bmi.size, N - bmi.size)
    assert (line["mean"], line["SD"]) == pytest.approx((bmi.mean(), bmi.std(ddof=1)), rel=1e-12)
    line = row(found, variable="stage", level="II", group="all")
    assert line["count"] == (TABLE["stage"] == 1).sum()
    groups = {"all": TABLE["age"]}
    groups |= {name: TABLE["age"][TABLE["arm"] == at] for at, name in enumerate(ARMS)}
    for group, held in groups.items():
        line = row(found, variable="age", group=group)
        wanted = np.quantile(held, (0.25, 0.5, 0.75))
        assert [line[name] for name in ("Q1", "median", "Q3")] == pytest.approx(wanted)
    (differ,) = (r for r in found.glance() if r["of"] == "age")
    held = stats.kruskal(groups["control"], groups["treatment"])
    assert differ["statistic"] == pytest.approx(held.statistic, rel=1e-9)
    assert differ["p.value"] == pytest.approx(held.pvalue, rel=1e-9)
    first, median = (next(one for one in str(found).splitlines() if w in one) for w in ("n ", "["))
    assert [int(word) for word in first.split() if word.isdigit()] == [*map(len, groups.values())]
    assert "{:.4g} [{:.4g}, {:.4g}]".format(*np.quantile(TABLE["age"], (0.5, 0.25, 0.75))) in median
    with pytest.raises(DocumentError, match="no median"):
        consortium.study().table_one("age", "stage", by="arm", medians=["stage"])


def test_intervals_are_of_the_confidence_that_a_study_has(consortium: LocalConsortium) -> None:
    control, treatment = (TABLE["age"][TABLE["arm"] == arm] for arm in (0, 1))
    wanted = stats.ttest_ind(control, treatment, equal_var=False).confidence_interval(0.9)
    found = consortium.study(confidence=0.9).t_test("age", by="arm")
    line = row(found, figure="control less treatment")
    assert (line["conf.low"], line["conf.high"]) == pytest.approx((wanted.low, wanted.high))
    assert "90% from" in str(found)
    assert "95%" not in str(found)
    with pytest.raises(DocumentError, match="confidence"):
        consortium.study(confidence=95)


def test_a_finding_fits_a_terminal_and_says_its_methods(study: Study) -> None:
    for found in (
        study.table_one("age", "bmi", "stage", by="arm"),
        study.table_one("age", "bmi", "ill", by="stage", overall=True, medians=["age", "bmi"]),
        study.describe("age", "bmi", by="arm"),
        study.crosstab("arm", "stage", "ill"),
    ):
        assert max(map(len, str(found).splitlines())) <= 80
        assert "site-0" in found.methods
        assert "declared" in found.methods
        assert found.title in found._repr_html_() or "Table" in found.title
        json.dumps(found.tidy())


def test_a_finding_is_a_frame(study: Study) -> None:
    found = study.t_test("age", by="arm")
    assert found.to_polars().height == len(found.rows)
    assert list(found.to_pandas().columns) == list(found.columns)


def test_findings_are_drawn_into_files(study: Study, tmp_path: Path) -> None:
    for name, found in (
        ("forest", study.t_test("age", by="arm")),
        ("bars", study.histogram("age", by="arm")),
        ("heat", study.correlations("age", "bmi")),
    ):
        assert found.figure is not None
        path = tmp_path / f"{name}.png"
        save(found.figure, path)
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with pytest.raises(UsageError, match="png"):
        save(found.figure, tmp_path / "x.exe")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="nothing to draw"):
        study.crosstab("arm", "ill").plot()


def test_what_cannot_be_compared_is_said(study: Study) -> None:
    with pytest.raises(UsageError, match=r"there are 3 .*: choose, as --where"):
        study.t_test("age", by="stage")
    with pytest.raises(DocumentError, match="two or three"):
        study.crosstab("arm")
    with pytest.raises(DocumentError, match="two numbers"):
        study.correlations("age")


def test_a_table_with_too_many_like_it_is_tested_by_random_ones_from_a_seed() -> None:
    generator = np.random.default_rng(5)
    levels = tuple("abcdefghij")
    variables = [Variable(name=name, kind="category", levels=levels) for name in ("u", "v")]
    table = {name: generator.integers(0, 10, 1500) for name in ("u", "v")}
    study = LocalConsortium(variables, split(table, 2)).study()
    assert "too many like it" in str(study.crosstab("u", "v"))
    first, again = (
        [
            r
            for r in study.crosstab("u", "v", simulate=1).glance()
            if "simulated" in str(r["figure"])
        ]
        for _ in range(2)
    )
    assert first == again
    (drawn,) = first
    (chi,) = (r for r in study.crosstab("u", "v").glance() if "Pearson" in str(r["figure"]))
    assert float(drawn["p.value"]) == pytest.approx(float(chi["p.value"]), abs=0.1)


# ---- predictions and raters ----------------------------------------------------------------------

RATED = (
    Variable(name="risk", kind="number", minimum=0, maximum=1, bins=20),
    Variable(name="died", kind="category", levels=("no", "yes")),
    *(
        Variable(name=name, kind="category", levels=("benign", "unsure", "malignant"))
        for name in ("ana", "bo", "cem")
    ),
    *(Variable(name=name, kind="number", minimum=0, maximum=80, bins=80) for name in ("m1", "m2")),
)


def ratings() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(3)
    risk = generator.integers(0, 20, N) / 20 + 0.025
    truth = generator.integers(0, 3, N)
    seen = {
        name: np.where(generator.random(N) < 0.8, truth, generator.integers(0, 3, N))
        for name in ("ana", "bo", "cem")
    }
    size = generator.normal(30, 8, N)
    return {
        "risk": risk,
        "died": (generator.random(N) < risk).astype(np.int64),
        "m1": size + generator.normal(0, 1, N),
        "m2": size + generator.normal(0.5, 1, N),
        **seen,
    }


SCORES = ratings()


@pytest.fixture
def rated() -> Study:
    return LocalConsortium(RATED, split(SCORES, 3)).study()


def test_the_area_under_the_curve_is_mann_and_whitneys(rated: Study) -> None:
    ill, well = (SCORES["risk"][SCORES["died"] == d] for d in (1, 0))
    true = stats.mannwhitneyu(ill, well).statistic / (ill.size * well.size)
    found = rated.roc("risk", "died")
    assert found.result["all"].auc.value == pytest.approx(true, rel=1e-12)
    line = found.tidy()[0]
    assert (line["yes"], line["no"]) == (ill.size, well.size)
    assert float(line["bins.low"]) <= true <= float(line["bins.high"])
    narrow = dataclasses.replace(rated, confidence=0.5).roc("risk", "died").result["all"].auc
    wide = found.result["all"].auc
    assert wide.low < narrow.low < narrow.value == wide.value < narrow.high < wide.high
    told = {str(r["figure"]): r["estimate"] for r in found.glance()}
    at = float(told["threshold by Youden's J"])
    called = SCORES["risk"] >= at
    assert told["sensitivity there"] == called[SCORES["died"] == 1].mean()
    assert told["specificity there"] == (~called[SCORES["died"] == 0]).mean()


def test_a_calibrated_risk_has_slope_one(rated: Study) -> None:
    found = rated.calibration("risk", "died").result
    assert found.slope.low < 1 < found.slope.high
    expected = SCORES["risk"].sum()
    assert found.ratio.value == pytest.approx(SCORES["died"].sum() / expected, rel=1e-9)
    ill, well = (SCORES["risk"][SCORES["died"] == d] for d in (1, 0))
    records = rated.calibration("risk", "died").glance()
    told = {r["figure"]: r.get("estimate") for r in records}
    assert told["Brier score, least by bins"] < told["Brier score"]  # type: ignore[operator]
    assert "conf.low" not in next(r for r in records if r["figure"] == "Brier score")
    # Risks are the middles of their bins.
    assert told["discrimination slope"] == pytest.approx(ill.mean() - well.mean(), rel=1e-9)
    happened = [np.mean(SCORES["died"][SCORES["risk"] == r]) for r in np.unique(SCORES["risk"])]
    assert [b.observed.value for b in found.bins] == pytest.approx(happened, rel=1e-12)


def test_kappas_are_statsmodels(rated: Study) -> None:
    from statsmodels.stats.inter_rater import aggregate_raters, cohens_kappa, fleiss_kappa

    table = np.zeros((3, 3))
    np.add.at(table, (SCORES["ana"], SCORES["bo"]), 1)
    found = rated.agreement("ana", "bo")
    assert row(found, figure="Cohen's kappa")["value"] == pytest.approx(
        cohens_kappa(table).kappa, rel=1e-9
    )
    assert row(found, figure="quadratic weights")["value"] == pytest.approx(
        cohens_kappa(table, wt="quadratic").kappa, rel=1e-9
    )
    everybody = np.column_stack([SCORES[n] for n in ("ana", "bo", "cem")])
    counted, _ = aggregate_raters(everybody)
    of_three = row(rated.agreement("ana", "bo", "cem"), figure="Fleiss' kappa")
    assert of_three["value"] == pytest.approx(fleiss_kappa(counted), rel=1e-9)
    assert 0 <= float(str(of_three["p.value"])) < 1e-9
    line = row(found, figure="Cohen's kappa")
    assert line["p.value"] == pytest.approx(cohens_kappa(table).pvalue_two_sided, abs=1e-12)
    scored = rated.agreement("ana", "bo", scores=(0, 1, 4))
    assert "the scores 0, 1, 4" in scored.methods
    apart = 1 - np.abs(np.subtract.outer([0, 1, 4], [0, 1, 4])) / 4
    wanted = cohens_kappa(table, weights=4 * (1 - apart)).kappa
    assert row(scored, figure="linear weights")["value"] == pytest.approx(wanted, rel=1e-9)
    assert (
        row(scored, figure="linear weights")["value"]
        != row(found, figure="linear weights")["value"]
    )
    with pytest.raises(UsageError, match="benign, unsure, malignant"):
        rated.agreement("ana", "bo", scores=(0, 1))


def test_classes_of_several_are_told_as_scikit_learn_has_them(rated: Study) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    found = rated.accuracy("ana", "bo")
    truth, called = SCORES["bo"], SCORES["ana"]
    told = metrics.precision_recall_fscore_support(truth, called)
    for at, level in enumerate(("benign", "unsure", "malignant")):
        line = row(found, **{"class": level})
        figures = [line[name] for name in ("precision", "recall", "F1", "n")]
        assert figures == pytest.approx([figure[at] for figure in told], rel=1e-12)
    mean = metrics.f1_score(truth, called, average="macro")
    assert row(found, **{"class": "mean"})["F1"] == pytest.approx(mean, rel=1e-12)
    (share,) = found.glance()
    assert share["estimate"] == pytest.approx((truth == called).mean(), rel=1e-12)
    with pytest.raises((DocumentError, UsageError), match="two levels"):
        rated.accuracy("ana", "died")


# Krippendorff 2011, "Computing Krippendorff's alpha-reliability", section E: 0 is no rating.
OBSERVED = {
    "a": (1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0),
    "b": (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3),
    "c": (0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0),
    "d": (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0),
}


def test_alpha_with_ratings_that_lack_is_the_published_one() -> None:
    grades = tuple("12345")
    variables = [Variable(name=n, kind="category", levels=grades) for n in OBSERVED]
    derive = {
        "bins": {"known": [{"variable": name} for name in OBSERVED]},
        "edges": [2, 3, 4],
        "levels": ["2", "2", "3", "4"],  # who has one rating is in no pair
    }
    variables.append(
        Variable.model_validate(
            {"name": "ratings", "kind": "category", "levels": ["2", "3", "4"]} | {"derive": derive}
        )
    )
    rated = {name: np.array(said) - 1 for name, said in OBSERVED.items()}
    table = deriving.Table(12, {n: deriving.Coded(c, grades) for n, c in rated.items()}, {})
    assert variables[-1].derive is not None
    counted, _ = deriving.fit(deriving.derive(variables[-1].derive, table), variables[-1])
    assert isinstance(counted, deriving.Coded)
    assert counted.codes.tolist() == [1, 2, 2, 2, 2, 2, 2, 2, 2, 1, 0, 0]
    study = LocalConsortium(tuple(variables), split(rated | {"ratings": counted.codes}, 3)).study()
    found = study.agreement(*OBSERVED, ratings="ratings")
    scored = study.agreement(*OBSERVED, ratings="ratings", scores=(1, 2, 3, 4, 5))
    for metric, true in (
        ("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849), ("ratio", 0.797),
    ):  # fmt: skip
        found = scored if metric in ("interval", "ratio") else found
        alpha = row(found, figure=f"Krippendorff's alpha, {metric}")["value"]
        assert alpha == pytest.approx(true, abs=5e-4)
    with pytest.raises(DocumentError, match="numbers of ratings"):
        study.agreement("a", "b", ratings="c")


def test_limits_of_agreement_and_icc_are_those_of_the_pooled_differences(rated: Study) -> None:
    apart = SCORES["m1"] - SCORES["m2"]
    found = rated.bland_altman("m1", "m2").result
    assert found.bias.value == pytest.approx(apart.mean(), rel=1e-9)
    assert found.upper.value == pytest.approx(
        apart.mean() + stats.norm.ppf(0.975) * apart.std(ddof=1), rel=1e-9
    )
    both = np.column_stack([SCORES["m1"], SCORES["m2"]])
    between = 2 * both.mean(axis=1).var(ddof=1)
    residual = (both - both.mean(axis=1, keepdims=True) - both.mean(axis=0) + both.mean()).ravel()
    left = (residual**2).sum() / (N - 1)
    assert rated.icc("m1", "m2").result.single[2].value == pytest.approx(
        (between - left) / (between + left), rel=1e-9
    )


def test_raters_of_different_things_are_refused(rated: Study) -> None:
    with pytest.raises(DocumentError, match="same levels"):
        rated.agreement("ana", "died")
    with pytest.raises(DocumentError, match="two levels"):
        rated.roc("risk", "ana")


# ---- survival ------------------------------------------------------------------------------------

FOLLOWED = (
    Variable(name="months", kind="number", minimum=0, maximum=61, bins=61, whole=True),
    Variable(name="died", kind="category", levels=("no", "yes")),
    Variable(name="arm", kind="category", levels=("control", "treatment")),
)


def followed() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(7)
    arm = generator.integers(0, 2, N)
    death = np.ceil(generator.exponential(30 + 15 * arm, N))
    lost = np.ceil(generator.uniform(6, 60, N))
    return {
        "months": np.minimum(death, lost),
        "died": (death <= lost).astype(np.int64),
        "arm": arm,
    }


LIVES = followed()


@pytest.mark.parametrize("strata", [(), ("arm",)])
def test_curves_and_the_log_rank_test_are_lifelines(strata: tuple[str, ...]) -> None:
    lifelines = pytest.importorskip("lifelines")
    from lifelines.statistics import logrank_test

    consortium = LocalConsortium(FOLLOWED, split(LIVES, 3))
    consortium.strata = strata
    found = consortium.study().survival("months", "died", by="arm")
    assert consortium.asked[0][0].by == ("arm" if strata else None)
    for place, arm in enumerate(("control", "treatment")):
        of = LIVES["arm"] == place
        fitted = lifelines.KaplanMeierFitter().fit(LIVES["months"][of], LIVES["died"][of])
        table = found.result.tables[arm]
        known = table.at_risk > 0
        true = fitted.survival_function_at_times(table.times[known]).to_numpy()
        np.testing.assert_allclose(table.survival[known], true, rtol=1e-9)
        assert table.quantile() == fitted.median_survival_time_
    control, treatment = (LIVES["arm"] == place for place in (0, 1))
    true = logrank_test(
        LIVES["months"][control],
        LIVES["months"][treatment],
        LIVES["died"][control],
        LIVES["died"][treatment],
    )
    assert found.result.test.statistic == pytest.approx(true.test_statistic, rel=1e-9)
    # One baseline hazard for all sites: the grid has a bin for each month but the last two.
    (ratio,) = (r for r in found.glance() if r["figure"] == "hazard ratio to control")
    time = np.where(LIVES["months"] >= 60, 60, LIVES["months"])
    cox = sm.PHReg(time, treatment[:, None].astype(float), status=LIVES["died"], ties="efron")
    expected = cox.fit(method="newton", tol=1e-14)
    assert ratio["estimate"] == pytest.approx(np.exp(expected.params[0]), rel=1e-9)
    ends = np.exp(expected.conf_int()[0])
    assert (ratio["conf.low"], ratio["conf.high"]) == pytest.approx(tuple(ends), rel=1e-8)
    assert max(map(len, str(found).splitlines())) <= 80


def test_survival_tells_every_time_and_prints_some_of_them() -> None:
    lifelines = pytest.importorskip("lifelines")
    study = LocalConsortium(FOLLOWED, split(LIVES, 3)).study(confidence=0.9)
    found = study.survival("months", "died", at=(12, 24), until=36)
    fitted = lifelines.KaplanMeierFitter(alpha=0.1).fit(LIVES["months"], LIVES["died"])
    true = fitted.event_table.iloc[1:]
    # The last bin holds two values, and ends at the greater.
    assert [r["months"] for r in found.tidy()] == [*true.index[:-1], 61]
    for name, column in (("events", "observed"), ("lost", "censored"), ("at risk", "at_risk")):
        assert [r[name] for r in found.tidy()] == true[column].tolist()
    printed = found.in_print
    assert printed is not None
    assert len(printed.rows) == 12 < len(found.rows)
    assert sum(int(line[-2]) for line in printed.rows) == LIVES["died"].sum()
    told = {str(r["figure"]): r for r in found.glance()}
    ends = fitted.confidence_interval_
    for time in (12, 24):
        one = told[f"survival at {time}"]
        assert one["estimate"] == pytest.approx(fitted.predict(time), rel=1e-9)
        low, high = ends.loc[time]
        assert (one["conf.low"], one["conf.high"]) == pytest.approx((low, high), rel=1e-6)
    mean = lifelines.utils.restricted_mean_survival_time(fitted, t=36)
    assert told["restricted mean to 36"]["estimate"] == pytest.approx(mean, rel=1e-9)
    assert told["median"]["estimate"] == fitted.median_survival_time_
    other = study.survival("months", "died", at=(12,), scale="log")
    one = {str(r["figure"]): r for r in other.glance()}["survival at 12"]
    assert one["conf.low"] == pytest.approx(
        one["estimate"] * np.exp(-1.6448536269514722 * one["std.error"] / one["estimate"])
    )
    assert "log(-log)" not in other.methods


def test_groups_curves_are_compared_within_strata_and_with_weights() -> None:
    pytest.importorskip("lifelines")
    from lifelines.statistics import logrank_test

    generator = np.random.default_rng(2)
    table = LIVES | {"sex": generator.integers(0, 2, N)}
    sex = Variable(name="sex", kind="category", levels=("f", "m"))
    consortium = LocalConsortium((*FOLLOWED, sex), split(table, 3))
    plain = consortium.study().survival("months", "died", by="arm")
    found = consortium.study().survival("months", "died", by="arm", stratum="sex")
    (test,) = (r for r in found.glance() if str(r["figure"]).startswith("stratified log-rank"))
    from statsmodels.duration.survfunc import survdiff

    true = survdiff(table["months"], table["died"], table["arm"], strata=table["sex"])
    assert test["statistic"] == pytest.approx(true[0], rel=1e-9)
    assert found.rows == plain.rows
    peto = consortium.study().survival("months", "died", by="arm", rho=1).result.test
    by_arm = [
        (LIVES["months"][LIVES["arm"] == a], LIVES["died"][LIVES["arm"] == a]) for a in (0, 1)
    ]
    true = logrank_test(
        by_arm[0][0], by_arm[1][0], by_arm[0][1], by_arm[1][1],
        weightings="fleming-harrington", p=1, q=0,
    )  # fmt: skip
    assert peto.statistic == pytest.approx(true.test_statistic, rel=1e-9)
    with pytest.raises(DocumentError, match="which groups"):
        consortium.study().survival("months", "died", stratum="sex")


def test_rates_are_events_by_the_time_of_the_same_subjects() -> None:
    consortium = LocalConsortium(FOLLOWED, split(LIVES, 3))
    found = consortium.study().rates("months", "died", by="arm")
    assert len(consortium.asked) == 1
    seen = []
    for place, arm in enumerate(("control", "treatment")):
        of = LIVES["arm"] == place
        seen.append((int(LIVES["died"][of].sum()), float(LIVES["months"][of].sum())))
        line = row(found, group=arm)
        assert (line["events"], line["n"]) == (seen[-1][0], of.sum())
        assert line["rate"] == pytest.approx(1000 * seen[-1][0] / seen[-1][1], rel=1e-12)
    one = next(r for r in found.glance() if "against" in str(r))
    assert one["p.value"] == pytest.approx(rate_ratio(*seen).p_value, rel=1e-9)
    gone = {
        **LIVES,
        "months": np.where(np.arange(len(LIVES["months"])) == 0, np.nan, LIVES["months"]),
    }
    with pytest.raises(DocumentError, match="same subjects"):
        LocalConsortium(FOLLOWED, split(gone, 3)).study().rates("months", "died")


def test_a_survival_curve_is_drawn(tmp_path: Path) -> None:
    found = LocalConsortium(FOLLOWED, split(LIVES, 3)).study().survival("months", "died", by="arm")
    assert found.figure is not None
    save(found.figure, tmp_path / "km.svg")
    assert "<svg" in (tmp_path / "km.svg").read_text()
