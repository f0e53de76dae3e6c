"""Weights that are made so that an update tells single records, looked for before training.

Whoever sends a model can shape its first layers such that gradients hold inputs word for word.
Three shapes are known and are looked for in each task's arrays, in all rounds:

- ``binned rows``: at least 8 rows of a linear layer point the same way and differ in their
  thresholds. The difference of two rows' gradients is then the records between two thresholds.
  Fowl et al. 2022, "Robbing the Fed" (imprint module); Zhao et al. 2024, "LOKI".
- ``trap weights``: in half the rows or more, the positive values are the negative ones times one
  factor, so that hardly any record passes a row. Boenisch et al. 2023, "When the Curious Abandon
  Honesty".
- ``scaled rows``: a few rows are more than 1,000 times as long as the others. Wen et al. 2022,
  "Fishing for User Data in Large-Batch Federated Learning"; LOKI's scaled kernels.

This is a check for known shapes and promises nothing: whoever knows the thresholds can stay under
them, and a single row that few records pass is no shape at all. What holds against them is noise
(``node.gate.updates.noise``). Not looked at: layers with one input, arrays with fewer than 8 rows,
convolutions' thresholds (a threshold there bins positions and not records). The thresholds were
set so that initialised and trained models pass (the tests hold some of both).
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.errors import Refused
from contract.records import Arrays, Records

FEWEST_ROWS = 8
SAME_WAY = 1e-3
"""Rows point the same way if the cosine of their angle is above 1 less this."""
THRESHOLD_SPREAD = 0.15
"""From which on thresholds bin: between their quartiles, as distances from the origin, and where
these are far from it, as a share of the median. Units that a small start made grow together have
nearly one threshold (Luo et al. 2021, "Phase Diagram for Two-layer ReLU Neural Networks")."""
LONGER = 1000.0
NEGLIGIBLE_LENGTH = 1e-3
FEW = 0.1
"""The largest share of rows that count as a few."""

_SKETCH = 32
_PIVOTS = 64
"""Rows that others are compared with: a group of a tenth is missed once in a thousand times."""
_EXACT_PIVOTS = 8
_SORTED_ROWS = 16
_TRAPPED = 0.1

Matrix = NDArray[Any]


def check(received: Records) -> None:
    """Raise ``Refused`` (``imprint``) when received arrays have one of the shapes."""
    for record in received.values():
        if isinstance(record, Arrays) and found_shape(record.items):
            raise Refused("imprint", "The weights are made so that an update tells single records.")


def found_shape(
    arrays: Mapping[str, NDArray[Any]], generator: np.random.Generator | None = None
) -> str:
    """Return the first shape that was found, or an empty string.

    ``generator`` chooses the rows and combinations that are looked at; a sender must not know it.
    """
    chosen = generator or np.random.default_rng(secrets.randbits(128))
    with np.errstate(all="ignore"):
        for rows, thresholds in _layers(arrays):
            lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
            if not np.isfinite(lengths).all():
                return "not finite"
            if _are_scaled(lengths):
                return "scaled rows"
            if thresholds is not None and _are_binned(rows, lengths, thresholds, chosen):
                return "binned rows"
            if _are_trapped(rows, chosen):
                return "trap weights"
    return ""


def _layers(arrays: Mapping[str, NDArray[Any]]) -> Iterator[tuple[Matrix, Matrix | None]]:
    """Yield each layer's weights, a row for each output, and a linear one's thresholds."""
    items = list(arrays.items())
    for index, (name, array) in enumerate(items):
        if array.ndim < 2 or array.dtype.kind != "f" or array.size == 0:
            continue
        weights = array.astype(np.float32) if array.dtype.itemsize < 4 else array
        bias = _bias_of(name, items, index)
        inputs_first = bias is not None and bias.size == array.shape[-1] != array.shape[0]
        ways = [inputs_first]
        if bias is not None and array.ndim == 2 and array.shape[0] == array.shape[1]:
            ways = [False, True]  # which of them is the outputs can't be told
        for transposed in ways:
            rows = (
                weights.reshape(-1, array.shape[-1]).T
                if transposed
                else weights.reshape(array.shape[0], -1)
            )
            if rows.shape[0] >= FEWEST_ROWS and rows.shape[1] > 1:
                fits = bias is not None and array.ndim == 2 and bias.size == rows.shape[0]
                yield rows, bias if fits else None


def _bias_of(name: str, items: list[tuple[str, NDArray[Any]]], index: int) -> Matrix | None:
    """Return the thresholds of an array of weights: by their names, else what comes next."""
    for weight, bias in (("weight", "bias"), ("kernel", "bias")):
        if weight in name:
            found = dict(items).get(bias.join(name.rsplit(weight, 1)))
            return found if found is not None and found.ndim == 1 else None
    following = items[index + 1][1] if index + 1 < len(items) else None
    if following is not None and following.ndim == 1 and following.dtype.kind == "f":
        return following
    return None


def _are_scaled(lengths: Matrix) -> bool:
    usual = lengths[lengths > NEGLIGIBLE_LENGTH]
    if usual.size < FEWEST_ROWS:
        return False
    long = np.count_nonzero(usual > LONGER * np.median(usual))
    return bool(0 < long <= FEW * lengths.size)


def _tolerance(inputs: int, rows: int) -> float:
    """Return how far from 1 a cosine may be; fewer inputs leave less room to differ by chance."""
    if inputs == 2:
        return min(SAME_WAY, (0.1 * math.pi / (2 * rows)) ** 2 / 2)
    return min(SAME_WAY, 0.1 / rows) if inputs == 3 else SAME_WAY


def _are_binned(
    rows: Matrix, lengths: Matrix, bias: Matrix, generator: np.random.Generator
) -> bool:
    alive = np.flatnonzero(lengths > 0)
    units = _units(_sketch(rows, generator))
    picked = generator.permutation(alive)[:_PIVOTS]
    # Not a BLAS product, whose threads wait for one another on a busy machine.
    near = np.abs(np.einsum("ik,jk->ij", units[picked], units)) > 1 - SAME_WAY
    tolerance = _tolerance(rows.shape[1], alive.size)
    looked = np.flatnonzero(near.sum(axis=1) >= FEWEST_ROWS)[:_EXACT_PIVOTS]
    for pivot in looked:
        group = np.flatnonzero(near[pivot])
        exact = _units(rows[group].astype(np.float64))
        cosines = np.einsum("ij,j->i", exact, _units(rows[picked[pivot]][None].astype(float))[0])
        same = 1 - np.abs(cosines) < tolerance
        if np.count_nonzero(same) < FEWEST_ROWS:
            continue
        distances = np.sign(cosines[same]) * bias[group[same]] / lengths[group[same]]
        low, middle, high = np.quantile(distances, (0.25, 0.5, 0.75))
        if high - low > THRESHOLD_SPREAD * max(abs(middle), 1):
            return True
    return False


def _units(rows: Matrix) -> Matrix:
    units: Matrix = rows / np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    return units  # NaN, which is near nothing, for rows of zeros


def _sketch(rows: Matrix, generator: np.random.Generator) -> Matrix:
    """Return sums of a row's values under random signs: rows of one direction keep to one."""
    count, width = rows.shape
    if width <= _SKETCH:
        return rows
    each = width // _SKETCH
    signs = (2 * generator.integers(0, 2, width) - 1).astype(rows.dtype)
    body = rows[:, : each * _SKETCH].reshape(count, _SKETCH, each)
    sketch: Matrix = np.einsum("kbj,bj->kb", body, signs[: each * _SKETCH].reshape(_SKETCH, each))
    rest = width - each * _SKETCH
    sketch[:, :rest] += rows[:, width - rest :] * signs[width - rest :]
    return sketch


