"""The limit of what a coordinator can have written down without a researcher's signature."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import Refused
from node.gate.floods import BOUGHT, MOST_KEPT, SHARE, FloodLimit
from node.gate.policy import JobLimits, Policy
from tests.contract.world import NOW
from tests.node.gate.conftest import Hospital

PER_HOUR = 100


@given(st.lists(st.integers(0, 7200), max_size=400))
def test_in_no_hour_is_more_than_twice_the_limit_let_through(seconds: list[int]) -> None:
    limit = FloodLimit()
    times = sorted(seconds)
    let = [t for t in times if limit.take("opt", PER_HOUR, NOW + timedelta(seconds=t))]
    for begin in times:
        assert sum(begin <= t < begin + 3600 for t in let) <= 2 * PER_HOUR


def test_each_consortium_has_a_limit_of_its_own_and_time_fills_it_again() -> None:
    limit = FloodLimit()
    assert sum(limit.take("opt", PER_HOUR, NOW) for _ in range(500)) == PER_HOUR
    assert limit.take("other", PER_HOUR, NOW)
    later = NOW + timedelta(minutes=30)
    assert sum(limit.take("opt", PER_HOUR, later) for _ in range(500)) == PER_HOUR // 2
    week = NOW + timedelta(days=7)
    assert sum(limit.take("opt", PER_HOUR, week) for _ in range(500)) == PER_HOUR
    assert not limit.take("opt", PER_HOUR, NOW)  # a clock that goes back gives nothing


def test_a_job_that_was_let_in_pays_for_its_own_messages() -> None:
    limit = FloodLimit()
    while limit.take("opt", PER_HOUR, NOW):
        pass
    limit.pay("opt", "training", "job")
    assert not limit.take("opt", PER_HOUR, NOW)
    assert not limit.take("opt", PER_HOUR, NOW, "another")
    assert not limit.take("other", 0, NOW, "job")
    taken = sum(limit.take("opt", PER_HOUR, NOW, "job") for _ in range(9999))
    assert taken == BOUGHT["training"]


def test_refusals_of_one_researcher_take_a_share_and_leave_the_rest() -> None:
    limit = FloodLimit()

    def refused(researcher: str, at: datetime = NOW) -> int:
        return sum(limit.take("opt", PER_HOUR, at, "", researcher) for _ in range(500))

    assert refused("ana") == SHARE * PER_HOUR
    assert refused("ben") == SHARE * PER_HOUR
    assert refused("ana", NOW + timedelta(minutes=30)) == int(SHARE * PER_HOUR / 2)
    # All that is let through is within the consortium's number.
    assert sum(limit.take("opt", PER_HOUR, NOW) for _ in range(500)) <= PER_HOUR * 1.5


def test_what_is_remembered_of_jobs_and_researchers_is_bounded() -> None:
    limit = FloodLimit()
    for number in range(MOST_KEPT + 10):
        limit.pay("opt", "statistics", str(number))
        limit.take("opt", PER_HOUR, NOW, "", str(number))
    assert len(limit._paid) == len(limit._refused) == MOST_KEPT
    assert limit.take("opt", PER_HOUR, NOW, str(MOST_KEPT + 9))
    assert not limit.take("opt", PER_HOUR, NOW, "0")


def test_the_log_says_once_an_hour_how_much_was_dropped(caplog: pytest.LogCaptureFixture) -> None:
    limit = FloodLimit()
    with caplog.at_level(logging.WARNING):
        for second in range(0, 3 * 3600, 2):
            limit.take("opt", PER_HOUR, NOW + timedelta(seconds=second))
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3
    numbers = [int(text.rstrip(".").rpartition(" ")[2]) for text in said]
    assert numbers[0] == 1
    assert numbers[1] == numbers[2] == 1800 - PER_HOUR


def test_beyond_the_limit_nothing_is_written_and_new_signed_jobs_still_come_in(
    hospital: Hospital,
) -> None:
    hospital.policy = Policy(
        jobs=JobLimits(unsigned_per_hour=100), disclosure=hospital.policy.disclosure
    )
    release, gate, member = hospital.release(), hospital.gate, hospital.member
    closed = hospital.job(release, nonce="1" * 32)
    gate.asked.close(member.consortium, gate.admit(member, closed).digest, hospital.now)
    for envelope in (b"nothing", closed):
        for _ in range(300):
            with pytest.raises(Refused):
                gate.admit(member, envelope)
    with pytest.raises(Refused) as refused:
        gate.admit(member, closed)
    assert refused.value.code == "flood"
    assert len(hospital.entries("refused")) == 100 + BOUGHT["statistics"]
    assert gate.admit(member, hospital.job(release, nonce="2" * 32))


def test_a_researcher_who_signs_jobs_without_end_silences_nobody_else(hospital: Hospital) -> None:
    hospital.settle(hospital.world.signed_project(2, researchers=("ana", "ben")))
    hospital.policy = Policy(
        jobs=JobLimits(per_hour=1, unsigned_per_hour=100), disclosure=hospital.policy.disclosure
    )
    release, gate, member = hospital.release(), hospital.gate, hospital.member
    codes = []
    gate.admit(member, hospital.job(release, nonce="f" * 32, project_version=2))
    for number in range(150):
        with pytest.raises(Refused) as refused:
            gate.admit(member, hospital.job(release, nonce=f"{number:032d}", project_version=2))
        codes.append(refused.value.code)
    assert codes == ["rate"] * 25 + ["flood"] * 125
    assert len(hospital.entries("refused")) == 25
    bens = hospital.job(release, nonce="b" * 32, project_version=2, researcher="ben")
    other = gate.admit(member, bens)
    assert not any(gate.is_flood(member, other.digest) for _ in range(BOUGHT["statistics"]))
    assert sum(not gate.is_flood(member) for _ in range(200)) == 75
