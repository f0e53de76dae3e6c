"""Every touch of Flower's internals on the coordinator's side of engine ``superlink``.

Written for Flower 1.41, whose version is pinned. It speaks to a SuperLink's Control and Runtime
APIs and sits where its SuperExec would: a run's task is taken with the SuperExec's secret, and
what the task's process would say is said from here. Loaded only when the engine is used.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import httpx
from flwr.app import Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.app.metadata import Metadata
from flwr.common.constant import SUPERLINK_NODE_ID, SubStatus
from flwr.common.serde import message_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import StartRunRequest
from flwr.proto.fab_pb2 import Fab
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    GetNodesRequest,
    PullAppMessagesRequest,
    PullTaskInputRequest,
    PushAppMessagesRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.constant import TaskType
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import (
    inflate_object_from_contents,
    pull_objects,
    push_objects,
)
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.runtime import RuntimeHttpClient
from google.protobuf.message import DecodeError

from contract import wire_pb2 as wire
from contract.errors import DocumentError, Unavailable
from contract.work import Scalar

ACQUIRE = "/flwr.proto.Runtime/AcquireTask"
TTL_SECONDS = 12 * 3600.0
PIECE_BYTES, RECORDS = 16 * 2**20, 16
"""Flower's pieces have 20 MiB; a message of ours is few records."""
_GONE = (401, 403, 404)

T = TypeVar("T")


class RunOver(Exception):
    """The SuperLink doesn't hold the run open any more."""


@dataclass(frozen=True)
class Came:
    """What came in answer to a message: a content, or None for an error of Flower's."""

    message: str
    content: RecordDict | None
    too_large: bool = False
    """Whether there is more of it than may be; it wasn't read."""


def _said(call: Callable[[], T]) -> T:
    """Return what a call returns; ``Unavailable`` when the SuperLink isn't there."""
    try:
        return call()
    except httpx.HTTPStatusError as error:
        if error.response.status_code in _GONE:
            raise RunOver from None
        raise Unavailable(f"The SuperLink answers {error.response.status_code}.") from None
    except httpx.HTTPError as error:
        raise Unavailable(f"The SuperLink can't be reached: {type(error).__name__}.") from None


def is_up(address: str) -> bool:
    """Say whether a SuperLink answers there."""
    try:
        return httpx.get(f"http://{address}/health", timeout=5.0, trust_env=False).is_success
    except httpx.HTTPError:
        return False


class Seat:
    """The SuperExec's seat at a SuperLink: runs are started and their tasks taken here."""

    def __init__(self, address: str, secret: bytes) -> None:
        self._address = address
        version = RuntimeVersionHttpInterceptor(component_name="SuperExec")
        signed = SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=[ACQUIRE])
        self._control = ControlHttpClient.from_server_address(address, True, None, [])
        self._runtime = RuntimeHttpClient.from_server_address(
            address, True, None, [version, signed]
        )

    def start_run(self, bundle: bytes, parameters: Mapping[str, Scalar]) -> int:
        """Start a run of a bundle and return its id."""
        fab = Fab(hash_str=hashlib.sha256(bundle).hexdigest(), content=bundle)
        request = StartRunRequest(fab=fab, override_config=user_config_to_proto(dict(parameters)))
        run_id = int(_said(lambda: self._control.StartRun(request)).run_id)
        if not run_id:
            raise Unavailable("The SuperLink started no run.")
        return run_id

    def take(self) -> tuple[int, str] | None:
        """Take the oldest task that nobody has: its run and its token; None without one."""
        request = AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP])
        got = _said(lambda: self._runtime.AcquireTask(request))
        return (int(got.task.run_id), str(got.token)) if got.token else None

    def run(self, run_id: int, token: str) -> HeldRun:
        """Return a run whose task was taken."""
        return HeldRun(self._address, run_id, token)

    def close(self) -> None:
        """End the connections."""
        self._control.close()
        self._runtime.close()


