"""Real vectors as words whose sum doesn't overflow: clipped, scaled, rounded, biased.

A value is clipped to ``[-bound, bound]`` and rounded to a multiple of ``bound / half``, where
``half = 2**(bits - 1) - 1``. The sum over ``n`` sites needs ``bits + ceil(log2 n)`` bits; the
smallest of 16, 32 and 64 that holds it is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.errors import DocumentError
from contract.secure_aggregation.masking import Words


@dataclass(frozen=True)
class FixedPoint:
    """How a vector of ``length`` reals is written; ``sites`` is how many are summed at most."""

    bound: float
    bits: int
    sites: int

    def __post_init__(self) -> None:
        if not (self.bound > 0 and np.isfinite(self.bound)):
            raise DocumentError("The bound of a secure sum must be a number above 0.")
        if not 2 <= self.bits <= 48 or self.sites < 1:
            raise DocumentError("A secure sum has 2 to 48 bits a value, and one site at least.")
        if self.needed > 64:
            raise DocumentError("A secure sum over so many sites needs fewer bits a value.")

    @property
    def needed(self) -> int:
        """Bits that a sum over all sites has."""
        return self.bits + (self.sites - 1).bit_length()

    @property
    def word(self) -> int:
        """Bits of a word: 16, 32 or 64."""
        return next(width for width in (16, 32, 64) if self.needed <= width)

    @property
    def half(self) -> int:
        """The largest absolute value, in steps."""
        return (1 << (self.bits - 1)) - 1

    @property
    def step(self) -> float:
        """The distance between two values that can be told apart."""
        return self.bound / self.half

    def encode(self, values: NDArray[np.floating]) -> Words:
        """Return the words of ``values``; ``DocumentError`` when one isn't finite."""
        if not np.isfinite(values).all():
            raise DocumentError("A value to be summed is not finite.")
        steps = np.rint(np.clip(values.astype(np.float64), -self.bound, self.bound) / self.step)
        return steps.astype(np.int64).astype(np.dtype(f"u{self.word // 8}"))

    def decode(self, total: Words) -> NDArray[np.float64]:
        """Return the sum of the reals, of the sum of the words."""
        signed = total.view(np.dtype(f"i{self.word // 8}"))
        return signed.astype(np.float64) * self.step
