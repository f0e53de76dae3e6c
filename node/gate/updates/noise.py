"""Gaussian noise that the gate adds to an update: its draws, and what an account is charged."""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from contract.errors import Refused
from foundation.files import read_bounded, write_new

KEY_BYTES = 32
_COLUMN_BITS = 15
_SIGMA = 1024
"""Standard deviation of one draw from the table, in steps."""
_STRIDE = 256
_MIDDLE = 2**_COLUMN_BITS // 2
_CHUNK = 8192
"""Draws that are made at once, so that they stay in the processor's cache."""
_ZEROS = bytes(16 * _CHUNK)

STEPS_PER_SIGMA = _SIGMA * math.sqrt(1 + _STRIDE**2)
"""Standard deviation of a ``DiscreteGaussian``'s draws, in steps: about 262,146."""


@dataclass(frozen=True)
class GaussianRelease:
    """One release under the Gaussian mechanism, as the privacy account is charged for it.

    ``noise_multiplier`` is the standard deviation over the sensitivity; ``sampling`` the
    probability with which a record was in the sample that the release is about.
    """

    noise_multiplier: float
    sampling: float = 1.0


@dataclass(frozen=True)
class UpdateNoise:
    """The noise that a policy wants on what a recipe sends.

    Guarantee: with the update clipped to ``clip_norm`` and noise of standard deviation
    ``noise_multiplier * clip_norm`` on each of its numbers, a reply's arrays are a release of the
    Gaussian mechanism with sensitivity ``2 * clip_norm``: whatever is changed in the site's data,
    one record or all, the clipped update stays in one ball. The reply's metrics together are
    another such release, each in its declared range (``metric_sigma``). Releases of a job's rounds
    compose; the account does that, by Renyi divergence (``releases``).

    Assumptions: who takes part, which tasks were asked, how long they took and whether one failed
    are not covered. AES-256 in counter mode under a secret key is as good as random bits. The
    draws are of a discrete Gaussian on a grid that depends on policy alone, so floating-point
    rounding takes nothing away; for integer vectors its Renyi divergences are at most those of the
    continuous one.

    Sources: Dwork and Roth 2014, "The Algorithmic Foundations of Differential Privacy", 3.5.3;
    Mironov 2017, "Renyi Differential Privacy", Corollary 3; Canonne, Kamath and Steinke 2020, "The
    Discrete Gaussian for Differential Privacy", Proposition 5.
    """

    noise_multiplier: float
    clip_norm: float

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise on each number of an update."""
        return self.noise_multiplier * self.clip_norm

    @property
    def sensitivity(self) -> float:
        """L2 distance that another data set can move a clipped update by."""
        return 2 * self.clip_norm

    @property
    def step(self) -> float:
        """Distance of the grid on which update and noise lie."""
        return self.sigma / STEPS_PER_SIGMA

    def metric_sigma(self, width: float, metrics: int) -> float:
        """Return the noise on one of ``metrics`` metrics whose declared range is ``width`` wide.

        All of a reply's metrics then make up one release with the multiplier of ``releases``.
        """
        return self.noise_multiplier / 2 * width * math.sqrt(metrics)

    def spend(self, rounds: int) -> tuple[float, float]:
        """Return (sigma, sensitivity) of one Gaussian mechanism that equals ``rounds`` of these.

        Source: Dong, Roth and Su 2022, "Gaussian Differential Privacy", Corollary 3.3.
        """
        return self.sigma, self.sensitivity * math.sqrt(rounds)

    def releases(self, replies: int) -> tuple[GaussianRelease, ...]:
        """Return what ``replies`` replies are charged, each with both arrays and metrics."""
        return (GaussianRelease(self.noise_multiplier / 2),) * (2 * replies)


def noise_key(path: Path) -> bytes:
    """Return the node's secret from which draws are made, new at its first use."""
    if not path.exists():
        import secrets

        write_new(path, secrets.token_bytes(KEY_BYTES))
    key = read_bounded(path, KEY_BYTES)
    if len(key) != KEY_BYTES:
        raise Refused("noise", "This site can't add the noise that its policy wants.")
    return key


def draw_key(secret: bytes, parts: Sequence[bytes]) -> bytes:
    """Return the key of one reply's draws, from what was asked and what would be answered.

    The same question with the same answer gets the same draws, however often it is asked; any
    other gets draws of its own, so that a difference of two replies is never free of noise.
    """
    mac = hmac.new(secret, digestmod=hashlib.sha256)
    for part in parts:
        mac.update(len(part).to_bytes(8, "little"))
        mac.update(part)
    return mac.digest()


