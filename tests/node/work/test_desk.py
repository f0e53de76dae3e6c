"""A task is worked on once: what comes again is answered from what was made before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import polars as pl
import pytest

from contract import records
from contract import wire_pb2 as wire
from contract.records import Arrays, Metrics
from foundation import tensors
from foundation.blobs import BlobFolder
from node.config import NodeSettings
from node.gate.ledger import read_entries
from node.gate.rules import TrainingOutput
from node.work.desk import WorkDesk
from node.work.statistics import ColumnCache
from node.work.training.desk import TrainingSession
from node.work.training.drafts import Room, Takes, list_drafts
from node.work.training.worker import WorkerReply
from tests.node.gate.conftest import GRANT, Hospital

ASSET = "a" * 64


def test_a_task_that_comes_again_is_answered_from_the_record_and_never_worked_on_twice(
    hospital: Hospital,
) -> None:
    admission = hospital.gate.admit(hospital.member, hospital.training(hospital.release()))
    arrays: dict[str, Any] = {"w": np.ones(3, "float32")}
    encoded = tensors.encode(
        {"arrays": Arrays(arrays), "metrics": Metrics({"loss": 0.5, "num-examples": 100})}
    )
    output = TrainingOutput(
        "train",
        tensors.read(encoded.message, encoded.blob),
        {"arrays": {"w": ("float32", (3,))}},
        GRANT,
    )
    kept = BlobFolder(hospital.home.jobs / admission.digest / "out")
    first = hospital.gate.answer_task(
        hospital.member, admission, "1", output, encoded.message, encoded.blob, 0.1, kept.store
    )
    desk = WorkDesk(hospital.home, hospital.gate, NodeSettings(), ColumnCache(0))
    nobody = cast("Any", None)  # a worker that is asked would end the test
    desk.training.sessions[admission.digest] = TrainingSession(hospital.member, admission, nobody)
    task = wire.Task(job=admission.digest, task="1", message_type="train")
    again = desk.task(hospital.member, task, nobody)
    assert again.message == first.message
    assert again.tensors == first.tensors == encoded.blob
    desk.received(hospital.member, admission.digest, "1")
    after = desk.task(hospital.member, task, nobody)
    assert after.message == first.message
    assert after.tensors == b""  # the coordinator has them
    assert len(hospital.entries("answer")) == 1


@dataclass
class Drawing:
    """In a worker's place: it replies as it is told, and leaves a draft beside it."""

    drafts: Takes
    reply: records.Records

    def handle(self, task: wire.Task, tensors_: bytes, state: bytes) -> WorkerReply:
        del task, tensors_
        self.drafts.take(f"{ASSET}.json", b"{}")
        encoded = tensors.encode(self.reply)
        return WorkerReply(encoded.message, encoded.blob, state)


@pytest.mark.parametrize("held", [False, True])
def test_drafts_are_kept_of_a_task_whose_reply_passed_the_gate_and_of_no_other(
    hospital: Hospital, held: bool
) -> None:
    release = hospital.release()
    admission = hospital.gate.admit(hospital.member, hospital.training(release))
    home, engine = hospital.home, hospital.catalog.engine
    (home.jobs / admission.digest).mkdir(parents=True)
    home.release(release).mkdir(parents=True)
    pl.DataFrame({"digest": [ASSET]}).write_parquet(home.release(release) / "assets.parquet")
    if held:
        approval = hospital.policy.approval.model_copy(update={"hold_outputs": ["training"]})
        hospital.policy = hospital.policy.model_copy(update={"approval": approval})
    desk = WorkDesk(home, hospital.gate, NodeSettings(), ColumnCache(0))
    takes = Takes(
        engine, home, job=admission.digest, release=release, recipe="3" * 64, room=Room(10**6, 9)
    )
    passes = Metrics({"loss": 0.5, "num-examples": 100})
    for number, metrics in enumerate((Metrics({"patient": 1.0}), passes)):
        worker = Drawing(takes, {"metrics": metrics})
        desk.training.sessions[admission.digest] = TrainingSession(
            hospital.member, admission, cast("Any", worker), takes
        )
        task = wire.Task(job=admission.digest, task=f"{number}", message_type="evaluate")
        desk.task(hospital.member, task, cast("Any", None))
        kept = list_drafts(engine, job=admission.digest)
        assert len(kept) == number
        assert len([p for p in home.drafts.rglob("*") if p.is_file()]) == number
    kinds = [e.kind for e in read_entries(home.ledger) if e.kind != "notice"]
    assert kinds[-2:] == (["held", "drafted"] if held else ["answer", "drafted"])
    assert kinds.count("drafted") == 1


@pytest.mark.parametrize("answered", [True, False])
def test_a_start_settles_what_a_kill_left_behind(hospital: Hospital, answered: bool) -> None:
    release = hospital.release()
    home, engine, gate = hospital.home, hospital.catalog.engine, hospital.gate
    admission = gate.admit(hospital.member, hospital.training(release))
    job, over = admission.digest, gate.admit(hospital.member, hospital.training(release)).digest
    home.release(release).mkdir(parents=True)
    pl.DataFrame({"digest": [ASSET]}).write_parquet(home.release(release) / "assets.parquet")
    for digest in (job, over, "f" * 64):
        (home.jobs / digest).mkdir(parents=True)
        (home.jobs / digest / "worker.log").write_text("a patient's data")
        takes = Takes(
            engine, home, job=digest, release=release, recipe="3" * 64, room=Room(10**6, 9)
        )
        takes.take(f"{ASSET}.json", b"{}")
        if digest == job:
            takes.note("1")
        takes.take(f"{ASSET}-more.json", b"[]")
    gate.asked.close(hospital.member.consortium, over, hospital.now)
    desk = WorkDesk(home, gate, NodeSettings(), ColumnCache(0))
    if answered:
        reply: records.Records = {"metrics": Metrics({"loss": 0.5, "num-examples": 100})}
        encoded = tensors.encode(reply)
        output = TrainingOutput("evaluate", reply, {}, GRANT)
        gate.answer_task(
            hospital.member, admission, "1", output, encoded.message, encoded.blob, 0.1
        )
    for _ in range(2):  # the second finds nothing to do
        desk.training.tidy()
        assert [one.name for one in list_drafts(engine)] == [f"{ASSET}.json"] * answered
        assert {path.name for path in home.jobs.iterdir()} == {job, "f" * 64}
        left = {path.parent.name for path in home.drafts.rglob("*") if path.is_file()}
        assert left == ({job} if answered else set()) | {"f" * 64}  # that nothing is known of
        assert len(list((home.drafts / job).glob("*"))) == answered
