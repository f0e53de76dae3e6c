"""Cross-site evaluation: every site's own model on every site.

Each site trains by itself, from the same start. Its best model, by its own evaluation, is then
evaluated at each site, and so is the mean of them all. The table that this gives shows whether a
model of one hospital holds at another, and what averaging does about it.

A site's own model leaves the site as an update does, and the other sites get it: only where all of
them agreed to that.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from logging import INFO
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Result
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

MEAN = "mean"
"""What the mean of the sites' models is called in the names of metrics."""
LOSSES = ("eval_loss", "loss")


class CrossEvaluation(FedAvg):  # type: ignore[misc]  # Flower is untyped here
    """Trains a model at each site and evaluates each of them at every site.

    ``start``'s ``num_rounds`` are rounds of each site's own training; a round for each site's model
    and one for their mean follow. A metric of those rounds is called ``METRIC/MODEL/SITE``: the
    model of which site, at which. The result's arrays are the mean of the best models, weighted as
    FedAvg does.

    ``best_by`` is the metric of a site's evaluation by which its best model is chosen, the smallest
    value unless ``larger_is_better``; by default ``eval_loss`` or ``loss``. A site that evaluates
    without it is taken at its last round. ``name_of`` says what a node is called. All other
    arguments are FedAvg's.
    """

    needs_single_updates = "Each site's own model is evaluated."

    def __init__(
        self,
        *,
        best_by: str = "",
        larger_is_better: bool = False,
        name_of: Callable[[int], str] = str,
        **named: Any,
    ) -> None:
        super().__init__(**named)
        self.best_by = best_by
        self.larger_is_better = larger_is_better
        self._name_of = name_of
        self._own_rounds = 0
        self._initial = ArrayRecord()
        self._nodes: list[int] = []
        self._newest: dict[int, RecordDict] = {}
        """Each site's reply of the newest round of training; its arrays are read when needed."""
        self._best: dict[int, RecordDict] = {}
        self._scores: dict[int, float] = {}
        self._mean = ArrayRecord()

    def start(
        self, grid: Grid, initial_arrays: ArrayRecord, num_rounds: int = 3, **named: Any
    ) -> Result:
        """Train, then evaluate every model everywhere. Arguments are those of any strategy."""
        while len(nodes := list(grid.get_node_ids())) < self.min_available_nodes:
            time.sleep(1)
        self._nodes, self._own_rounds, self._initial = nodes, num_rounds, initial_arrays
        return super().start(grid, initial_arrays, num_rounds + len(nodes) + 1, **named)

    # ---- training ------------------------------------------------------------------------------

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask each site to train its own model; nobody in the rounds of the table."""
        if server_round > self._own_rounds:
            return []
        config["server-round"] = server_round
        return self._to_each(config, MessageType.TRAIN)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Keep each site's model. Before the table, return the mean of the best ones."""
        if server_round == self._own_rounds + 1:
            self._nodes = [node for node in self._nodes if node in self._best]
            log(INFO, "cross-site evaluation of %s models", len(self._nodes))
            best = [self._best[node] for node in self._nodes]
            if best:
                self._mean = aggregate_arrayrecords(best, self.weighted_by_key)
                return self._mean, None
        valid, _ = self._check_and_log_replies(replies, is_train=True)
        for message in valid:
            self._newest[message.metadata.src_node_id] = message.content
        if not valid:
            return None, None
        contents = [message.content for message in valid]
        return None, self.train_metrics_aggr_fn(contents, self.weighted_by_key)

    # ---- evaluation ----------------------------------------------------------------------------

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask each site about its own model, and in the rounds of the table all about one."""
        config["server-round"] = server_round
        if server_round <= self._own_rounds:
            return self._to_each(config, MessageType.EVALUATE)
        row = self._row(server_round)
        if row is None:
            return []
        model = self._mean if isinstance(row, str) else _arrays(self._best[row])
        record = RecordDict({self.arrayrecord_key: model, self.configrecord_key: config})
        messages: list[Message] = self._construct_messages(
            record, list(grid.get_node_ids()), MessageType.EVALUATE
        )
        return messages

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Choose each site's best model; of the table, return a row."""
        valid, _ = self._check_and_log_replies(replies, is_train=False)
        if server_round > self._own_rounds:
            return self._cells(server_round, valid)
        measured = {m.metadata.src_node_id: _metrics(m.content) for m in valid}
        for node, reply in self._newest.items():
            score = self._score(measured.get(node, {}))
            if node not in self._best or score <= self._scores[node]:
                self._best[node], self._scores[node] = reply, score
        if not valid:
            return None
        contents = [message.content for message in valid]
        return self.evaluate_metrics_aggr_fn(contents, self.weighted_by_key)

    def _row(self, server_round: int) -> int | str | None:
        at = server_round - self._own_rounds - 1
        if at < len(self._nodes):
            return self._nodes[at]
        return MEAN if at == len(self._nodes) and self._nodes else None

    def _cells(self, server_round: int, replies: list[Message]) -> MetricRecord | None:
        row = self._row(server_round)
        if row is None or not replies:
            return None
        model = row if isinstance(row, str) else self._name_of(row)
        cells = MetricRecord()
        for message in replies:
            site = self._name_of(message.metadata.src_node_id)
            for key, value in _metrics(message.content).items():
                if key != self.weighted_by_key:
                    cells[f"{key}/{model}/{site}"] = value
        return cells

    def _score(self, metrics: dict[str, float]) -> float:
        """Return a figure that is smaller for a better model, infinite for one without a figure."""
        name = self.best_by or next((loss for loss in LOSSES if loss in metrics), "")
        value = metrics.get(name, math.nan)
        if not math.isfinite(value):
            return math.inf
        return -value if self.larger_is_better else value

    def _to_each(self, config: ConfigRecord, message_type: str) -> list[Message]:
        messages: list[Message] = []
        for node in self._nodes:
            own = _arrays(self._newest[node]) if node in self._newest else self._initial
            record = RecordDict({self.arrayrecord_key: own, self.configrecord_key: config})
            messages += self._construct_messages(record, [node], message_type)
        return messages


def _arrays(content: RecordDict) -> ArrayRecord:
    return next(iter(content.array_records.values()))


def _metrics(content: RecordDict) -> dict[str, float]:
    return {
        key: float(value)
        for record in content.metric_records.values()
        for key, value in record.items()
        if isinstance(value, int | float)
    }