def _are_trapped(rows: Matrix, generator: np.random.Generator) -> bool:
    count, width = rows.shape
    if width < 2 * FEWEST_ROWS:
        return False
    looked = rows[generator.permutation(count)[:_SORTED_ROWS]]
    halved = np.count_nonzero(looked > 0, axis=1) == np.count_nonzero(looked < 0, axis=1)
    if 2 * np.count_nonzero(halved) < len(looked):
        return False  # hardly any honest layer is sorted
    return 2 * sum(map(_is_trapped, looked[halved])) >= len(looked)


def _is_trapped(row: Matrix) -> bool:
    """Say whether positive values are the negative ones times a factor, more nearly than chance.

    By chance two sorted halves differ by about 1 / sqrt(n), relatively. A factor of 1 is that of
    symmetric weights, which many initialisers make.
    """
    ordered = np.sort(row.astype(np.float64))
    negative, positive = -ordered[ordered < 0], ordered[ordered > 0][::-1]
    if negative.size < FEWEST_ROWS:
        return False
    square = float(negative @ negative)
    factor = float(positive @ negative) / square
    apart = math.sqrt(float(((positive - factor * negative) ** 2).sum()) / square)
    return apart < _TRAPPED / math.sqrt(negative.size) and abs(1 - factor) > 1e-4
