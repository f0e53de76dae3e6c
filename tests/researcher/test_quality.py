"""The report on quality says what the pooled rows say, in the domains of PROBAST."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from typer.testing import CliRunner

from contract.dictionary import Variable
from contract.errors import UsageError
from contract.statistics.answers import Part
from researcher.cli import app
from researcher.quality import DOMAINS, Mark, Plan, QualityReport, assess
from researcher.reference import Reference, read_reference
from researcher.statistics import Missing
from tests.researcher.local import LocalConsortium, split

VARIABLES = (
    Variable(name="age", kind="number", minimum=18, maximum=90, bins=9),
    Variable(name="bmi", kind="number"),
    Variable(name="sex", kind="category", levels=("F", "M")),
    Variable(name="stage", kind="category", levels=("I", "II", "III")),
    Variable(name="ill", kind="category", levels=("no", "yes")),
)
N = 1000


def rows() -> dict[str, Any]:
    generator = np.random.default_rng(3)
    sex = generator.integers(0, 2, N)
    age = np.rint(generator.normal(60, 12, N))
    bmi = generator.normal(27, 4, N)
    bmi[generator.random(N) < 0.25] = np.nan
    stage = generator.choice(3, N, p=[0.6, 0.3, 0.1])
    stage[(generator.random(N) < 0.2) & (sex == 0)] = -1
    ill = (generator.random(N) < 0.03).astype(np.int64)
    ill[generator.random(N) < 0.08] = -1
    return {"age": age, "bmi": bmi, "sex": sex, "stage": stage, "ill": ill}


TABLE = rows()


@pytest.fixture
def consortium() -> LocalConsortium:
    return LocalConsortium(VARIABLES, split(TABLE, 4))


REFERENCE = Reference(
    {"sex": {"F": 0.51, "M": 0.49}, "stage": {"I": 2, "II": 1}}, {"age": (50, 10)}
)


@pytest.fixture
def report(consortium: LocalConsortium) -> QualityReport:
    return consortium.study().quality(
        *("age", "bmi", "sex", "stage"),
        by="sex",
        outcome="ill",
        predictors=["age", "stage"],
        reference=REFERENCE,
    )


def mark(report: QualityReport, what: str, of: str) -> Mark:
    (found,) = (m for m in report.result if (m.what, m.of) == (what, of))
    assert isinstance(found, Mark)
    return found


def test_it_is_one_question(consortium: LocalConsortium, report: QualityReport) -> None:
    assert len(consortium.asked) == 1
    assert [m.domain for m in report.result] == sorted(
        (m.domain for m in report.result), key=list(DOMAINS).index
    )


def test_shares_are_those_of_the_pooled_rows(report: QualityReport) -> None:
    missing = np.isnan(TABLE["bmi"]).mean()
    assert mark(report, "share missing", "bmi").value == pytest.approx(missing)
    assert mark(report, "share missing", "bmi").concern == "high"
    outside = ((TABLE["age"] < 18) | (TABLE["age"] > 90)).mean()
    assert mark(report, "share out of range", "age").value == pytest.approx(outside)
    assert mark(report, "share missing", "age").concern == ""
    gap = (TABLE["stage"][TABLE["sex"] == 0] < 0).mean()
    assert mark(report, "share missing, gap by sex", "stage").value == pytest.approx(gap)
    assert mark(report, "share missing, gap by sex", "stage").sentence == "most in F"
    assert mark(report, "subjects", "all sites").value == N


def test_representativeness_is_a_standardised_difference(report: QualityReport) -> None:
    age = TABLE["age"]
    wanted = (age.mean() - 50) / np.sqrt((age.var(ddof=1) + 100) / 2)
    found = mark(report, "SMD from reference", "age")
    assert found.value == pytest.approx(wanted, rel=1e-6)
    assert (found.concern, found.domain) == ("high", "participants")
    # Yang and Dalton 2012, by SciPy's Mahalanobis distance.
    held = TABLE["stage"][TABLE["stage"] >= 0]
    p, q = np.bincount(held, minlength=3) / held.size, np.array([2, 1, 0]) / 3

    def covariance(shares: Any) -> Any:
        return (np.diag(shares) - np.outer(shares, shares))[1:, 1:]

    inverse = np.linalg.inv((covariance(p) + covariance(q)) / 2)
    found = mark(report, "SMD from reference", "stage")
    assert found.value == pytest.approx(mahalanobis(p[1:], q[1:], inverse), rel=1e-6)


def test_events_are_counted_and_set_against_the_parameters(report: QualityReport) -> None:
    events, n = int((TABLE["ill"] == 1).sum()), int((TABLE["ill"] >= 0).sum())
    assert mark(report, "events", "yes").value == events
    assert mark(report, "event rate", "yes").value == pytest.approx(events / n)
    found = mark(report, "events per parameter", "3 parameters")  # age, and two levels of stage
    assert found.value == pytest.approx(events / 3)
    assert (found.concern, found.domain) == ("high", "analysis")
    assert "overfitted" in found.sentence


@pytest.mark.parametrize(("parameters", "concern"), [(1, ""), (2, "some"), (3, "high")])
def test_ten_and_twenty_events_per_parameter_are_the_limits(
    consortium: LocalConsortium, parameters: int, concern: str
) -> None:
    report = consortium.study().quality(outcome="ill", parameters=parameters)
    assert (
        mark(
            report, "events per parameter", f"{parameters} parameter{'s' if parameters > 1 else ''}"
        ).concern
        == concern
    )


def test_the_rarer_outcome_counts_and_of_a_number_the_subjects(consortium: LocalConsortium) -> None:
    report = consortium.study().quality(outcome="bmi", predictors=["age"])
    found = mark(report, "subjects per parameter", "1 parameter")
    assert found.value == np.isfinite(TABLE["bmi"]).sum()
    common = LocalConsortium(VARIABLES, [{**TABLE, "ill": np.where(TABLE["ill"] < 0, -1, 1)}])
    report = common.study().quality(outcome="ill", parameters=1)
    assert mark(report, "events per parameter", "1 parameter").value == 0


def test_sites_are_compared_when_each_is_asked() -> None:
    sites = split(TABLE, 3)
    sites[1]["age"] = sites[1]["age"] + 20
    sites[2]["bmi"] = np.full_like(sites[2]["bmi"], np.nan)
    consortium = LocalConsortium(VARIABLES, sites)
    report = consortium.study().quality("age", "bmi", "sex", each_site=True)
    assert len(consortium.asked) == 4
    found = mark(report, "SMD between sites", "age")
    assert found.concern == "high"
    assert "site-1" in found.sentence
    assert mark(report, "share missing at site-2", "bmi").value == 1
    assert mark(report, "SMD between sites", "sex").concern != "high"


def test_small_sites_that_are_drawn_from_one_population_are_of_no_concern() -> None:
    study = LocalConsortium(VARIABLES, split(TABLE, 12)).study()
    report = study.quality("age", "bmi", "sex", each_site=True)
    for name in ("age", "bmi", "sex"):
        found = mark(report, "SMD between sites", name)
        assert found.value > 0.1
        assert found.concern == ""
        assert found.sentence.startswith("within chance: site-")


def test_large_sites_that_differ_are_of_concern_however_far_small_ones_lie_by_chance() -> None:
    spread = np.linspace(-20, 20, 400)
    ages = (50 + spread, 54 + spread, 50 + spread[::80], 62 + spread[::80])
    study = LocalConsortium(VARIABLES, [{"age": age} for age in ages]).study()
    found = mark(study.quality("age", each_site=True), "SMD between sites", "age")
    assert found.sentence == "site-0, site-1"
    assert found.value == pytest.approx(0.345, abs=0.01)
    assert found.concern != ""


def test_what_is_not_told_and_who_is_not_there_is_said(report: QualityReport) -> None:
    answer = report.answers[0]
    parts = tuple(
        replace(part, part=Part({}, withheld=True)) if part.statistic.variable == "age" else part
        for part in answer.parts
    )
    gone = replace(answer, parts=parts, missing=(Missing("far", "absent", "It was away."),))
    found = assess(gone, Plan("ill", ("age",)), REFERENCE, "sex", {"site-0": 900, "site-1": 100})
    assert mark(found, "SMD from reference", "age").concern == "not told"
    assert mark(found, "site not there", "far").concern == "some"
    assert mark(found, "share of largest site", "site-0").value == 0.9
    assert "far" in str(found)


def test_it_is_one_page_of_eighty_columns_and_html_and_tidy(report: QualityReport) -> None:
    text = str(report)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 70
    for domain, untold in DOMAINS.items():
        assert f"{domain}: " in text
        assert untold.split(":")[1].strip()[:30] in text
    assert "<pre" in report._repr_html_()
    assert {r["domain"] for r in report.tidy()} == set(DOMAINS)
    assert report.to_polars().height == len(report.rows)
    assert "PROBAST" in report.methods


def test_a_reference_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "census.toml"
    path.write_text("[sex]\nF = 51\nM = 49\n[age]\nmean = 50\nsd = 10\n")
    assert read_reference(path) == Reference({"sex": {"F": 51, "M": 49}}, {"age": (50, 10)})
    for wrong in (
        "sex = 1",
        "[sex]\nF = -1",
        "[sex]\n",
        "[age]\nmean = 1\nsd = 0",
        "[",
        "[a]\nb=true",
    ):
        path.write_text(wrong)
        with pytest.raises(UsageError):
            read_reference(path)


def test_a_level_that_only_the_reference_has_is_an_error(consortium: LocalConsortium) -> None:
    with pytest.raises(UsageError, match="level"):
        consortium.study().quality("sex", reference=Reference({"sex": {"X": 1}}))


def test_the_command_is_there() -> None:
    said = CliRunner().invoke(app, ["quality", "--help"])
    assert said.exit_code == 0
    assert "Example:" in said.output
