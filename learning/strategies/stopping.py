"""Early stopping: rounds end when a metric gets no better, and the best model is the result."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from logging import INFO
from typing import Any, Literal

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from flwr.serverapp.strategy.result import Result

from learning.strategies.wrapping import Wrapper


class _Enough(Exception):
    """No round is wanted any more."""


class EarlyStopping(Wrapper):
    """Put around any strategy, outermost.

    ``metric`` is one of the sites' evaluation, or, with ``of`` ``"server"``, of ``evaluate_fn``, or
    with ``"train"`` of training. A round is better than the best so far when its metric is lower
    (``greater_is_better``: higher) by more than ``minimum_change``; after ``patience`` rounds in a
    row that aren't, the rounds end. A round without the metric counts for nothing; NaN is never
    better. The result's arrays are those of the best round; by a metric of training they are those
    that the round began with, which is what sites measure first.

    Source: Prechelt 1998, "Early Stopping, But When?", criterion UP.
    """

    def __init__(
        self,
        strategy: Strategy,
        metric: str,
        *,
        of: Literal["evaluate", "server", "train"] = "evaluate",
        patience: int = 5,
        minimum_change: float = 0.0,
        greater_is_better: bool = False,
    ) -> None:
        if patience < 1 or minimum_change < 0:
            raise ValueError("patience must be 1 or more, minimum_change 0 or more")
        if isinstance(strategy, EarlyStopping):
            raise ValueError("one EarlyStopping is enough")
        super().__init__(strategy)
        self.metric = metric
        self.of = of
        self.patience = patience
        self.minimum_change = minimum_change
        self.sign = -1.0 if greater_is_better else 1.0
        self._begin(ArrayRecord())

    def _begin(self, arrays: ArrayRecord) -> None:
        self.best_round = 0
        self._best = math.inf
        self._without = 0
        self._result = Result()
        self._now = self._before = self._best_arrays = arrays

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Run at most ``num_rounds``; as ``Strategy.start``."""
        self._begin(initial_arrays)

        def watched(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
            assert evaluate_fn is not None
            metrics = evaluate_fn(server_round, arrays)
            if metrics is not None:
                self._result.evaluate_metrics_serverapp[server_round] = metrics
                if server_round and self.of == "server":
                    self._see(server_round, metrics, arrays)
            return metrics

        function: Any = None if evaluate_fn is None else watched
        try:
            super().start(
                grid, initial_arrays, num_rounds, timeout, train_config, evaluate_config, function
            )
        except _Enough:
            log(INFO, "%s was best in round %s; no more rounds.", self.metric, self.best_round)
        self._result.arrays = self._best_arrays if self.best_round else self._now
        return self._result

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask for training, unless enough rounds brought nothing."""
        if self._without >= self.patience:
            raise _Enough
        self._before = arrays
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Take note of the model."""
        arrays, metrics = super().aggregate_train(server_round, replies)
        self._now = self._before if arrays is None else arrays
        if metrics is not None:
            self._result.train_metrics_clientapp[server_round] = metrics
            if self.of == "train":
                self._see(server_round, metrics, self._before)
        return arrays, metrics

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Take note of the metric."""
        metrics = super().aggregate_evaluate(server_round, replies)
        if metrics is not None:
            self._result.evaluate_metrics_clientapp[server_round] = metrics
            if self.of == "evaluate":
                self._see(server_round, metrics, self._now)
        return metrics

    def _see(self, server_round: int, metrics: MetricRecord, arrays: ArrayRecord) -> None:
        value = metrics.get(self.metric)
        if not isinstance(value, int | float):
            return
        if self.sign * value < self._best - self.minimum_change:
            self._best, self._best_arrays = self.sign * value, arrays
            self.best_round, self._without = server_round, 0
        else:
            self._without += 1
