"""Means and standard deviations of the federation's training rows, by one round of sums.

A hospital answers, for each feature, the share of its rows that have a value and the mean of the
values and of their squares, where a missing one counts 0. Averaged by number of rows, these are the
pooled table's, to rounding: with ``share`` s, ``first`` a and ``second`` b the mean is a / s and
the variance b / s less its square. Who is held out is in none of them.

They are exact sums over a hospital's rows, like the first step of training: no noise, no least
number of rows but the gate's. The gate treats them like an update of the zeros that were sent. Its
clipping cancels out of a hospital's own mean, and changes its weight; noise makes them useless, and
then the scales belong into the run's parameters, from statistics that were asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy.strategy_utils import sample_nodes
from numpy.typing import NDArray

MESSAGE = "train.moments"
"""The type of the message: ``@app.train("moments")`` answers it."""
_NAMES = ("share", "first", "second")
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """A feature's mean and standard deviation; 0 and 1 of one that is nowhere or doesn't vary."""

    means: Doubles
    deviations: Doubles


def answer(message: Message, rows: Doubles) -> Message:
    """Return a hospital's reply for its training rows (n x features, NaN where missing)."""
    known = np.isfinite(rows)
    values = np.where(known, rows, 0.0)
    number = max(len(rows), 1)
    parts = (known.sum(0), values.sum(0), np.square(values).sum(0))
    arrays = ArrayRecord(
        {n: Array(np.asarray(p / number, np.float64)) for n, p in zip(_NAMES, parts, strict=True)}
    )
    metrics = MetricRecord({"num-examples": len(rows)})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


def ask(grid: Grid, features: int, minimum_nodes: int) -> Scale:
    """Ask every hospital for its moments; ``ValueError`` when fewer than the minimum answer."""
    _, nodes = sample_nodes(grid, minimum_nodes, minimum_nodes)
    zeros = ArrayRecord({name: Array(np.zeros(features)) for name in _NAMES})
    content = RecordDict({"arrays": zeros})
    asked = [Message(content, dst_node_id=node, message_type=MESSAGE) for node in nodes]
    replies = [reply for reply in grid.send_and_receive(asked) if reply.has_content()]
    if len(replies) < minimum_nodes:
        raise ValueError("too few hospitals answered how the features are distributed")
    return merged(sorted(replies, key=lambda reply: int(reply.metadata.src_node_id)))


def merged(replies: Sequence[Message]) -> Scale:
    """Return the scale of all hospitals' rows together."""
    total = 0.0
    sums = [0.0, 0.0, 0.0]
    for reply in replies:
        weight = float(reply.content.metric_records["metrics"]["num-examples"])
        arrays = reply.content.array_records["arrays"]
        total += weight
        for index, name in enumerate(_NAMES):
            sums[index] = sums[index] + weight * arrays[name].numpy()
    share, first, second = (np.asarray(part) / max(total, 1.0) for part in sums)
    present = share > 0
    means = np.where(present, first / np.where(present, share, 1.0), 0.0)
    spread = np.where(present, second / np.where(present, share, 1.0), 0.0)
    # What rounding leaves of a variance of nothing is nothing.
    variances = spread - np.square(means)
    varies = variances > 1e-12 * np.maximum(spread, 1e-300)
    return Scale(means, np.where(varies, np.sqrt(np.where(varies, variances, 1.0)), 1.0))
