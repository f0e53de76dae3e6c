"""The life of a job is its table, and the table's record is durable."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from itertools import product
from pathlib import Path

import pytest

from contract import wire_pb2 as wire
from contract.errors import DocumentError, NotFound
from contract.trust import TrustedDocuments
from coordinator.database import HEAD, MIGRATIONS
from coordinator.jobs.states import (
    ENDED,
    JOB_TRANSITIONS,
    UNFINISHED,
    JobEvent,
    JobState,
    SiteState,
    after,
)
from coordinator.jobs.store import JobStore
from foundation.database import open_database
from tests.contract.world import NOW, SITES, World


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    engine = open_database(tmp_path / "c.db", "", MIGRATIONS, HEAD)
    yield JobStore(engine)
    engine.dispose()


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def view(world: World) -> TrustedDocuments:
    return world.settled()


# ---- the table ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "event"), list(product(JobState, JobEvent)))
def test_a_transition_is_in_the_table_or_raises(state: JobState, event: JobEvent) -> None:
    if (state, event) in JOB_TRANSITIONS:
        assert after(state, event) is JOB_TRANSITIONS[state, event]
        return
    with pytest.raises(DocumentError, match=f"is {state} can't {event}"):
        after(state, event)


def test_every_state_is_reached_from_the_first() -> None:
    reached = {JobState.SUBMITTED}
    while True:
        more = {to for (state, _), to in JOB_TRANSITIONS.items() if state in reached} - reached
        if not more:
            break
        reached |= more
    assert reached == set(JobState)


def test_an_ended_job_stays_as_it_ended_and_every_other_can_end() -> None:
    leaving = {state for state, _ in JOB_TRANSITIONS}
    assert leaving == UNFINISHED
    assert set(JobState) == ENDED | UNFINISHED
    for state in UNFINISHED:
        assert after(state, JobEvent.CANCEL) is JobState.CANCELLED
        assert after(state, JobEvent.EXPIRE) is JobState.EXPIRED


def test_only_a_complete_answer_finishes_a_job() -> None:
    into = {event for (_, event), to in JOB_TRANSITIONS.items() if to is JobState.FINISHED}
    assert into == {JobEvent.RESULT}


def test_whatever_a_job_is_doing_an_unforeseen_error_ends_it() -> None:
    for state in UNFINISHED:
        assert after(state, JobEvent.ERROR) is JobState.FAILED


# ---- the store ---------------------------------------------------------------------------------


def test_the_same_job_again_is_no_second_one(
    store: JobStore, world: World, view: TrustedDocuments
) -> None:
    data = world.signed_job()
    for _ in range(2):
        store.add(view.job(data, NOW), NOW)
    assert [row.envelope for row in store.unfinished()] == [data]
    assert [s.site for s in store.sites(view.job(data, NOW).digest)] == sorted(SITES)


def test_a_nonce_is_for_one_job_also_after_it_ended(
    store: JobStore, world: World, view: TrustedDocuments
) -> None:
    first = view.job(world.signed_job(nonce="1" * 32), NOW)
    store.add(first, NOW)
    store.move(first.digest, JobEvent.CANCEL, NOW)
    with pytest.raises(DocumentError, match="nonce was used before"):
        store.add(view.job(world.signed_job(nonce="1" * 32, minimum_sites=2), NOW), NOW)
    assert store.newest()[0].digest == first.digest
    assert len(store.newest()) == 1


@pytest.mark.parametrize("last", [JobEvent.RESULT, JobEvent.CANCEL, JobEvent.EXPIRE])
def test_an_ended_job_takes_no_event_and_keeps_its_result(
    store: JobStore, world: World, view: TrustedDocuments, last: JobEvent
) -> None:
    job = view.job(world.signed_job(), NOW)
    store.add(job, NOW)
    store.move(job.digest, JobEvent.OFFER, NOW)
    assert [row.digest for row in store.unfinished()] == [job.digest]
    store.move(job.digest, last, NOW, "why", b"result")
    before = store.get(job.digest)
    for event in JobEvent:
        with pytest.raises(DocumentError):
            store.move(job.digest, event, NOW, "else", b"other")
    assert store.get(job.digest) == before
    assert before.ended_at == NOW
    assert before.ended_at.tzinfo is UTC
    assert store.unfinished() == []


def test_a_refused_transition_writes_nothing(
    store: JobStore, world: World, view: TrustedDocuments
) -> None:
    job = view.job(world.signed_job(), NOW)
    store.add(job, NOW)
    with pytest.raises(DocumentError):
        store.move(job.digest, JobEvent.RESULT, NOW, result=b"early")
    row = store.get(job.digest)
    assert (row.state, row.result) == (JobState.SUBMITTED, None)


def test_events_are_numbered_from_zero_for_each_job(
    store: JobStore, world: World, view: TrustedDocuments
) -> None:
    digests = []
    for _ in range(2):
        job = view.job(world.signed_job(), NOW)
        store.add(job, NOW)
        digests.append(job.digest)
    for number in range(4):
        for digest in digests:
            assert store.add_event(digest, wire.JobEvent(text=str(number)))
    for digest in digests:
        assert [(e.sequence, e.text) for e in store.events(digest)] == [
            (n, str(n)) for n in range(4)
        ]
        assert [e.sequence for e in store.events(digest, 3)] == [3]


def test_a_sites_state_and_sentence_are_kept(
    store: JobStore, world: World, view: TrustedDocuments
) -> None:
    job = view.job(world.signed_job(), NOW)
    store.add(job, NOW)
    assert {s.state for s in store.sites(job.digest)} == {SiteState.WAITING}
    store.set_site(job.digest, "kentucky", SiteState.REFUSED, "rate", "Too often.")
    found = {s.site: s for s in store.sites(job.digest)}
    assert (found["kentucky"].state, found["kentucky"].sentence) == ("refused", "Too often.")
    assert found["minnesota"].state is SiteState.WAITING


def test_a_job_that_is_not_there_is_not_found(store: JobStore) -> None:
    assert not store.known("0" * 64)
    with pytest.raises(NotFound):
        store.get("0" * 64)