class DiscreteGaussian:
    """Integers with the probabilities of a Gaussian of ``STEPS_PER_SIGMA``, drawn from a key.

    A draw is ``a + 256 b`` of two from a table with standard deviation 1,024. That is a discrete
    Gaussian up to a factor of 1 + 1e-60 (Micciancio and Walter 2017, "Gaussian Sampling over the
    Integers", Corollary 4.1: 1,024 is far above the smoothing parameter times 256). The table is
    Walker's alias method in integers that add up to 2^64: each of its draws is within 2^-48 of it
    in total variation, all for an update of 10^7 numbers within 10^-7, which adds to delta.

    A draw is of one block of AES-256 in counter mode, and its place is the counter's value. So
    several threads may draw at different places, and what is drawn doesn't depend on who draws.
    """

    def __init__(self, key: bytes) -> None:
        self._key = algorithms.AES(key)
        self._next = 0

    def draw(self, count: int) -> NDArray[np.int32]:
        """Return the next ``count`` draws."""
        found = self.draw_at(self._next, count)
        self._next += count
        return found

    def draw_at(self, place: int, count: int) -> NDArray[np.int32]:
        """Return the ``count`` draws from a place on. May be called from any thread."""
        stream = Cipher(self._key, modes.CTR(place.to_bytes(16, "big"))).encryptor()
        found = np.empty(count, np.int32)
        scratch = _Scratch(min(count, _CHUNK))
        for start in range(0, count, _CHUNK):
            piece = found[start : start + _CHUNK]
            pairs = scratch.table_draws(stream.update(_ZEROS[: 16 * piece.size]))
            np.multiply(pairs[1::2], _STRIDE, out=piece)
            piece += pairs[::2]
        return found


class _Scratch:
    """Memory for a chunk's draws from the table, written over by the next one."""

    def __init__(self, draws: int) -> None:
        self._columns = np.empty(2 * draws, np.uint64)
        self._lows = np.empty(2 * draws, np.uint64)
        self._thresholds = np.empty(2 * draws, np.uint64)
        self._keeps = np.empty(2 * draws, np.bool_)
        self._own = np.empty(2 * draws, np.int32)
        self._drawn = np.empty(2 * draws, np.int32)

    def table_draws(self, stream: bytes) -> NDArray[np.int32]:
        """Return one draw from the table for each 8 random bytes."""
        random = np.frombuffer(stream, np.uint64)
        thresholds, others = _table()
        size = random.size
        columns, lows = self._columns[:size], self._lows[:size]
        np.right_shift(random, np.uint64(64 - _COLUMN_BITS), out=columns)
        np.bitwise_and(random, np.uint64(2 ** (64 - _COLUMN_BITS) - 1), out=lows)
        places = columns.view(np.int64)
        limits = np.take(thresholds, places, out=self._thresholds[:size], mode="clip")
        keeps = np.less(lows, limits, out=self._keeps[:size])
        drawn = np.take(others, places, out=self._drawn[:size], mode="clip")
        own = np.subtract(places, _MIDDLE, out=self._own[:size], casting="unsafe")
        own -= drawn
        own *= keeps  # a choice without branches, which takes a third of the time of one with them
        drawn += own
        return drawn


@cache
def _table() -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """Return Walker's table: thresholds, and the value beside each column's own.

    A column's own value is its number less ``_MIDDLE``.
    """
    size, capacity = 2**_COLUMN_BITS, 2 ** (64 - _COLUMN_BITS)
    values = np.arange(size) - _MIDDLE  # 16 standard deviations to each side
    shares = np.exp(-(values.astype(np.float64) ** 2) / (2 * _SIGMA**2))
    weights = [int(share) for share in shares / shares.sum() * 2.0**64]
    weights[_MIDDLE] += 2**64 - sum(weights)
    others = np.arange(size)
    thresholds = np.full(size, capacity, np.uint64)
    small = [i for i in range(size) if weights[i] < capacity]
    large = [i for i in range(size) if weights[i] >= capacity]
    while small:
        short, long = small.pop(), large[-1]
        thresholds[short], others[short] = weights[short], long
        weights[long] -= capacity - weights[short]
        if weights[long] < capacity:
            small.append(large.pop())
    return thresholds, values[others].astype(np.int32)
