"""Models are found by digest or job, in the projects that ask, once their job is finished."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, insert, update

from contract import records
from contract import wire_pb2 as wire
from contract.documents import JOB_TYPE, Job, Project, new_nonce
from contract.errors import NotFound
from contract.records import Arrays, Config, decode_entry
from contract.work import TrainingWork
from coordinator import schema
from coordinator.database import HEAD, MIGRATIONS
from coordinator.home import CoordinatorHome
from coordinator.jobs.store import JobStore
from coordinator.registry.model_records import model_record, record_missing
from coordinator.registry.models import ModelRegistry
from foundation.blobs import BlobFolder
from foundation.database import open_database
from foundation.model_files import digest_of
from tests.node.work.training import flower_apps
from tests.node.work.training.flower_apps import NOW

TIME = {"consortium": "north", "issued_at": NOW, "expires_at": NOW + timedelta(days=9)}
BUNDLE = flower_apps.bundle()


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return open_database(tmp_path / "db" / "c.db", "", MIGRATIONS, HEAD)


def add_job(engine: Engine, job: str, state: str, *, minutes: int = 0, **more: object) -> None:
    """Write a job as it is after its life."""
    values = {
        "digest": job, "nonce": new_nonce(), "envelope": b"", "researcher": "ana",
        "project": "p", "kind": "training", "state": state, "reason": "", "submitted_at": NOW,
        "ended_at": NOW + timedelta(minutes=minutes), **more,
    }  # fmt: skip
    with engine.begin() as connection:
        connection.execute(insert(schema.jobs).values(**values))


def a_model(job: str, digest: str, project: str = "p") -> wire.ModelRecord:
    return wire.ModelRecord(job=job, digest=digest, project=project, answered=["a"])


def test_a_model_is_there_once_its_job_is_finished(engine: Engine) -> None:
    registry = ModelRegistry(engine)
    add_job(engine, "1" * 64, "running")
    registry.record(a_model("1" * 64, "a" * 64))
    assert registry.all() == []
    with engine.begin() as connection:
        connection.execute(update(schema.jobs).values(state="finished"))
    [found] = registry.all({"p"})
    assert found.digest == "a" * 64
    assert found.time == NOW.timestamp()


def test_recording_again_replaces_what_an_interrupted_job_left(engine: Engine) -> None:
    registry = ModelRegistry(engine)
    add_job(engine, "1" * 64, "finished")
    registry.record(a_model("1" * 64, "a" * 64))
    registry.record(a_model("1" * 64, "b" * 64))
    assert [m.digest for m in registry.all()] == ["b" * 64]


def test_another_projects_model_does_not_exist(engine: Engine) -> None:
    registry = ModelRegistry(engine)
    add_job(engine, "1" * 64, "finished")
    registry.record(a_model("1" * 64, "a" * 64))
    assert registry.find("a" * 64, {"p"}).job == registry.find("1" * 64).job == "1" * 64
    for name in ("a" * 64, "1" * 64):
        with pytest.raises(NotFound, match="no such model"):
            registry.find(name, {"q"})
    assert registry.all(()) == []


def test_a_job_starts_from_a_model_of_its_own_project_and_is_told_why_not_from_anothers(
    engine: Engine,
) -> None:
    registry = ModelRegistry(engine)
    add_job(engine, "1" * 64, "finished")
    registry.record(a_model("1" * 64, "a" * 64))
    registry.check_origin("a" * 64, "p", ["p"])
    with pytest.raises(NotFound, match="is of project p, whose hospitals didn't agree"):
        registry.check_origin("a" * 64, "q", ["p", "q"])
    # Who isn't in the other project learns nothing of its models.
    with pytest.raises(NotFound, match="Project q has no model aaaaaaaaaaaa to start from"):
        registry.check_origin("a" * 64, "q", ["q"])


def test_of_two_jobs_that_gave_one_model_the_first_is_found(engine: Engine) -> None:
    registry = ModelRegistry(engine)
    for job, minutes in (("2" * 64, 5), ("1" * 64, 9)):
        add_job(engine, job, "finished", minutes=minutes)
        registry.record(a_model(job, "a" * 64))
    assert registry.find("a" * 64).job == "2" * 64
    assert [m.job for m in registry.all()] == ["1" * 64, "2" * 64]


# ---- what is recorded ----------------------------------------------------------------------------


class Finished:
    """A job that ended with a model, as its folders and its result are then."""

    def __init__(self, folder: Path, **told: records.Value) -> None:
        self.home = CoordinatorHome(folder)
        work = TrainingWork(bundle=flower_apps.Bundle.parse(BUNDLE).digest, seed=3)
        self.home.recipe(work.bundle).parent.mkdir(parents=True)
        self.home.recipe(work.bundle).write_bytes(BUNDLE)
        self.job = Job(
            **TIME, project="p", project_version=1, researcher="ana", nonce=new_nonce(),
            releases={"a": "0" * 64}, work=work,
        )  # fmt: skip
        self.project = Project(
            **TIME, name="p", version=1, title="t", purpose="t", ethics_reference="t",
            legal_basis="t", sites=("a",), researchers=("ana",), minimum_sites=1,
            kinds=("training",),
        )  # fmt: skip
        self.arrays = {"b": np.arange(3.0), "a": np.ones((2, 2), np.float32)}
        content: records.Records = {"arrays": Arrays(self.arrays)}
        if told:
            content["strategy"] = Config(dict(told))
        message, blob = records.encode(content)
        BlobFolder(self.home.job("1" * 64) / "blobs").store(blob)
        self.result = wire.JobResult(answered=["a"], model=message.SerializeToString())

    def record(self) -> wire.ModelRecord:
        return model_record("1" * 64, self.job, self.project, self.home, self.result)


def test_a_record_calls_the_model_by_its_file(tmp_path: Path) -> None:
    finished = Finished(tmp_path, name="FedAdam", eta=0.1, rounds=4)
    record = finished.record()
    assert (record.digest, record.size) == (
        digest_of(finished.arrays).digest,
        digest_of(finished.arrays).size,
    )
    assert (record.bundle_name, record.bundle_version) == ("tests/tiny", "1.0.0")
    assert record.strategy == "FedAdam"
    assert {e.key: decode_entry(e) for e in record.strategy_settings} == {"eta": 0.1, "rounds": 4}


def test_what_a_stranger_says_of_a_strategy_is_bounded_text(tmp_path: Path) -> None:
    hostile: dict[str, records.Value] = {f"k{i}": "\x1b[2J" * 500 for i in range(300)}
    record = Finished(tmp_path, name="x\n" * 900, **hostile).record()
    assert len(record.strategy) <= 200
    assert "\n" not in record.strategy
    assert len(record.strategy_settings) <= 100
    assert all("\x1b" not in str(decode_entry(e)) for e in record.strategy_settings)
    assert all(len(str(decode_entry(e))) <= 200 for e in record.strategy_settings)


def test_models_of_before_the_registry_are_recorded_at_the_next_start(
    tmp_path: Path, engine: Engine
) -> None:
    finished = Finished(tmp_path)
    envelope = finished.job.seal(JOB_TYPE).to_bytes()
    result = finished.result.SerializeToString()
    add_job(engine, "1" * 64, "finished", envelope=envelope, result=result)
    project = finished.project.seal("application/vnd.wardgate.project+json")
    with engine.begin() as connection:
        connection.execute(
            insert(schema.documents).values(
                digest=project.digest, kind="project", name="p", version=1,
                envelope=project.to_bytes(), state="superseded", updated_at=NOW,
            )
        )  # fmt: skip
    record_missing(finished.home, JobStore(engine))
    [found] = ModelRegistry(engine).all({"p"})
    assert found.digest == finished.record().digest
