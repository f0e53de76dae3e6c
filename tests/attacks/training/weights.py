"""Weights as attackers make them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float32]


def binned_rows(
    public: NDArray[Any], bins: int, generator: np.random.Generator
) -> tuple[Floats, Floats]:
    """Fowl et al. 2022, 3.1: every row measures the same combination of the inputs; thresholds lie
    at the quantiles that it has on public data, so that few records fall between two."""
    direction = generator.standard_normal(public.shape[1])
    direction /= np.linalg.norm(direction)
    measured = public @ direction
    quantiles = stats.norm.ppf(np.arange(1, bins + 1) / (bins + 1))
    thresholds = -(measured.mean() + measured.std() * quantiles)
    return (
        np.tile(direction, (bins, 1)).astype("float32"),
        np.asarray(thresholds, "float32"),
    )


def trap_weights(
    rows: int, inputs: int, generator: np.random.Generator, factor: float = 0.97
) -> Floats:
    """Boenisch et al. 2023, algorithm 1: half of each row negative, the other half the same values
    turned positive and a little smaller, in random places."""
    found = np.empty((rows, inputs), "float32")
    half = inputs // 2
    for row in found:
        negative = -np.abs(generator.standard_normal(half))
        values = np.concatenate([negative, -factor * negative])
        if inputs % 2:
            values = np.append(values, 0.0)
        row[:] = values[generator.permutation(inputs)]
    return found / np.float32(math.sqrt(inputs))
