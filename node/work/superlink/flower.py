"""Every touch of Flower's internals on the node's side of engine ``superlink``.

Written for Flower 1.41, whose version is pinned. Runs only in the SuperNode's own process. It is
the stock loop (``start_client_internal``) with a state of ours: a message that came is handed to
the daemon, whose gate makes the reply. There is no ClientApp, no executor and no Runtime API in
this process, and nothing of a bundle that the SuperLink sends is unpacked.
"""

from __future__ import annotations

import hashlib
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import flwr.supernode.fleet_http_connection as connection
import flwr.supernode.start_client_internal as stock
import httpx
from flwr.app import Message, RecordDict
from flwr.app.error import Error
from flwr.app.metadata import Metadata
from flwr.common.constant import ISOLATION_MODE_PROCESS, ErrorCode
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import RunNotRunningException
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.nodestate import NodeStateFactory
from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState

from contract.errors import DocumentError
from foundation.superlink import pack, unpack
from foundation.transport import SERVER_NAME, TransportIdentity

MAX_OBJECT_BYTES = 64 * 2**20
"""Largest answer of the SuperLink to one call; Flower's own pieces have 20 MiB."""
_PIECE_BYTES = 16 * 2**20
_REFUSED = Error(ErrorCode.UNKNOWN, "refused")
"""Said of what is none of Wardgate's: the same to everything, so it tells nothing."""


@dataclass(frozen=True)
class RunSeen:
    """What the SuperLink says of a run: the SHA-256 of the bundle it sent, and its overrides."""

    bundle: str
    config: Mapping[str, object]


@dataclass(frozen=True)
class Answer:
    """What the daemon's gate let out: a message of the link, and its tensors."""

    message: bytes
    tensors: bytes


Ask = Callable[[RunSeen, bytes, bytes], Answer | None]
"""Gives the daemon a run, a message and its tensors; None: nothing is answered."""


class GatedState(InMemoryNodeState):  # type: ignore[misc]  # Flower is untyped here
    """The state of a SuperNode in which a reply is what the daemon gave, or the same error.

    Guarantee: nothing becomes a reply but what ``ask`` returned, and one fixed error. No other
    process can put one in, as no Runtime API is served. How long the work took isn't told.
    """

    def __init__(self, object_store: Any, ask: Ask, max_bytes: int) -> None:
        super().__init__(object_store)
        self._ask = ask
        self._max_objects = max_bytes // _PIECE_BYTES + 16
        self._runs: dict[int, RunSeen] = {}

    def look_at_run(self, content: bytes, run: Any) -> dict[str, object]:
        """Note what a run is said to be, in place of reading its bundle; the config isn't used."""
        digest = hashlib.sha256(content).hexdigest()
        self._runs[run.run_id] = RunSeen(digest, dict(run.override_config))
        return {}

    def store_fab(self, fab: Any) -> str:
        """Drop the bundle: the approved one is here already."""
        return str(fab.hash_str)

    def create_task(self, *args: object, **named: object) -> int:
        """Make no task: nobody takes one."""
        return 1

    def finish_task(self, *args: object, **named: object) -> bool:
        """There is none."""
        return True

    def store_message(self, message: Message) -> str | None:
        """Keep a message that came. A reply is never stored: it is made when it is asked for."""
        if message.metadata.reply_to_message_id:
            raise DocumentError("A reply came from elsewhere than the gate.")
        name = message.metadata.message_id  # its pieces are named by now, and not pulled yet
        tree = self.object_store.get_object_tree(name)
        if sum(1 for _ in iterate_object_tree(tree)) > self._max_objects:
            self.object_store.delete(name)
            raise RunNotRunningException  # Flower's loop passes such a message over
        with self.lock_msg_store:
            self.msg_store.clear()  # one at a time; what wasn't received whole is forgotten
            stored: str | None = super().store_message(message)
            return stored

    def get_messages_legacy(
        self,
        *,
        run_ids: Sequence[int] | None = None,
        is_reply: bool | None = None,
        limit: int | None = None,
    ) -> Sequence[Message]:
        """Return the reply to the message that waits; blocks until the daemon has given it."""
        if is_reply is not True:
            raise DocumentError("Nobody but the gate takes a message.")
        waiting = super().get_messages_legacy(is_reply=False, limit=1)
        return [self._reply(message) for message in waiting]

    def get_message_processing_duration(self, message_id: str) -> float:
        """Tell nobody how long it took: a time may depend on the data."""
        return 0.0

    def _reply(self, message: Message) -> Message:
        answer: Answer | None = None
        try:
            said, tensors = unpack(self._content(message))
            answer = self._ask(self._runs[message.metadata.run_id], said, tensors)
        except (DocumentError, KeyError, ValueError, TypeError):
            pass  # its text may hold anything; the reply says that it was refused
        if answer is None:
            reply = Message(metadata=_reply_to(message.metadata), error=_REFUSED)
        else:
            content = pack(answer.message, answer.tensors)
            reply = Message(metadata=_reply_to(message.metadata), content=content)
        with no_object_id_recompute():
            reply.metadata.__dict__["_message_id"] = reply.object_id
            self.object_store.preregister(message.metadata.run_id, get_object_tree(reply))
            for name, part in get_all_nested_objects(reply).items():
                self.object_store.put(name, part.deflate())
        return reply

    def _content(self, message: Message) -> RecordDict:
        name = message.metadata.message_id
        ids = [t.object_id for t in iterate_object_tree(self.object_store.get_object_tree(name))]
        if len(ids) > self._max_objects:
            raise DocumentError("A message is in too many pieces.")
        contents = {one: self.object_store.get(one) for one in ids}
        self.object_store.delete(name)
        whole = inflate_object_from_contents(name, contents)
        if not isinstance(whole, Message) or not whole.has_content():
            raise DocumentError("A message has no content.")
        return whole.content


