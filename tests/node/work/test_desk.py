"""A task is worked on once: what comes again is answered from what was made before."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from contract import wire_pb2 as wire
from contract.records import Arrays, Metrics
from foundation import tensors
from foundation.blobs import BlobFolder
from node.config import NodeSettings
from node.gate.rules import TrainingOutput
from node.work.desk import WorkDesk
from node.work.statistics import ColumnCache
from node.work.training.desk import TrainingSession
from tests.node.gate.conftest import GRANT, Hospital


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
