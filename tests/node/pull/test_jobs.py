"""Pulls as they are kept."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contract.errors import ConfigurationError, NotFound, Unavailable
from node.home import NodeHome
from node.pull.archive import FoundStudy
from node.pull.jobs import KEPT, Fetched, Jobs
from node.pull.question import Question
from node.pull.states import JOB, REQUEST, STUDY, JobState, RequestState, StudyState
from tests.node.homes import new_home

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
NUMBERS = ["ACC-ZWETSCHGE-1", "ACC-QUILL-2"]
UID = "1.2.826.0.1.3680043.8.498.777"


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    return new_home(tmp_path / "node")


def create(jobs: Jobs, now: datetime = NOW) -> str:
    questions = [Question(accession_number=number) for number in NUMBERS]
    return jobs.create("pacs", "basic", Question(), questions, now, most_studies=9, unfit=1).id


def test_a_pull_is_kept_with_its_requests_and_studies(home: NodeHome) -> None:
    with Jobs(home) as jobs:
        name = create(jobs)
        assert jobs.answered(name, 0, [FoundStudy(UID, 2, 30)]) == 1
    with Jobs(home) as jobs:
        assert [job.id for job in jobs.all()] == [name]
        assert jobs.get(name).unfit == 1
        assert jobs.pending_requests(name) == [(1, Question(accession_number=NUMBERS[1]))]
        assert [study.uid for study in jobs.pending_studies(name)] == [UID]
        assert jobs.answered(name, 1, []) == 0
        assert jobs.unmatched(name) == [Question(accession_number=NUMBERS[1])]
        jobs.step(name, "found")
        jobs.fetched(name, 0, "given up", Fetched(28, 0, 2, "broken"))
        assert jobs.counts(name).missing == 2
        jobs.step(name, "done")
        jobs.step(name, "resumed")
        assert [study.uid for study in jobs.pending_studies(name)] == [UID]
        jobs.fetched(name, 0, "arrived", Fetched(2, 28))
        counts = jobs.counts(name)
        assert counts.studies == {StudyState.COMPLETE: 1}
        assert (counts.arrived, counts.held, counts.missing) == (30, 28, 0)
        assert (counts.series, counts.instances) == (2, 30)
        jobs.forget(name)
        with pytest.raises(NotFound):
            jobs.get(name)


def test_a_study_that_two_numbers_find_counts_once(home: NodeHome) -> None:
    with Jobs(home) as jobs:
        name = create(jobs)
        assert jobs.answered(name, 0, [FoundStudy(UID), FoundStudy(UID + "1")]) == 2
        assert jobs.answered(name, 1, [FoundStudy(UID + "1"), FoundStudy(UID + "2")]) == 1
        assert [study.uid for study in jobs.pending_studies(name)] == [UID, UID + "1", UID + "2"]


def test_no_number_and_no_uid_is_readable_on_disk(home: NodeHome) -> None:
    with Jobs(home) as jobs:
        name = create(jobs)
        jobs.answered(name, 0, [FoundStudy(UID, 2, 30)])
        found = [path.read_bytes() for path in home.pulls.rglob("*") if path.is_file()]
        assert len(found) >= 2  # the database and its log
        for secret in [*NUMBERS, UID]:
            for form in (
                secret.encode(),
                secret.encode("utf-16-le"),
                secret.encode().hex().encode(),
            ):
                assert not any(form in data for data in found), secret
        assert all(
            path.stat().st_mode & 0o077 == 0 for path in (home.pulls, home.pulls / "pulls.db")
        )


def test_what_is_done_with_loses_its_number(home: NodeHome) -> None:
    with Jobs(home) as jobs:
        name = create(jobs)
        jobs.answered(name, 0, [FoundStudy(UID)])
        jobs.fetched(name, 0, "arrived", Fetched(1))
    database = sqlite3.connect(home.pulls / "pulls.db")
    assert database.execute("SELECT uid FROM studies").fetchall() == [(b"",)]
    assert database.execute("SELECT question FROM requests WHERE number = 0").fetchone() == (b"",)


def test_old_pulls_are_forgotten(home: NodeHome) -> None:
    with Jobs(home) as jobs:
        old, new = create(jobs, NOW - KEPT - timedelta(hours=1)), create(jobs)
        jobs.answered(old, 0, [FoundStudy(UID)])
        jobs.forget_old(NOW)
        assert [job.id for job in jobs.all()] == [new]
        assert jobs.pending_studies(old) == []


def test_two_processes_never_pull_from_one_archive(home: NodeHome) -> None:
    with Jobs(home) as one, Jobs(home) as other, one.alone("pacs"):
        with pytest.raises(Unavailable, match="pacs"), other.alone("pacs"):
            pass
        with other.alone("web"):
            pass


def test_a_newer_file_is_refused(home: NodeHome) -> None:
    with Jobs(home):
        pass
    with sqlite3.connect(home.pulls / "pulls.db") as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigurationError, match="newer"):
        Jobs(home)


def test_commits_survive_a_power_cut(home: NodeHome) -> None:
    with Jobs(home) as jobs:
        (mode,) = jobs._connection.execute("PRAGMA journal_mode").fetchone()
        (synchronous,) = jobs._connection.execute("PRAGMA synchronous").fetchone()
    assert (mode, synchronous) == ("wal", 2)


def test_every_state_can_be_reached_and_what_is_complete_stays_so() -> None:
    assert {JobState.FINDING, *JOB.values()} == set(JobState)
    assert {RequestState.PENDING, *REQUEST.values()} == set(RequestState)
    assert {StudyState.PENDING, *STUDY.values()} == set(StudyState)
    assert not any(state is StudyState.COMPLETE for state, _ in STUDY)
