"""Runs of a pull against an archive that fails as archives do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.errors import StorageError, Unavailable, UsageError
from foundation.hours import Hours
from node.intake.landing import Landing
from node.pull.archive import ArchiveRefused, FoundStudy, Receiver, Wanted
from node.pull.jobs import JobRow, Jobs
from node.pull.question import Question
from node.pull.reception import Storage
from node.pull.run import OutsideHours, Pace, Run
from node.pull.states import JobState, RequestState, StudyState
from node.pull.throttle import Pauses
from tests.node.homes import new_home
from tests.node.pull.simulated import Clock, SimulatedArchive, archive_of

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
PAUSES = Pauses(2.0, 300.0)


class Bench:
    """A node with its pulls and landing."""

    def __init__(self, folder: Path) -> None:
        self.home = new_home(folder / "node")
        self.jobs = Jobs(self.home)
        self.landing = Landing(self.home)

    def job(self, numbers: list[str], most: int = 100) -> JobRow:
        questions = [Question(accession_number=number) for number in numbers]
        return self.jobs.create("sim", "basic", Question(), questions, NOW, most_studies=most)

    def run(self, job: JobRow, archive: SimulatedArchive, pace: Pace | None = None) -> Run:
        return Run(
            self.jobs,
            job.id,
            lambda: archive,
            Storage(lambda uid: self.landing.writer("pull", uid), self.landing.held),
            pace or Pace(pauses=PAUSES),
            now=archive.clock,
            monotonic=archive.clock.monotonic,
            sleep=archive.clock.sleep,
        )

    def landed(self) -> list[str]:
        return [self.landing.read(entry).decode() for entry in self.landing.entries()]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    with made.jobs:
        yield made


def test_everything_that_is_found_arrives_once(bench: Bench) -> None:
    archive = archive_of(3)
    job = bench.job(["A1", "A2", "A3", "NOPE"])
    run = bench.run(job, archive)
    run.find()
    run.fetch()
    counts = bench.jobs.counts(job.id)
    assert counts.requests == {RequestState.FOUND: 3, RequestState.NOT_FOUND: 1}
    assert counts.studies == {StudyState.COMPLETE: 3}
    assert (counts.arrived, counts.held, counts.missing) == (24, 0, 0)
    assert sorted(bench.landed()) == sorted(archive.sent)
    assert len(set(archive.sent)) == 24
    assert bench.jobs.get(job.id).state is JobState.FINISHED


def test_a_study_that_two_numbers_name_is_fetched_once(bench: Bench) -> None:
    archive = archive_of(1)
    archive.studies_by_number["B1"] = archive.studies_by_number["A1"]
    job = bench.job(["A1", "B1"])
    run = bench.run(job, archive)
    run.find()
    run.fetch()
    assert bench.jobs.counts(job.id).studies.total() == 1
    assert len(archive.sent) == 8


def test_what_is_here_is_not_asked_for(bench: Bench) -> None:
    archive = archive_of(1)
    first = ["1.2.1.1.1", "1.2.1.1.2", "1.2.1.1.3", "1.2.1.1.4", "1.2.1.2.3"]
    for uid in first:
        with bench.landing.writer("cstore", uid) as writer:
            writer.commit()
    job = bench.job(["A1"])
    run = bench.run(job, archive)
    run.find()
    run.fetch()
    assert archive.sent == ["1.2.1.2.1", "1.2.1.2.2", "1.2.1.2.4"]
    counts = bench.jobs.counts(job.id)
    assert (counts.arrived, counts.held) == (3, 5)


def test_an_archive_that_is_down_for_a_while_is_waited_for_longer_and_longer(bench: Bench) -> None:
    archive = archive_of(1)
    job = bench.job(["A1"])
    run = bench.run(job, archive)
    run.find()
    archive.down = 3
    run.fetch()
    assert archive.clock.slept == 2 + 4 + 8
    assert bench.jobs.counts(job.id).studies == {StudyState.COMPLETE: 1}


def test_an_archive_that_stays_down_ends_the_run_and_the_pull_can_go_on(bench: Bench) -> None:
    archive = archive_of(2)
    job = bench.job(["A1", "A2"])
    run = bench.run(job, archive)
    run.find()
    archive.down = 1000
    with pytest.raises(Unavailable):
        run.fetch()
    assert archive.tested == 1
    assert bench.jobs.counts(job.id).studies == {StudyState.PENDING: 2}
    archive.down = 0
    bench.run(job, archive).fetch()
    assert bench.jobs.counts(job.id).studies == {StudyState.COMPLETE: 2}


def test_an_instance_that_never_comes_makes_its_study_incomplete_and_no_other(bench: Bench) -> None:
    archive = archive_of(2, drops={"1.2.1.2.3": 1000})
    job = bench.job(["A1", "A2"])
    run = bench.run(job, archive)
    run.find()
    run.fetch()
    counts = bench.jobs.counts(job.id)
    assert counts.studies == {StudyState.INCOMPLETE: 1, StudyState.COMPLETE: 1}
    assert (counts.arrived, counts.missing) == (15, 1)
    assert counts.reasons == {"the archive didn't send everything": 1}
    # Asked again for what is missing only.
    assert len(archive.sent) == 15
    archive.drops.clear()
    bench.jobs.step(job.id, "resumed")
    bench.run(job, archive).fetch()
    counts = bench.jobs.counts(job.id)
    assert counts.studies == {StudyState.COMPLETE: 2}
    assert counts.missing == 0
    assert len(archive.sent) == 16


def test_an_archive_that_lists_no_instances_is_asked_for_whole_series(bench: Bench) -> None:
    archive = archive_of(2, lists_instances=False, drops={"1.2.1.1.2": 1})
    job = bench.job(["A1", "A2"])
    run = bench.run(job, archive)
    run.find()
    run.fetch()
    counts = bench.jobs.counts(job.id)
    assert counts.studies == {StudyState.COMPLETE: 2}
    assert counts.arrived == 16
    assert len(bench.landed()) == 16


def test_an_archive_that_ignores_the_number_gives_nothing_else(bench: Bench) -> None:
    archive = archive_of(3, ignores_keys=True)
    job = bench.job(["A2"])
    run = bench.run(job, archive)
    run.find()
    run.fetch()
    assert {uid.split(".")[2] for uid in archive.sent} == {"2"}


def test_too_many_matches_are_refused_before_anything_is_fetched(bench: Bench) -> None:
    archive = archive_of(4)
    job = bench.job(["A1", "A2", "A3", "A4"], most=3)
    with pytest.raises(UsageError, match="--yes"):
        bench.run(job, archive).find()
    everything = bench.jobs.create("sim", "basic", Question(), [], NOW, most_studies=3)
    with pytest.raises(UsageError, match="--yes"):
        bench.run(everything, archive).find()
    assert archive.sent == []


def test_a_question_that_the_archive_cannot_answer_stops_no_other(bench: Bench) -> None:
    class Choosy(SimulatedArchive):
        def studies(self, question: Question) -> Iterator[FoundStudy]:
            if question.accession_number == "ODD":
                raise ArchiveRefused("The archive can't answer this query (0xC001).")
            return super().studies(question)

    archive = Choosy(archive_of(2).studies_by_number)
    job = bench.job(["A1", "ODD", "A2"])
    run = bench.run(job, archive)
    run.find()
    run.fetch()
    counts = bench.jobs.counts(job.id)
    assert counts.requests == {RequestState.FOUND: 2, RequestState.REFUSED: 1}
    assert counts.studies == {StudyState.COMPLETE: 2}
    # If it is the first, the archive may refuse them all.
    with pytest.raises(ArchiveRefused):
        bench.run(bench.job(["ODD", "A1"]), archive).find()


def test_a_refusal_before_anything_came_ends_the_run(bench: Bench) -> None:
    class Refusing(SimulatedArchive):
        def retrieve(self, wanted: Wanted, receiver: Receiver) -> None:
            raise ArchiveRefused("The archive doesn't know our title.")

    archive = Refusing(archive_of(1).studies_by_number)
    job = bench.job(["A1"])
    run = bench.run(job, archive)
    run.find()
    with pytest.raises(ArchiveRefused):
        run.fetch()
    assert bench.jobs.counts(job.id).studies == {StudyState.PENDING: 1}


def test_a_full_disk_ends_the_run_and_the_pull_can_go_on(bench: Bench) -> None:
    archive = archive_of(2)
    job = bench.job(["A1", "A2"])
    run = bench.run(job, archive)
    run.find()
    full = Run(
        bench.jobs,
        job.id,
        lambda: archive,
        Storage(
            lambda uid: bench.landing.writer("pull", uid),
            bench.landing.held,
            room=lambda: len(archive.sent) < 5,
        ),
        Pace(),
        sleep=archive.clock.sleep,
    )
    with pytest.raises(StorageError):
        full.fetch()
    bench.run(job, archive).fetch()
    assert len(set(bench.landed())) == len(bench.landed()) == 16


# ---- hours and pace ------------------------------------------------------------------------------


def test_outside_the_hours_it_waits_and_goes_on_where_it_was(bench: Bench) -> None:
    # Each instance takes 50 minutes, the window is open for two hours a day.
    archive = archive_of(1, clock=Clock(NOW), seconds_per_instance=3000)
    job = bench.job(["A1"])
    opened = Hours.parse("19:00-21:00", UTC)
    run = bench.run(job, archive, Pace(hours=opened, pauses=PAUSES))
    run.find()
    began: list[datetime] = []
    send = archive.clock.sleep

    def sleep(seconds: float) -> None:
        if seconds == archive.seconds_per_instance:
            began.append(archive.clock.now)
        send(seconds)

    archive.clock.sleep = sleep  # type: ignore[method-assign]
    run.fetch()
    assert len(began) == 8
    assert all(opened.opens_in(moment) == timedelta(0) for moment in began)
    assert len(archive.sent) == len(set(archive.sent)) == 8
    assert archive.clock.now - NOW > timedelta(days=2)
    assert bench.jobs.counts(job.id).studies == {StudyState.COMPLETE: 1}


def test_outside_the_hours_it_ends_if_told_not_to_wait(bench: Bench) -> None:
    archive = archive_of(1)
    job = bench.job(["A1"])
    pace = Pace(hours=Hours.parse("19:00-21:00", UTC), wait_for_hours=False)
    run = bench.run(job, archive, pace)
    run.find()
    with pytest.raises(OutsideHours, match="2026-11-25 19:00"):
        run.fetch()
    assert archive.sent == []
    assert bench.jobs.get(job.id).state is JobState.FETCHING


def test_instances_and_bytes_come_no_faster_than_allowed(bench: Bench) -> None:
    for limit, seconds in (
        (Pace(instances_per_second=2), (40 - 2) / 2),
        (Pace(bytes_per_second=500), (40 * 1000 - 500) / 500),
    ):
        archive = archive_of(5)
        job = bench.job([f"A{n}" for n in range(1, 6)])
        run = bench.run(job, archive, limit)
        run.find()
        run.fetch()
        assert archive.clock.slept == pytest.approx(seconds)
        for entry in bench.landing.entries():
            (bench.landing.folder / entry.name).unlink()


def test_after_each_study_there_is_a_pause(bench: Bench) -> None:
    archive = archive_of(3)
    job = bench.job(["A1", "A2", "A3"])
    run = bench.run(job, archive, Pace(study_pause_seconds=7))
    run.find()
    run.fetch()
    assert archive.clock.slept == 21


def test_several_associations_fetch_everything_once(bench: Bench) -> None:
    archives = archive_of(12)
    job = bench.job([f"A{n}" for n in range(1, 13)])
    run = bench.run(job, archives, Pace(associations=4))
    run.find()
    run.fetch()
    assert len(bench.landed()) == len(set(bench.landed())) == 96
    assert bench.jobs.counts(job.id).studies == {StudyState.COMPLETE: 12}


def test_work_goes_on_behind_and_its_failure_ends_the_run(bench: Bench) -> None:
    archive = archive_of(1)
    job = bench.job(["A1"])
    run = bench.run(job, archive)
    run.find()

    def behind() -> None:
        raise StorageError("The vault's disk is full.")

    with pytest.raises(StorageError):
        run.fetch(behind)


# ---- whatever fails, and whenever it is stopped --------------------------------------------------


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.integers(1, 3),
    st.lists(st.integers(0, 30), max_size=6),
    st.dictionaries(
        st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 4)), st.integers(1, 4)
    ),
)
def test_after_any_failures_and_stops_everything_is_here_once(
    tmp_path_factory: pytest.TempPathFactory,
    studies: int,
    stops: list[int],
    drops: dict[tuple[int, int, int], int],
) -> None:
    bench = Bench(tmp_path_factory.mktemp("node"))
    archive = archive_of(studies)
    archive.drops = {f"1.2.{n}.{s}.{i}": count for (n, s, i), count in drops.items()}
    job = bench.job([f"A{n}" for n in range(1, studies + 1)])
    with bench.jobs:
        bench.run(job, archive).find()
        for calls in [*stops, 10**6]:
            _fetch_until(bench, job, archive, calls)
        landed = bench.landed()
        assert len(landed) == len(set(landed)) == studies * 8
        assert bench.jobs.counts(job.id).studies == {StudyState.COMPLETE: studies}
        # What was sent was sent once: nothing that is durable is asked for again.
        assert sorted(archive.sent) == sorted(landed)


def _fetch_until(bench: Bench, job: JobRow, archive: SimulatedArchive, calls: int) -> None:
    """Run until the archive was asked so many times, as if the process were killed then."""
    left = calls

    class Killed(BaseException):
        pass

    call: Callable[[], None] = archive._call

    def counted() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        call()

    archive._call = counted  # type: ignore[method-assign]
    try:
        bench.jobs.step(job.id, "resumed")
        bench.run(job, archive).fetch()
    except Killed:
        pass
    finally:
        archive._call = call  # type: ignore[method-assign]
