"""An update as it leaves: clipped, noised and quantised at the gate, outside the sandbox.

An update is what a recipe's arrays are less those that it received. Only arrays of floats can
carry one: with any treatment in force, all others leave as they were received.

The order is clip, noise, quantise. What comes after noise is worked out from its result alone, so
it takes nothing from the guarantee (``node.gate.updates.noise``).
"""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from contract.errors import Refused
from node.gate.updates.noise import DiscreteGaussian

_PIECE = 65536
"""Numbers that are worked on at once, so that they stay in the processor's cache."""
THREADS = min(4, os.cpu_count() or 1)
"""Arrays that are worked on at once."""
_BELOW = 1 - 1e-9
"""So that no rounding makes a clipped update longer than its limit."""

R = TypeVar("R")
Array = NDArray[Any]
Named = Mapping[str, Array]


@dataclass(frozen=True)
class Treatment:
    """What is done to an update; zeros mean that it isn't.

    ``clip_norm``: its largest L2 norm, over all its arrays together. ``step``: the grid on which
    noise lies; 0 without noise. ``bits``: of the integers to which the numbers of each array are
    rounded, uniformly between plus and minus the largest; the same update gives the same ones.

    Guarantee: an update that leaves is at most ``clip_norm`` long, but for noise and for rounding
    (to the integers, and of its sum with what was received). Quantised, each of its numbers is one
    of 2^bits - 1, so that what lower bits could carry is gone. The higher ones can still carry:
    quantisation narrows that channel and doesn't close it. Source: Song, Ristenpart and Shmatikov
    2017, "Machine Learning Models that Remember Too Much", 4.1.
    """

    clip_norm: float = 0.0
    bits: int = 0
    step: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.clip_norm or self.bits or self.step)


@dataclass(frozen=True)
class Treated:
    """The arrays that leave, and by what the update was multiplied to be short enough."""

    arrays: dict[str, Array]
    scale: float


def treat(
    received: Named, reply: Named, treatment: Treatment, noise: DiscreteGaussian | None = None
) -> Treated:
    """Return ``reply`` treated. Both hold the same names, shapes and dtypes.

    Raises ``Refused`` (``not-finite``) when the update's norm is not a finite number.
    """
    assert (noise is not None) == (treatment.step > 0)
    scale = 1.0
    places = dict(
        zip(reply, itertools.accumulate((a.size for a in reply.values()), initial=0), strict=False)
    )
    if treatment.clip_norm:
        length = norm(received, reply, exact=noise is not None)
        if not math.isfinite(length):
            raise Refused("not-finite", "An array holds a value that is not finite.")
        if length > treatment.clip_norm * _BELOW:
            scale = treatment.clip_norm * _BELOW / length

    def treated(name: str) -> Array:
        if reply[name].dtype.kind != "f":
            return received[name]
        draw = None if noise is None else functools.partial(_drawn, noise, places[name])
        return _treat_one(received[name], reply[name], scale, treatment, draw)

    return Treated(dict(zip(reply, _each(treated, reply), strict=True)), scale)


def _drawn(noise: DiscreteGaussian, place: int, start: int, count: int) -> Array:
    return noise.draw_at(place + start, count)


def _each(function: Callable[[str], R], names: Iterable[str]) -> list[R]:
    """Apply a function to each name, on several processors: NumPy lets others work meanwhile."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(function, names))


def norm(received: Named, reply: Named, *, exact: bool = False) -> float:
    """Return the L2 norm of the update, in double precision throughout if ``exact``."""

    def squares(name: str) -> float:
        if reply[name].dtype.kind != "f":
            return 0.0
        total = 0.0
        with np.errstate(all="ignore"):
            for update in _updates(received[name], reply[name], exact=exact):
                # Not a BLAS product, whose threads wait for one another on a busy machine.
                total += float(np.add.reduce(np.multiply(update, update, out=update)))
        return total

    total = sum(_each(squares, reply))
    return math.sqrt(total) if total >= 0 else math.nan


def _updates(received: Array, reply: Array, *, exact: bool) -> Iterator[Array]:
    """Yield the update piece by piece, in memory that the next piece is written over."""
    dtype = _working(reply, exact=exact)
    before, after = received.reshape(-1), reply.reshape(-1)
    buffer = np.empty(min(_PIECE, after.size), dtype)
    for start in range(0, after.size, _PIECE):
        piece = after[start : start + _PIECE]
        out = buffer[: piece.size]
        yield np.subtract(piece, before[start : start + _PIECE], out=out, dtype=dtype)


def _working(array: Array, *, exact: bool) -> Any:
    return np.float64 if exact or array.dtype.itemsize > 4 else np.float32


def _treat_one(
    received: Array,
    reply: Array,
    scale: float,
    treatment: Treatment,
    draw: Callable[[int, int], Array] | None,
) -> Array:
    if scale == 1.0 and not treatment.bits and draw is None:
        return reply
    dtype = _working(reply, exact=draw is not None)
    update = np.empty(reply.size, dtype)
    largest = 0.0
    for index, piece in enumerate(_updates(received, reply, exact=draw is not None)):
        out = update[index * _PIECE :][: piece.size]
        np.multiply(piece, dtype(scale), out=out)
        if draw is not None:
            # Towards zero, so that no update gets longer by being put on the grid.
            np.trunc(np.divide(out, treatment.step, out=out), out=out)
            out += draw(index * _PIECE, out.size)
            out *= treatment.step
        if treatment.bits:
            largest = max(largest, float(out.max()), -float(out.min()))
    if treatment.bits and largest:
        if not math.isfinite(largest):
            raise Refused("not-finite", "An array holds a value that is not finite.")
        _quantise(update, largest, treatment.bits)
    before = received.reshape(-1)
    treated = np.empty(reply.size, reply.dtype)
    for start in range(0, reply.size, _PIECE):
        end = start + _PIECE
        np.add(before[start:end], update[start:end], out=treated[start:end], casting="same_kind")
    return treated.reshape(reply.shape)


def _quantise(update: Array, largest: float, bits: int) -> None:
    """Round each number to a whole multiple of the step that ``largest`` is 2^(bits-1) - 1 of."""
    step = update.dtype.type(largest / (2 ** (bits - 1) - 1))
    if not step:
        return  # the numbers are at the end of what their type can hold
    for start in range(0, update.size, _PIECE):
        piece = update[start : start + _PIECE]
        np.rint(np.divide(piece, step, out=piece), out=piece)
        piece *= step
