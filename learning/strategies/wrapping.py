"""A strategy around another: everything is the inner one's, but for what a subclass changes."""

from __future__ import annotations

from collections.abc import Iterable

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy


class Wrapper(Strategy):  # type: ignore[misc]  # Flower is untyped here
    """Passes every step on to ``strategy``, as Flower's own wrappers do."""

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy

    @property
    def needs_single_updates(self) -> str:
        """Why the strategy inside can't work on a sum alone; empty when it can."""
        return str(getattr(self.strategy, "needs_single_updates", ""))

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return the messages that ask for training."""
        messages: Iterable[Message] = self.strategy.configure_train(
            server_round, arrays, config, grid
        )
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Return the model and metrics of a round of training."""
        result: tuple[ArrayRecord | None, MetricRecord | None] = self.strategy.aggregate_train(
            server_round, replies
        )
        return result

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return the messages that ask for evaluation."""
        messages: Iterable[Message] = self.strategy.configure_evaluate(
            server_round, arrays, config, grid
        )
        return messages

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Return the metrics of a round of evaluation."""
        metrics: MetricRecord | None = self.strategy.aggregate_evaluate(server_round, replies)
        return metrics

    def summary(self) -> None:
        """Log the settings."""
        self.strategy.summary()