class HeldRun:
    """One run, as its ServerApp's process would hold it."""

    def __init__(self, address: str, run_id: int, token: str) -> None:
        self.run_id = run_id
        self._node = Node(node_id=SUPERLINK_NODE_ID)
        self._client = RuntimeHttpClient.from_server_address(
            address,
            True,
            None,
            [
                RuntimeVersionHttpInterceptor(component_name="flwr-serverapp"),
                RuntimeTokenHttpInterceptor(token),
            ],
        )
        self._task_id = 0

    def begin(self) -> None:
        """Say that the task has begun."""
        got = _said(lambda: self._client.PullTaskInput(PullTaskInputRequest()))
        self._task_id = int(got.task_id)

    def beat(self) -> None:
        """Say that it is still worked on; ``RunOver`` when that is not wanted any more."""
        if not _said(lambda: self._client.SendTaskHeartbeat(SendTaskHeartbeatRequest())).success:
            raise RunOver

    def nodes(self) -> dict[bytes, int]:
        """Return the nodes that are there, by their public keys."""
        found = _said(lambda: self._client.GetNodes(GetNodesRequest())).nodes
        return {bytes(node.public_key): int(node.node_id) for node in found}

    def push(self, node_id: int, message_type: str, group: str, content: RecordDict) -> str:
        """Send a message to a node and return the message's id."""
        message = Message(
            metadata=Metadata(
                run_id=self.run_id,
                message_id="",
                src_node_id=SUPERLINK_NODE_ID,
                dst_node_id=node_id,
                reply_to_message_id="",
                group_id=group,
                created_at=time.time(),
                ttl=TTL_SECONDS,
                message_type=message_type,
                src_task_id=self._task_id,
            ),
            content=content,
        )
        with no_object_id_recompute():
            message.metadata.__dict__["_message_id"] = message.object_id
            tree = get_object_tree(message)
            objects = get_all_nested_objects(message)
            request = PushAppMessagesRequest(
                messages_list=[message_to_proto(remove_content_from_message(message))],
                message_object_trees=[tree],
            )
            got = _said(lambda: self._client.PushMessages(request))
            if list(got.message_ids) != [message.metadata.message_id]:
                raise Unavailable("The SuperLink did not take a message.")
            push = make_push_object_fn_protobuf(
                self._client.PushObject, self._node, self.run_id, got.session_id
            )
            wanted = set(got.objects_to_push)
            _said(lambda: push_objects(objects, push, object_ids_to_push=wanted))
        return str(message.metadata.message_id)

    def pull(self, messages: Collection[str], max_bytes: int) -> Iterator[Came]:
        """Yield what came in answer to these messages since; each answer comes once.

        An answer is fetched when it is its turn, so that one is in memory at a time. One in more
        pieces than ``max_bytes`` and its records take is not read.
        """
        if not messages:
            return
        request = PullAppMessagesRequest(message_ids=sorted(messages))
        got = _said(lambda: self._client.PullMessages(request))
        for proto, tree in zip(got.messages_list, got.message_object_trees, strict=True):
            asked = str(proto.metadata.reply_to_message_id)
            ids = [str(one.object_id) for one in iterate_object_tree(tree)]
            if len(ids) > max_bytes // PIECE_BYTES + RECORDS:
                yield Came(asked, None, too_large=True)
            else:
                yield Came(asked, self._content(str(proto.metadata.message_id), ids))

    def _content(self, name: str, ids: list[str]) -> RecordDict | None:
        pull = make_pull_object_fn_protobuf(self._client.PullObject, self._node, self.run_id)
        try:
            whole = inflate_object_from_contents(name, pull_objects(ids, pull_object_fn=pull))
        except httpx.HTTPError:
            return None
        except Exception:  # Flower has many errors for an object that isn't whole
            return None
        request = ConfirmMessageReceivedRequest(
            node=self._node, run_id=self.run_id, message_object_id=name
        )
        _said(lambda: self._client.ConfirmMessageReceived(request))
        if not isinstance(whole, Message) or not whole.has_content():
            return None
        return whole.content

    def finish(self, reason: str = "") -> None:
        """Say that the run is over: well, or why not."""
        request = PushTaskOutputRequest(
            sub_status=SubStatus.FAILED if reason else SubStatus.COMPLETED, details=reason
        )
        _said(lambda: self._client.PushTaskOutput(request))

    def close(self) -> None:
        """End the connection."""
        self._client.close()


def read_answer(message: bytes) -> wire.FromNode:
    """Return the link's message that a node's answer holds; ``DocumentError`` when it is none."""
    try:
        found = wire.FromNode.FromString(message)
    except DecodeError:
        raise DocumentError("A node's answer is malformed.") from None
    if found.WhichOneof("body") not in ("reply", "failed", "decision"):
        raise DocumentError("A node's answer is none.")
    return found
