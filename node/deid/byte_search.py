"""Whether any of many words stands in many bytes, in one pass whatever their number.

The first four bytes at each place are looked up in a table of the words' beginnings by a hash, and
what passes is compared by its first six bytes, then whole. Without a table each word would be a
pass of its own, and a hospital's list of staff has thousands.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

SHORTEST = 6
"""Bytes of the shortest word that is found in the one pass."""
FEW = 24
"""So few words are looked for one after the other, which is faster."""
_PIECE = 1 << 20
_BITS = 20
_FACTOR = np.uint32(2654435761)


def contains_any(data: bytes, words: Iterable[bytes]) -> bool:
    """Say whether any of the words stands in ``data``, ASCII letters in either case.

    The words are in lower case. An empty one stands everywhere.
    """
    known = set(words)
    short = {word for word in known if len(word) < SHORTEST} if len(known) > FEW else known
    if short:
        lower = data.lower()
        if any(word in lower for word in short):
            return True
    known -= short
    return bool(known) and _found(data, known)


def _found(data: bytes, words: set[bytes]) -> bool:
    beginnings: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for word in words:
        beginnings[word[:SHORTEST]].append(word)
    table = np.zeros(1 << _BITS, dtype=np.bool_)
    joined = np.frombuffer(b"".join(first[:4] for first in beginnings), "<u4")
    table[_hash(joined)] = True
    wanted = np.sort(
        _sixes(
            np.frombuffer(b"".join(beginnings), np.uint8),
            np.arange(0, SHORTEST * len(beginnings), SHORTEST),
        )
    )
    longest = max(map(len, words))
    for start in range(0, len(data), _PIECE):
        piece = data[start : start + _PIECE + longest - 1].lower()
        octets = np.frombuffer(piece, np.uint8)
        for at in _places(piece, octets, table, wanted):
            if any(piece.startswith(w, at) for w in beginnings[piece[at : at + SHORTEST]]):
                return True
    return False


def _places(
    piece: bytes,
    octets: NDArray[np.uint8],
    table: NDArray[np.bool_],
    wanted: NDArray[np.uint64],
) -> list[int]:
    """Return where six bytes stand that a word begins with."""
    found = []
    for offset in range(4):
        number = (len(piece) - offset) // 4
        if number < 1:
            continue
        fours = np.frombuffer(piece, "<u4", number, offset)
        found.append(np.flatnonzero(table[_hash(fours)]) * 4 + offset)
    places = np.concatenate(found) if found else np.zeros(0, np.int64)
    places = places[places <= len(piece) - SHORTEST]
    if not places.size:
        return []
    sixes = _sixes(octets, places)
    at = np.minimum(np.searchsorted(wanted, sixes), len(wanted) - 1)
    return [int(one) for one in places[wanted[at] == sixes]]


def _hash(fours: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return (fours * _FACTOR) >> np.uint32(32 - _BITS)


def _sixes(octets: NDArray[np.uint8], places: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the six bytes at each place as one number."""
    found = np.zeros(len(places), np.uint64)
    for step in range(SHORTEST):
        found |= octets[places + step].astype(np.uint64) << np.uint64(8 * step)
    return found
