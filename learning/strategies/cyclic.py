"""Cyclic weight transfer: one site after another trains the same model.

Source: Chang et al. 2018, "Distributed deep learning networks among institutions for medical
imaging".
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from logging import INFO
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg


class Cyclic(FedAvg):  # type: ignore[misc]  # Flower is untyped here
    """Round r trains at one site, the next one of the cycle, and its weights go to the one after.

    So n rounds are a cycle of n sites. The order is that in which sites were first seen; with
    ``shuffled`` each cycle draws one. A site that is away, or gives no answer, is passed over until
    the next cycle. Evaluation is at every site, as FedAvg's. All arguments but ``shuffled`` are
    FedAvg's.
    """

    needs_single_updates = "Each round's model is one site's own weights."

    def __init__(self, *, shuffled: bool = False, **named: Any) -> None:
        super().__init__(**named)
        self.shuffled = shuffled
        self._known: list[int] = []
        self._left: list[int] = []

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask the next site of the cycle."""
        site = self._next(grid)
        log(INFO, "configure_train: round %s is at node %s", server_round, site)
        config["server-round"] = server_round
        record = RecordDict({self.arrayrecord_key: arrays, self.configrecord_key: config})
        messages: list[Message] = self._construct_messages(record, [site], MessageType.TRAIN)
        return messages

    def _next(self, grid: Grid) -> int:
        while len(online := list(grid.get_node_ids())) < self.min_available_nodes:
            time.sleep(1)
        self._known += [node for node in online if node not in self._known]
        if not set(self._left) & set(online):
            self._left = [node for node in self._known if node in online]
            if self.shuffled:
                random.shuffle(self._left)
        site = next(node for node in self._left if node in online)
        self._left.remove(site)
        return site

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Return the site's weights as they are; nothing when it gave none."""
        valid, _ = self._check_and_log_replies(replies, is_train=True)
        if not valid:
            return None, None
        [content] = [message.content for message in valid]
        metrics = self.train_metrics_aggr_fn([content], self.weighted_by_key)
        return next(iter(content.array_records.values())), metrics
