"""An answer's time is one that public figures tell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.work import Statistic, StatisticsWork, TrainingWork
from node.gate.deadline import asked, period_seconds, wait_seconds
from node.gate.policy import JobLimits
from tests.contract.world import BUNDLE
from tests.node.gate.conftest import SITE, Hospital

LIMITS = JobLimits(answer_ms=30, answer_ms_per_million=10)


def test_the_period_grows_with_what_is_asked_and_with_what_is_listed() -> None:
    assert period_seconds(LIMITS, 1, 0) == pytest.approx(0.030)
    assert period_seconds(LIMITS, 3, 1_000_000) == pytest.approx(0.060)


@given(
    began=st.floats(0, 1e6),
    took=st.floats(0, 10),
    period=st.floats(1e-3, 1),
)
def test_it_leaves_after_a_whole_number_of_periods(
    began: float, took: float, period: float
) -> None:
    wait = wait_seconds(began, began + took, period)
    assert 0 <= wait <= period * (1 + 1e-6)
    left = (took + wait) / period
    assert left == pytest.approx(round(left), abs=1e-5) and round(left) >= 1


def test_whatever_the_work_took_within_a_period_the_answer_leaves_at_its_end() -> None:
    ends = {took + wait_seconds(100.0, 100.0 + took, 0.5) for took in (0.0, 0.125, 0.25, 0.5)}
    assert ends == {0.5}


def test_without_a_period_nothing_waits() -> None:
    assert wait_seconds(1.0, 2.0, 0.0) == 0.0


@pytest.fixture
def statistics() -> StatisticsWork:
    return StatisticsWork(ask=(Statistic(kind="moments", variable="age"),) * 4)


def test_an_offer_says_what_it_asks(hospital: Hospital, statistics: StatisticsWork) -> None:
    digest = "a" * 64
    offer = hospital.world.signed_job(work=statistics, releases={SITE: digest})
    assert asked(offer, SITE) == (4, digest)
    assert asked(offer, "elsewhere") == (4, "")
    assert asked(hospital.world.signed_job(work=TrainingWork(bundle=BUNDLE)), SITE)[0] == 0
    assert asked(b"nonsense", SITE) == (1, "")
    assert asked(b"", SITE) == (1, "")


def test_a_refused_question_waits_as_an_answered_one_does(
    hospital: Hospital, statistics: StatisticsWork
) -> None:
    digest = hospital.release(subjects=1_000_000)
    periods = {
        hospital.gate.period_seconds(
            hospital.member,
            hospital.world.signed_job(work=statistics, releases={SITE: digest}, **changes),
        )
        for changes in ({}, {"nonce": "0" * 32}, {"project": "another"})
    }
    assert len(periods) == 1
    assert periods.pop() == pytest.approx(0.070)


def test_the_period_tells_a_release_only_as_it_is_listed(
    hospital: Hospital, statistics: StatisticsWork
) -> None:
    hospital.policy = hospital.policy.model_copy(update={"jobs": LIMITS})
    few, more = (hospital.release(subjects=number) for number in (100, 109))
    periods = {
        hospital.gate.period_seconds(
            hospital.member, hospital.world.signed_job(work=statistics, releases={SITE: digest})
        )
        for digest in (few, more)
    }
    assert len(periods) == 1
