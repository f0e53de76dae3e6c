"""L-BFGS over hospitals: for a loss whose gradient each hospital tells whole.

With one step of plain gradient descent on all of a hospital's examples, what comes back is its
gradient, and the mean over hospitals that of all examples together. So the server can take the
steps that a solver of the pooled table would: a few dozen rounds instead of hundreds, no learning
rate to find, and features that say the same don't make it swing.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
_ARMIJO = 1e-4
_ROUNDING = 1e-6
"""What a loss in 32 bits may rise by without having risen."""
_FLAT = 1e-9
"""Below this share of their lengths, a step and the gradients' change have no curvature."""


@dataclass(frozen=True)
class _Point:
    """Weights, and of all examples together the loss there, the penalty included, and gradient."""

    weights: Doubles
    loss: float
    gradient: Doubles


class QuasiNewton(FedAvg):  # type: ignore[misc]  # Flower is untyped here
    """Each round asks for loss and gradient at one point; the model is the best one so far.

    A hospital takes one step of ``learning-rate`` on all its examples and returns the mean loss
    before it (``loss``); ``weight_decay`` is the ridge penalty that is in its gradient, of arrays
    of two dimensions and more. A point that isn't enough better is given up for one nearer to the
    best. When other examples took part than before, it begins anew from there. Noise on updates
    makes the gradients another loss's: then federated averaging does better.

    Source: Nocedal and Wright 2006, "Numerical Optimization", algorithms 7.4 and 3.1.
    """

    def __init__(
        self, *, weight_decay: float = 0.0, loss: str = "train_loss", memory: int = 10, **named: int
    ) -> None:
        super().__init__(**named)
        self.weight_decay = weight_decay
        self.loss = loss
        self._form = ArrayRecord()
        self._rate = 1.0
        self._examples = -1.0
        self._trial: Doubles | None = None
        self._best: _Point | None = None
        self._pairs: deque[tuple[Doubles, Doubles]] = deque(maxlen=memory)
        self._direction = np.zeros(0)
        self._length = 0.0

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask at the point to try, which isn't the best so far."""
        if self._trial is None:
            self._form, self._trial = arrays, _flat(arrays)
        self._rate = float(config["learning-rate"])
        messages: Iterable[Message] = super().configure_train(
            server_round, self._record(self._trial), config, grid
        )
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Return the best point so far; ``ValueError`` when no loss came."""
        came = list(replies)
        stepped, metrics = super().aggregate_train(server_round, came)
        if stepped is None or metrics is None or self._trial is None:
            return None, metrics
        if self.loss not in metrics:
            raise ValueError(f"strategy: lbfgs needs the metric {self.loss}")
        at = _flat(self._record(self._trial))  # as it was sent, in its own precision
        here = _Point(
            at,
            float(metrics[self.loss]) + self._penalty(at),
            (at - _flat(stepped)) / self._rate,
        )
        examples = _examples(came, self.weighted_by_key)
        if examples != self._examples:
            self._best, self._examples = None, examples
            self._pairs.clear()
        best = self._go_on(here)
        return self._record(best.weights), metrics

    def _go_on(self, here: _Point) -> _Point:
        """Choose the next point to try, and return the best."""
        best = self._best
        if best is None or self._is_better(here, best):
            if best is not None:
                self._remember(here.weights - best.weights, here.gradient - best.gradient)
            best = self._best = here
            self._direction = self._downhill(here.gradient)
            steep = float(np.linalg.norm(here.gradient))
            self._length = 1.0 if self._pairs else 1.0 / max(1.0, steep)
        else:
            self._length = self._shorter(here, best)
        self._trial = best.weights + self._length * self._direction
        return best

    def _is_better(self, here: _Point, best: _Point) -> bool:
        slope = float(best.gradient @ self._direction)
        allowed = best.loss + _ARMIJO * self._length * slope + _ROUNDING * max(1.0, abs(best.loss))
        return math.isfinite(here.loss) and here.loss <= allowed

    def _shorter(self, here: _Point, best: _Point) -> float:
        """The least of the parabola through both losses and the slope, within bounds."""
        slope = float(best.gradient @ self._direction)
        above = here.loss - best.loss - slope * self._length
        if not (math.isfinite(above) and above > 0):
            return 0.1 * self._length
        least = -slope * self._length**2 / (2 * above)
        return min(max(least, 0.1 * self._length), 0.5 * self._length)

    def _remember(self, step: Doubles, change: Doubles) -> None:
        size = float(np.linalg.norm(step) * np.linalg.norm(change))
        if size > 0 and float(step @ change) > _FLAT * size:
            self._pairs.append((step, change))

    def _downhill(self, gradient: Doubles) -> Doubles:
        """Return minus the gradient, by the inverse curvature that the last steps showed."""
        towards = gradient.copy()
        shares = []
        for step, change in reversed(self._pairs):
            share = float(step @ towards) / float(step @ change)
            shares.append(share)
            towards -= share * change
        if self._pairs:
            step, change = self._pairs[-1]
            towards *= float(step @ change) / float(change @ change)
        for (step, change), share in zip(self._pairs, reversed(shares), strict=True):
            towards += (share - float(change @ towards) / float(step @ change)) * step
        return -towards

    def _penalty(self, weights: Doubles) -> float:
        if not self.weight_decay:
            return 0.0
        total, start = 0.0, 0
        for array in self._form.values():
            size = math.prod(array.shape)
            if len(array.shape) > 1:
                total += float(np.square(weights[start : start + size]).sum())
            start += size
        return self.weight_decay / 2 * total

    def _record(self, weights: Doubles) -> ArrayRecord:
        found, start = {}, 0
        for name, array in self._form.items():
            size = math.prod(array.shape)
            part = weights[start : start + size].reshape(array.shape)
            found[name] = Array(np.ascontiguousarray(part, dtype=array.dtype))
            start += size
        return ArrayRecord(found)


def _flat(arrays: ArrayRecord) -> Doubles:
    return np.concatenate([array.numpy().astype(np.float64).ravel() for array in arrays.values()])


def _examples(replies: Iterable[Message], key: str) -> float:
    return sum(
        float(record[key])
        for reply in replies
        if reply.has_content()
        for record in reply.content.metric_records.values()
        if key in record
    )