def _reply_to(asked: Metadata) -> Metadata:
    now = time.time()
    return Metadata(
        run_id=asked.run_id,
        message_id="",
        src_node_id=asked.dst_node_id,
        dst_node_id=asked.src_node_id,
        reply_to_message_id=asked.message_id,
        group_id=asked.group_id,
        created_at=now,
        ttl=max(1.0, asked.created_at + asked.ttl - now),
        message_type=asked.message_type,
        src_task_id=asked.dst_task_id,
        dst_task_id=asked.src_task_id,
    )


# ---- the way to the SuperLink --------------------------------------------------------------------


class _NamedContext(ssl.SSLContext):
    """TLS that shows our certificate and expects the coordinator's name, whatever was dialled."""

    def wrap_socket(self, *args: Any, **named: Any) -> ssl.SSLSocket:
        return super().wrap_socket(*args, **(named | {"server_hostname": SERVER_NAME}))


def tls_context(identity: TransportIdentity) -> ssl.SSLContext:
    """Return mutual TLS as on the link: the consortium's authority alone, TLS 1.3."""
    context = _NamedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cafile=str(identity.authority_file))
    context.load_cert_chain(str(identity.pair_file))
    return context


class _Bounded(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        held = 0
        for piece in self._stream:
            held += len(piece)
            if held > MAX_OBJECT_BYTES:
                raise DocumentError("The SuperLink sends too much at once.")
            yield piece

    def close(self) -> None:
        self._stream.close()


class BoundedTransport(httpx.HTTPTransport):
    """HTTP that reads no more of an answer than ``MAX_OBJECT_BYTES``, and no compressed one."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; its answer's body is counted as it is read."""
        request.headers["accept-encoding"] = "identity"
        response = super().handle_request(request)
        if response.headers.get("content-encoding", "identity") != "identity":
            response.close()
            raise DocumentError("The SuperLink sends something compressed.")
        assert isinstance(response.stream, httpx.SyncByteStream)
        response.stream = _Bounded(response.stream)
        return response


def _client_for(identity: TransportIdentity) -> type[FleetHttpClient]:
    class MutualFleetClient(FleetHttpClient):  # type: ignore[misc]  # Flower is untyped here
        """Flower's client of the Fleet API over our mutual TLS; it follows no redirection."""

        @classmethod
        def from_server_address(
            cls, server_address: str, insecure: bool, root_certificates: object, **named: Any
        ) -> MutualFleetClient:
            made = cls(f"https://{server_address}", **named)
            made._client.close()
            made._client = httpx.Client(
                transport=BoundedTransport(verify=tls_context(identity), trust_env=False),
                timeout=30.0,
                follow_redirects=False,
                trust_env=False,
            )
            return made

    return MutualFleetClient


def run(
    address: str, identity: TransportIdentity, ask: Ask, *, poll_seconds: float, max_bytes: int
) -> None:
    """Be a SuperNode until this process ends. ``address``: HOST:PORT of the Fleet API."""
    stores = ObjectStoreFactory()
    states = NodeStateFactory(objectstore_factory=stores)
    states.state_instance = state = GatedState(stores.store(), ask, max_bytes)
    stock.get_fused_config_from_fab = state.look_at_run
    stock.time = SimpleNamespace(sleep=lambda seconds: time.sleep(min(seconds, poll_seconds)))
    connection.FleetHttpClient = _client_for(identity)
    stock.start_client_internal(
        state_factory=states,
        server_address=address,
        node_config={},
        root_certificates=str(identity.authority_file),
        insecure=False,
        authentication_keys=None,  # a new one each time, which the front ties to our certificate
        isolation=ISOLATION_MODE_PROCESS,
        trusted_entities=None,
        superexec_auth_secret=None,
        runtime_dependency_install=False,
    )
