"""Every touch of Flower on the node's side: the app, its messages, its context.

Written for Flower 1.41, whose version is pinned. Imported only inside the sandbox; nothing else of
the node knows of Flower.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from flwr.app import Context, Message, RecordDict
from flwr.app.metadata import Metadata
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity

from contract import wire_pb2 as wire
from contract.errors import DocumentError
from foundation import tensors
from foundation.flower import from_flower, to_flower

if TYPE_CHECKING:
    from contract.work import Scalar

SERVER_NODE_ID = 1
TASK_ID = 1


class App:
    """A recipe's ClientApp, loaded, with the context that it keeps over all messages."""

    def __init__(
        self,
        reference: str,
        *,
        run_id: int,
        node_id: int,
        run_config: Mapping[str, Scalar],
        node_config: Mapping[str, Scalar],
    ) -> None:
        TaskIdentity.task_id = TASK_ID
        TaskIdentity.run_id = run_id
        TaskIdentity.node_id = node_id
        self._context = Context(
            run_id=run_id,
            node_id=node_id,
            node_config=dict(node_config),
            state=RecordDict(),
            run_config=dict(run_config),
        )
        module, _, names = reference.partition(":")
        app: object = importlib.import_module(module)
        for name in names.split("."):
            app = getattr(app, name)
        if not isinstance(app, ClientApp):
            raise DocumentError("The recipe's clientapp is no ClientApp.")
        self._app = app

    def handle(self, task: wire.Task, blob: bytes) -> tensors.Encoded:
        """Run the app on one message; return its answer.

        Raises what the app raises, and ``DocumentError`` for an answer that can't travel.
        """
        payload = wire.RecordDict.FromString(task.payload)
        message = Message(  # metadata= is how Flower itself makes a message that arrived
            metadata=Metadata(
                run_id=self._context.run_id,
                message_id=task.task,
                src_node_id=SERVER_NODE_ID,
                dst_node_id=self._context.node_id,
                reply_to_message_id="",
                group_id=task.group,
                created_at=time.time(),
                ttl=task.ttl_seconds,
                message_type=task.message_type,
                src_task_id=TASK_ID,
                dst_task_id=TASK_ID,
            ),
            content=to_flower(tensors.read(payload, blob)),
        )
        answer = self._app(message, self._context)
        if not isinstance(answer, Message) or not answer.has_content():
            raise DocumentError("The recipe answered with no content.")
        return tensors.encode(from_flower(answer.content))

    @property
    def state(self) -> bytes:
        """The context's state, as bytes that ``state`` can be set to; empty when there is none."""
        if not self._context.state:
            return b""
        state = tensors.encode(from_flower(self._context.state))
        head = state.message.SerializeToString()
        return b"".join([len(head).to_bytes(8, "big"), head, *state.pieces])

    @state.setter
    def state(self, data: bytes) -> None:
        if not data:
            self._context.state = RecordDict()
            return
        size = int.from_bytes(data[:8], "big")
        message = wire.RecordDict.FromString(data[8 : 8 + size])
        self._context.state = to_flower(tensors.read(message, memoryview(data)[8 + size :]))
