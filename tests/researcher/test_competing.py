"""A study tells the incidence of competing events, by group and stratum, in one question."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from contract.dictionary import Variable
from contract.errors import UsageError
from contract.statistics import competing
from researcher.analysing import Analysis, Particular, run
from researcher.plots import save
from tests.contract.test_competing import STRATA, TABLES
from tests.researcher.local import LocalConsortium, split

KINDS = ("relapse", "death")
VARIABLES = (
    Variable(name="months", kind="number", minimum=1, maximum=8, bins=7, whole=True),
    Variable(name="ended", kind="category", levels=("followed", *KINDS)),
    Variable(name="died", kind="category", levels=("no", "yes")),
    Variable(name="arm", kind="category", levels=("control", "treatment")),
    Variable(name="centre", kind="category", levels=("north", "south")),
)


def rows() -> dict[str, np.ndarray]:
    """The subjects of ``STRATA``, one a row."""
    places = [
        (month + 1.0, ended, arm, centre)
        for centre, arms in enumerate(STRATA)
        for arm, months in enumerate(arms)
        for month, counts in enumerate(months)
        for ended, count in enumerate(counts)
        for _ in range(count)
    ]
    columns = np.array(places).T
    return {
        "months": columns[0],
        **{name: columns[at].astype(int) for at, name in enumerate(("ended", "arm", "centre"), 1)},
    }


@pytest.mark.parametrize("strata", [(), ("arm",)])
def test_incidences_are_of_all_sites_subjects_and_tests_by_group(strata: tuple[str, ...]) -> None:
    consortium = LocalConsortium(VARIABLES, split(rows(), 3))
    consortium.strata = strata
    found = consortium.study().cumulative_incidence("months", "ended", by="arm", at=[3, 0, 99])
    assert len(consortium.asked) == 1
    assert consortium.asked[0][0].by == ("arm" if strata else None)
    arms = [TABLES[0].merge(TABLES[1]), TABLES[2]]
    for name, table in zip(("control", "treatment"), arms, strict=True):
        last = [r for r in found.tidy() if r["group"] == name and r["months"] == 3]
        assert [r["event"] for r in last] == list(KINDS)
        assert [r["incidence"] for r in last] == pytest.approx(table.incidence[:, 2], rel=1e-12)
        assert [r["events"] for r in last] == table.events[:, 2].tolist()
    told = {(r["of"], r["figure"]): r for r in found.glance()}
    assert told["relapse", "Gray's test"]["p.value"] == pytest.approx(
        competing.gray(arms).p_value, rel=1e-9
    )
    at_three = told["death, treatment", "incidence at 3"]
    assert at_three["std.error"] == pytest.approx(TABLES[2].errors[1, 2], rel=1e-9)
    assert told["death, control", "incidence at 0"]["estimate"] == 0
    assert "estimate" not in told["death, control", "incidence at 99"]
    assert ("death, treatment", "cause-specific hazard ratio to control") in told
    assert max(map(len, str(found).splitlines())) <= 80
    assert "Gray's test, and" in found.methods
    weighed = consortium.study().cumulative_incidence("months", "ended", by="arm", rho=1)
    assert "Gray's test with the weights (1 - F)^1, and" in weighed.methods


def test_a_stratum_makes_the_tests_stratified_and_leaves_the_curves() -> None:
    study = LocalConsortium(VARIABLES, split(rows(), 2)).study()
    asked = Particular(stratum="centre", at=[2.0], rho=0.0)
    found = run(study, Analysis.INCIDENCE, ["months", "ended"], "arm", asked)
    told = {(r["of"], r["figure"]): r for r in found.glance()}
    # R, cmprsk 2.2: cuminc(t, status, group, strata = centre).
    test = told["relapse", "stratified Gray's test"]
    assert test["statistic"] == pytest.approx(3.35924810600, rel=1e-9)
    plain = study.cumulative_incidence("months", "ended", by="arm", at=[2.0])
    assert found.rows == plain.rows


def test_of_everybody_there_are_curves_and_no_tests(tmp_path: Path) -> None:
    study = LocalConsortium(VARIABLES, split(rows(), 2)).study()
    found = study.cumulative_incidence("months", "ended")
    assert found.glance() == []
    save(found.figure, tmp_path / "curves.svg")  # type: ignore[arg-type]
    drawn = (tmp_path / "curves.svg").read_text()
    assert "<svg" in drawn
    with pytest.raises(UsageError, match="three levels"):
        study.cumulative_incidence("months", "died")
