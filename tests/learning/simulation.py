"""Flower by itself: a Grid that calls each node's ClientApp in this process, one after another."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.app.error import Error
from flwr.app.metadata import Metadata
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

Make = Callable[[int], ClientApp]


class LocalGrid(Grid):
    """Nodes with a context each. ``sent`` and ``replies`` are every message, as it travelled."""

    def __init__(self, apps: Mapping[int, ClientApp], run_config: Mapping[str, Any] = {}) -> None:
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
        self.apps = dict(apps)
        self.contexts = {
            node: Context(1, node, {"partition-id": i}, RecordDict(), dict(run_config))
            for i, node in enumerate(apps)
        }
        self.away: set[int] = set()
        self.failing: set[int] = set()
        self.sent: list[Message] = []
        self.replies: list[Message] = []

    def set_run(self, run: Any) -> None:
        """Flower's."""

    @property
    def run(self) -> Any:
        """Flower's."""
        return Run.create_empty(1)

    def create_message(self, *arguments: Any, **named: Any) -> Message:
        """Flower's."""
        return Message(*arguments, **named)

    def get_node_ids(self) -> list[int]:
        """Return who is there."""
        return [node for node in self.apps if node not in self.away]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Flower's."""
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Flower's."""
        raise NotImplementedError

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Have every node answer, in the order of their ids."""
        replies = []
        for message in sorted(
            messages, key=lambda m: list(self.apps).index(m.metadata.dst_node_id)
        ):
            node = message.metadata.dst_node_id
            self.sent.append(self._arrived(message, copied(message.content)))
            travelled = self._arrived(message, copied(message.content))
            if node in self.failing:
                replies.append(
                    Message(metadata=reply_metadata(travelled.metadata), error=Error(1, "x"))
                )
                continue
            answer = self.apps[node](travelled, self.contexts[node])
            assert answer.has_content(), answer.error
            content = copied(answer.content)
            replies.append(Message(metadata=reply_metadata(travelled.metadata), content=content))
        self.replies += replies
        return replies

    def _arrived(self, message: Message, content: RecordDict) -> Message:
        sent = message.metadata
        number = str(len(self.sent))
        metadata = Metadata(
            run_id=1, message_id=number, src_node_id=1, dst_node_id=sent.dst_node_id,
            reply_to_message_id="", group_id=sent.group_id, created_at=sent.created_at,
            ttl=sent.ttl, message_type=sent.message_type, src_task_id=1, dst_task_id=1,
        )  # fmt: skip
        return Message(metadata=metadata, content=content)


def reply_metadata(sent: Metadata) -> Metadata:
    """Return the metadata of an answer."""
    return Metadata(
        run_id=1, message_id=sent.message_id + "r", src_node_id=sent.dst_node_id, dst_node_id=1,
        reply_to_message_id=sent.message_id, group_id=sent.group_id, created_at=sent.created_at,
        ttl=sent.ttl, message_type=sent.message_type, src_task_id=1, dst_task_id=1,
    )  # fmt: skip


def copied(content: RecordDict) -> RecordDict:
    """Return a message's content as another process would have it."""
    return RecordDict(
        {
            name: ArrayRecord(dict(record))
            if isinstance(record, ArrayRecord)
            else copy.deepcopy(record)
            for name, record in content.items()
        }
    )
