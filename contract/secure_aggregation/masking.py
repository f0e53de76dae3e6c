"""Masks: a seed of 32 bytes expanded by AES-256 in counter mode, added to a vector of words.

Words are unsigned integers of 16, 32 or 64 bits, and sums wrap around, so the modulus is a power of
two and adding is what the processor does anyway. Source: Bonawitz et al. 2017, section 6
(AES-CTR as the generator); NIST SP 800-38A.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

Words = NDArray[np.uint16] | NDArray[np.uint32] | NDArray[np.uint64]
_PIECE_BYTES = 1 << 17
"""What is expanded at once: it stays in the processor's cache until it is added."""
_ZEROS = bytes(_PIECE_BYTES)
_SPARE = 16


def add_mask(vector: Words, seed: bytes, *, subtract: bool = False) -> None:
    """Add to (or subtract from) ``vector``, in place, the mask that ``seed`` expands to.

    A seed is used for one vector only. Words of the mask are little-endian.
    """
    add_masks(vector, [(seed, subtract)])


def add_masks(vector: Words, masks: Sequence[tuple[bytes, bool]]) -> None:
    """Add to ``vector``, in place, many masks: each its seed, and whether it is subtracted.

    All are added to one piece before the next, so that the vector is read from memory once.
    """
    encryptors = [
        (
            Cipher(algorithms.AES256(seed), modes.CTR(bytes(16))).encryptor(),
            np.subtract if subtract else np.add,
        )
        for seed, subtract in masks
    ]
    width = vector.dtype.itemsize
    piece = _PIECE_BYTES // width
    buffer = bytearray(_PIECE_BYTES + _SPARE)
    expanded = np.frombuffer(buffer, vector.dtype.newbyteorder("<"), piece)
    for start in range(0, vector.size, piece):
        part = vector[start : start + piece]
        zeros = _ZEROS if part.size == piece else _ZEROS[: part.size * width]
        mask = expanded[: part.size]
        for encryptor, operate in encryptors:
            encryptor.update_into(zeros, buffer)
            operate(part, mask, out=part)
