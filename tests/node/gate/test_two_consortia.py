"""A node in two consortia: what was made for one is not told to the other."""

from __future__ import annotations

from typing import cast

from contract import wire_pb2 as wire
from contract.records import Metrics, decode
from foundation import tensors
from node.config import NodeSettings
from node.gate.gate import Membership
from node.gate.rules import TrainingOutput
from node.work.desk import WorkDesk
from node.work.statistics import ColumnCache
from node.work.training.desk import TrainingSession
from tests.node.gate.conftest import GRANT, SITE, Hospital


def test_a_reply_made_for_one_consortium_is_not_sent_again_to_another(hospital: Hospital) -> None:
    admission = hospital.gate.admit(hospital.member, hospital.training(hospital.release()))
    encoded = tensors.encode({"metrics": Metrics({"loss": 0.5, "num-examples": 100})})
    output = TrainingOutput("evaluate", decode(encoded.message, b""), {}, GRANT)
    hospital.gate.answer_task(hospital.member, admission, "1", output, encoded.message, b"", 0.1)
    desk = WorkDesk(hospital.home, hospital.gate, NodeSettings(), ColumnCache(0))
    # The worker is never reached: the answer was made before.
    desk.training.sessions[admission.digest] = TrainingSession(
        hospital.member,
        admission,
        cast("object", None),  # type: ignore[arg-type]
    )
    other = Membership("stroke", SITE, "", hospital.member.key, hospital.member.trusted)
    task = wire.Task(job=admission.digest, task="1")
    sealed = desk.task(other, task, lambda *_: None)
    assert sealed.message.WhichOneof("body") == "failed"
