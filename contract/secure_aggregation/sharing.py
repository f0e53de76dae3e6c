"""Shamir's secret sharing over a prime field (Shamir 1979).

A secret is 32 bytes. Its shares are points of a random polynomial of degree ``threshold - 1`` whose
value at zero is the secret: with ``threshold`` of them it is known, with fewer nothing of it is,
however much its finder can compute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from contract.errors import DocumentError

PRIME = 2**257 - 93
"""The largest prime below 2^257; every secret of 32 bytes is below it."""
SECRET_BYTES, SHARE_BYTES = 32, 33
Randomness = Callable[[int], bytes]
"""Returns so many bytes that nobody can foretell."""


def split(
    secret: bytes, points: Sequence[int], threshold: int, randomness: Randomness
) -> list[bytes]:
    """Return a share for each of ``points``, distinct numbers from 1; any ``threshold`` suffice."""
    if len(secret) != SECRET_BYTES:
        raise ValueError("a secret is 32 bytes")
    if not 1 <= threshold <= len(points) or len(set(points)) != len(points) or min(points) < 1:
        raise ValueError("shares need distinct points, at least as many as the threshold")
    # 64 bits more than the field has make the bias of the remainder negligible.
    coefficients = [int.from_bytes(secret, "big")]
    drawn = randomness(41 * (threshold - 1))
    coefficients += [
        int.from_bytes(drawn[start : start + 41], "big") % PRIME
        for start in range(0, len(drawn), 41)
    ]
    coefficients.reverse()
    shares = []
    for point in points:
        value = 0
        for coefficient in coefficients:
            value = (value * point + coefficient) % PRIME
        shares.append(value.to_bytes(SHARE_BYTES, "big"))
    return shares


class Combiner:
    """Puts secrets together whose shares are at the same points: the weights are found once."""

    def __init__(self, points: Sequence[int]) -> None:
        """``points`` are as many as the threshold, distinct."""
        if len(set(points)) != len(points):
            raise DocumentError("Two shares are of one point.")
        self.points = tuple(points)
        self._weights = []
        for point in points:
            above = below = 1
            for other in points:
                if other != point:
                    above = above * other % PRIME
                    below = below * (other - point) % PRIME
            self._weights.append(above * pow(below, -1, PRIME) % PRIME)

    def combine(self, shares: Mapping[int, bytes]) -> bytes:
        """Return the secret; ``DocumentError`` when the shares are of none."""
        total = 0
        for point, weight in zip(self.points, self._weights, strict=True):
            share = shares[point]
            if len(share) != SHARE_BYTES:
                raise DocumentError("A share has another length.")
            total += weight * int.from_bytes(share, "big")
        total %= PRIME
        if total >> (8 * SECRET_BYTES):
            raise DocumentError("Shares don't fit together: somebody sent a wrong one.")
        return total.to_bytes(SECRET_BYTES, "big")
