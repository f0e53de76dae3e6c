"""Answers of a whole consortium: who is in them, who is not, and what is said of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from contract.errors import JobFailed
from researcher import levels, mean
from tests.end_to_end.federation import PROJECT, SUBJECTS, Federation, records


def test_a_merged_answer_is_that_of_all_rows_together(trio: Federation) -> None:
    with trio.connect() as ana:
        answer = ana.statistics(PROJECT, [mean("age", by="arm"), levels("outcome")])
    rows = [r for i, site in enumerate(trio.sites) for r in records(site, i, few=False)]
    for arm in "AB":
        ages = [float(str(r["age"])) for r in rows if r["arm"] == arm]
        assert answer[0].moments(arm).n == len(ages)
        assert answer[0].moments(arm).mean == pytest.approx(sum(ages) / len(ages), rel=1e-12)
    assert answer[1].counts().counts == (120, 60)
    assert answer.answered == trio.sites
    assert {r.site for r in answer.receipts} == set(trio.sites)


def test_a_suppressed_site_leaves_numerator_and_denominator_and_the_answer_says_so(
    trio: Federation,
) -> None:
    with trio.connect() as ana:
        answer = ana.statistics(PROJECT, [levels("rare"), levels("outcome")], lane="exact")
    rare, outcome = answer.parts
    assert rare.withheld == ("west",)
    assert rare.counts().counts == (90, 30)
    assert rare.counts().n == 2 * SUBJECTS
    assert outcome.counts().n == 3 * SUBJECTS
    [note] = answer.notes
    assert "west withheld levels of rare (33% of subjects)" in note
    assert rare.missing_share == pytest.approx(1 / 3, abs=0.02)
    assert "numerator and denominator alike" in note


def test_sites_that_are_away_or_too_late_or_refuse_are_named_with_their_share_of_the_subjects(
    federations: Callable[..., Federation],
) -> None:
    federation = federations("here", "away", "late", "often")
    federation.settings |= {
        "WARDGATE_COORDINATOR_JOBS__OFFLINE_GRACE_SECONDS": "1",
        "WARDGATE_COORDINATOR_JOBS__STATISTICS_SECONDS": "6",
    }
    federation.bring_up(minimum=1)
    policy = federation.home("often") / "policy.toml"
    with federation.connect() as ana:
        whole = ana.statistics(PROJECT, [mean("age")])
        policy.write_text(policy.read_text().replace("per_hour = 100000", "per_hour = 1"))
        federation.node("away").kill()
        os.kill(federation.node("late").pid, signal.SIGSTOP)
        try:
            answer = ana.statistics(PROJECT, [mean("age")])
        finally:
            os.kill(federation.node("late").pid, signal.SIGCONT)
    assert (len(whole.answered), whole.absent_share, whole.notes) == (4, 0, [])
    assert answer.answered == ("here",)
    assert {m.site: m.state for m in answer.missing} == {
        "away": "absent", "late": "absent", "often": "refused",
    }  # fmt: skip
    # Nothing was suppressed: the estimate stands, and is said to be of a quarter of the patients.
    assert answer[0].moments().n == SUBJECTS
    assert answer[0].missing_share == 0
    assert answer.absent_share == pytest.approx(0.75)
    assert answer.notes[-1] == (
        "75% of the listed subjects are at sites that are not in this answer (2 offline or too "
        "late, 1 refused): it is of the others' patients."
    )


def test_fewer_sites_than_the_minimum_are_refused_at_once_or_fail_with_their_own_code(
    trio: Federation,
) -> None:
    asked = ("statistics", "-p", PROJECT, "--mean", "age", "--minimum-sites", "4")
    trio.as_researcher("ana", *asked).fails(2, "4 sites or more, and 3 are asked")
    with trio.connect() as ana, pytest.raises(JobFailed, match="the minimum is 2"):
        ana.statistics(PROJECT, [mean("age")], sites=["north"])


def test_a_release_says_by_what_it_can_be_asked_exactly(trio: Federation) -> None:
    with trio.connect() as ana:
        for release in ana.releases(PROJECT):
            assert "arm" in release.strata
            assert release.analyses == {}
