"""Which of Flower's internals the SuperNode needs, and that its state lets nothing else out."""

from __future__ import annotations

import hashlib
import inspect
import time
from types import SimpleNamespace
from typing import Any

import flwr.supernode.fleet_http_connection as connection
import flwr.supernode.start_client_internal as stock
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.app.metadata import Metadata
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState

from contract.errors import DocumentError
from foundation import superlink
from foundation.superlink import pack, unpack
from node.work.superlink.flower import Answer, GatedState, RunSeen


def test_flower_has_the_internals_that_the_supernode_needs() -> None:
    superlink.check_version()
    for name in ("get_fused_config_from_fab", "time", "start_client_internal"):
        assert hasattr(stock, name), f"flwr.supernode.start_client_internal has no {name}"
    assert hasattr(connection, "FleetHttpClient")
    wanted = {"state_factory", "server_address", "node_config", "root_certificates", "insecure"}
    wanted |= {"authentication_keys", "isolation", "trusted_entities", "superexec_auth_secret"}
    wanted |= {"runtime_dependency_install"}
    assert wanted <= set(inspect.signature(stock.start_client_internal).parameters)
    loop = inspect.getsource(stock._push_messages)
    assert "state.get_messages_legacy(is_reply=True)" in loop, "replies are taken another way"
    for name in ("store_message", "get_messages_legacy", "get_message_processing_duration"):
        assert callable(getattr(InMemoryNodeState, name))
    assert "httpx.Client(" in inspect.getsource(connection.FleetHttpClient.__mro__[1])


def test_another_version_of_flower_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(superlink, "version", lambda name: "1.42.0")
    with pytest.raises(DocumentError, match=r"needs flwr 1\.41\.0; this is 1\.42\.0"):
        superlink.check_version()


def message(content: RecordDict, run_id: int = 5) -> Message:
    made = Message(
        metadata=Metadata(
            run_id=run_id,
            message_id="",
            src_node_id=1,
            dst_node_id=2,
            reply_to_message_id="",
            group_id="1",
            created_at=time.time(),
            ttl=60.0,
            message_type="train",
            src_task_id=9,
        ),
        content=content,
    )
    made.metadata.__dict__["_message_id"] = made.object_id
    return made


class Desk:
    """Remembers what was asked, and answers with what it is given."""

    def __init__(self, answer: Answer | None) -> None:
        self.answer = answer
        self.asked: list[tuple[RunSeen, bytes, bytes]] = []

    def __call__(self, run: RunSeen, said: bytes, tensors: bytes) -> Answer | None:
        self.asked.append((run, said, tensors))
        return self.answer


def state(desk: Desk) -> GatedState:
    made = GatedState(ObjectStoreFactory().store(), desk, 2**20)
    made.look_at_run(b"bundle", SimpleNamespace(run_id=5, override_config={"rate": 0.5}))
    return made


def arrive(held: GatedState, came: Message) -> None:
    """Put a message in as the stock loop does."""
    held.object_store.preregister(came.metadata.run_id, get_object_tree(came))
    held.store_message(remove_content_from_message(came))
    for name, part in get_all_nested_objects(came).items():
        held.object_store.put(name, part.deflate())


def reply_of(held: GatedState) -> Any:
    [reply] = held.get_messages_legacy(is_reply=True)
    return reply


def test_a_reply_is_what_the_daemon_gave_and_names_the_message_it_answers() -> None:
    desk = Desk(Answer(b"sealed", b"tensors"))
    held, came = state(desk), message(pack(b"task", b"blob"))
    arrive(held, came)
    reply = reply_of(held)
    assert unpack(reply.content) == (b"sealed", b"tensors")
    assert reply.metadata.reply_to_message_id == came.metadata.message_id
    digest = hashlib.sha256(b"bundle").hexdigest()
    assert desk.asked == [(RunSeen(digest, {"rate": 0.5}), b"task", b"blob")]
    assert held.get_message_processing_duration(came.metadata.message_id) == 0.0
    assert not held.get_messages_legacy(is_reply=True)


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"arrays": ArrayRecord()}),
        RecordDict({"wardgate": ConfigRecord({"message": "text"})}),
        RecordDict({"wardgate": ConfigRecord({"message": b"x"}), "more": ConfigRecord()}),
    ],
)
def test_a_message_of_another_kind_is_answered_with_one_fixed_error(content: RecordDict) -> None:
    desk = Desk(Answer(b"sealed", b""))
    held = state(desk)
    arrive(held, message(content))
    reply = reply_of(held)
    assert (reply.has_content(), reply.error.reason) == (False, "refused")
    assert not desk.asked


def test_a_message_of_a_run_that_nobody_looked_at_is_refused() -> None:
    desk = Desk(Answer(b"sealed", b""))
    held = state(desk)
    arrive(held, message(pack(b"task"), run_id=6))
    assert reply_of(held).error.reason == "refused"
    assert not desk.asked


def test_nobody_else_puts_a_reply_in_or_takes_a_message_out() -> None:
    held = state(Desk(None))
    came = message(pack(b"task"))
    forged = message(pack(b"forged"))
    forged.metadata.__dict__["_reply_to_message_id"] = came.metadata.message_id
    with pytest.raises(DocumentError):
        held.store_message(forged)
    for wanted in (False, None):
        with pytest.raises(DocumentError):
            held.get_messages_legacy(is_reply=wanted)
