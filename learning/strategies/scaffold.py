"""SCAFFOLD: control variates that take each site's own drift out of its steps.

Source: Karimireddy et al. 2020, "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning",
algorithm 1 with option II.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray

CONTROL = "control/"
"""What stands before a parameter's name in the name of its control variate."""


class Scaffold(FedAvg):  # type: ignore[misc]  # Flower is untyped here
    """The server's half; a site's is ``learning.mods.scaffold``, which the app must use.

    The server's control variates c go out with the model in one record, as ``control/NAME``, and
    each site sends back its model and c + (its new variate - its old one) under the same names. So
    means are all that is needed of replies, and a site's reply has the form of what it got. Where
    the paper has plain means over the sites, these are weighted as FedAvg's are: variates and
    weights alike, which suits the objective that FedAvg has. A site that was never heard counts as
    one of mean weight. Variates have the size of the model, so messages have twice its size.

    ``server_learning_rate`` is the paper's global step size. All other arguments are FedAvg's.
    """

    needs_single_updates = ""

    def __init__(self, *, server_learning_rate: float = 1.0, **named: Any) -> None:
        super().__init__(**named)
        self.server_learning_rate = server_learning_rate
        self.control: dict[str, NDArray[Any]] = {}
        self._sums: dict[str, NDArray[Any]] = {}
        """Weight times variate, summed over all sites: exact, whoever takes part in a round."""
        self._weights: dict[int, float] = {}
        self._model: dict[str, NDArray[Any]] = {}
        self._nodes: set[int] = set()
        self._asked = 0

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send the model and the control variates."""
        self._model = {key: array.numpy() for key, array in arrays.items()}
        if not self.control:
            floats = {key: a for key, a in self._model.items() if a.dtype.kind == "f"}
            self.control = {key: np.zeros_like(array) for key, array in floats.items()}
            self._sums = {key: np.zeros(array.shape) for key, array in floats.items()}
        both = ArrayRecord(dict(arrays))
        for key, value in self.control.items():
            both[CONTROL + key] = Array(value)
        self._nodes |= set(grid.get_node_ids())
        messages = list(super().configure_train(server_round, both, config, grid))
        self._asked = len(messages)
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Step towards the mean of the models, and add the variates' mean change."""
        replies = list(replies)
        both, metrics = super().aggregate_train(server_round, replies)
        if both is None:
            return None, metrics
        means = {key: array.numpy() for key, array in both.items()}
        weight = self._take_note_of_weights(replies)
        # One answer to many questions is the sum of all, as secure aggregation gives it.
        summed = len(replies) == 1 < self._asked
        everybody = weight or 1.0 if summed else self._weight_of_everybody()
        for key, before in self.control.items():
            self._sums[key] += weight * (means.pop(CONTROL + key) - before)
            self.control[key] = (self._sums[key] / everybody).astype(before.dtype)
        rate = self.server_learning_rate
        model = ArrayRecord()
        for key, before in self._model.items():
            mean = means[key]
            moved = mean if rate == 1 else before + rate * (mean - before)
            model[key] = Array(np.asarray(moved, before.dtype))
        return model, metrics

    def _take_note_of_weights(self, replies: list[Message]) -> float:
        """Return the weight of all who answered."""
        total = 0.0
        for reply in replies:
            if reply.has_content():
                record = next(iter(reply.content.metric_records.values()))
                weight = float(record[self.weighted_by_key])
                self._weights[reply.metadata.src_node_id] = weight
                total += weight
        return total

    def _weight_of_everybody(self) -> float:
        known = sum(self._weights.values())
        others = len(self._nodes - self._weights.keys())
        return known * (1 + others / len(self._weights)) or 1.0
