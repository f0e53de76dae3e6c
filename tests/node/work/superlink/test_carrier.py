"""What comes over a SuperLink is worked on for a signed job alone, and under its own terms."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from contract import wire_pb2 as wire
from contract.envelope import Envelope
from contract.errors import DocumentError, Refused
from contract.work import TrainingWork
from foundation.blobs import BlobFolder
from foundation.frames import Frame, pack
from foundation.transport import TransportIdentity
from node.config import NodeSettings
from node.work.desk import WorkDesk
from node.work.statistics import ColumnCache
from node.work.superlink.carrier import ASKED, SuperNode, _Given
from tests.node.gate.conftest import BUNDLE, Hospital

RATE: dict[str, bool | int | float | str] = {"rate": 0.5}


@pytest.fixture
def supernode(hospital: Hospital, tmp_path: Path) -> SuperNode:
    allow(hospital, superlink=True)
    desk = WorkDesk(hospital.home, hospital.gate, NodeSettings(), ColumnCache(0))
    return SuperNode(
        hospital.member,
        "localhost:1",
        TransportIdentity(tmp_path / "identity"),
        desk,
        tmp_path / "supernode",
        1.0,
        lambda: True,
    )


def allow(hospital: Hospital, *, superlink: bool) -> None:
    training = hospital.policy.training.model_copy(update={"superlink": superlink})
    hospital.policy = hospital.policy.model_copy(update={"training": training})


def signed(hospital: Hospital, engine: str = "superlink") -> bytes:
    work = TrainingWork.model_validate({"bundle": BUNDLE, "parameters": RATE, "engine": engine})
    return hospital.job(hospital.release(), work=work)


def said(
    supernode: SuperNode, job: str, bundle: str = BUNDLE, config: Mapping[str, object] = RATE
) -> str:
    """Return the code by which one message is answered."""
    about = json.dumps({"bundle": bundle, "config": dict(config)}).encode()
    task = wire.Task(job=job, task="1", message_type="train").SerializeToString()
    sealed = supernode._answer(Frame(ASKED, pack([about, task]), b""))
    return "nothing" if sealed is None else sealed.message.failed.code


def test_a_message_of_no_admitted_job_is_refused_and_the_refusal_is_on_the_ledger(
    hospital: Hospital, supernode: SuperNode
) -> None:
    assert said(supernode, "0" * 64) == "not-admitted"
    assert hospital.entries("notice")[-1].body["what"] == "failure"
    refused = Envelope.parse(signed(hospital)).digest  # signed, and never offered
    assert said(supernode, refused) == "not-admitted"


def test_a_run_of_another_bundle_or_other_overrides_than_the_signed_job_is_refused(
    hospital: Hospital, supernode: SuperNode
) -> None:
    job = hospital.gate.admit(hospital.member, signed(hospital)).digest
    assert said(supernode, job, bundle="f" * 64) == "bundle"
    for config in ({}, {"rate": 0.4}, {"rate": "0.5"}, {"rate": 0.5, "more": 1}):
        assert said(supernode, job, config=config) == "parameters"
    # The right ones pass on to the desk, which finds here that the recipe's files are gone.
    assert said(supernode, job) == "internal"


def test_a_job_of_the_link_is_not_worked_on_over_the_superlink(
    hospital: Hospital, supernode: SuperNode
) -> None:
    job = hospital.gate.admit(hospital.member, signed(hospital, "wardgate")).digest
    assert said(supernode, job) == "engine"


def test_without_leave_of_the_policy_the_job_is_refused_also_when_it_was_let_in_before(
    hospital: Hospital, supernode: SuperNode
) -> None:
    admission = hospital.gate.admit(hospital.member, signed(hospital))
    allow(hospital, superlink=False)
    with pytest.raises(Refused) as refused:
        hospital.gate.check_still_allowed(hospital.member, admission)
    assert refused.value.code == "engine"
    with pytest.raises(Refused) as refused:
        hospital.gate.admit(hospital.member, signed(hospital))
    assert refused.value.code == "engine"
    assert not supernode._is_allowed()


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff" * 100,
        pack([b"{}"]),
        pack([b"{", b""]),
        pack([b"{}", b"\xff\xff"]),
        pack([b"{}", wire.Task(job="../../etc", task="1").SerializeToString()]),
        pack([b"{}", wire.Task(job="0" * 64, task="x" * 100).SerializeToString()]),
        pack([b"[]", wire.Task(job="0" * 64).SerializeToString()]),
    ],
)
def test_what_is_no_task_is_neither_worked_on_nor_written_down(
    hospital: Hospital, supernode: SuperNode, message: bytes
) -> None:
    before = len(hospital.entries())
    assert supernode._answer(Frame(ASKED, message, b"")) is None
    assert len(hospital.entries()) == before


def test_before_the_coordinator_agreed_with_our_ledger_nothing_is_answered(
    hospital: Hospital, supernode: SuperNode
) -> None:
    job = hospital.gate.admit(hospital.member, signed(hospital)).digest
    supernode._was_welcomed = lambda: False
    before = len(hospital.entries())
    threading.Timer(1.5, supernode.stop).start()
    assert said(supernode, job) == "nothing"
    assert len(hospital.entries()) == before


def test_a_flood_of_messages_fills_no_ledger(hospital: Hospital, supernode: SuperNode) -> None:
    jobs = hospital.policy.jobs.model_copy(update={"unsigned_per_hour": 100})
    hospital.policy = hospital.policy.model_copy(update={"jobs": jobs})
    answers = [said(supernode, f"{number:064x}") for number in range(150)]
    assert answers[-1] == "nothing"
    assert len(hospital.entries("notice")) <= 101


def test_tensors_that_are_not_those_of_the_task_are_refused(tmp_path: Path) -> None:
    folder = BlobFolder(tmp_path)
    wanted = wire.BlobReference(digest="0" * 64, size=3)
    with pytest.raises(DocumentError):
        _Given(b"abc")("job", wanted, folder)
    with pytest.raises(DocumentError):
        _Given(b"abcd")("job", wanted, folder)
    assert not folder.has("0" * 64)
