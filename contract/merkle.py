"""The Merkle tree of RFC 6962: roots, and proofs that a log holds an entry or extends another.

Names and algorithms are the standard's: the tree hash, paths and proofs of RFC 6962, 2.1 to 2.1.2;
their verification of RFC 9162, 2.1.3.2 and 2.1.4.2. Hashes are SHA-256, 32 bytes. A complete
subtree is called by its level (0 for leaves) and its number at that level.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

HASH_BYTES = 32
MAX_PATH = 64
"""A proof longer than this is of no tree that could exist."""
EMPTY_ROOT = hashlib.sha256(b"").digest()

Node = Callable[[int, int], bytes]
"""Gives the hash of the complete subtree of this level and number."""


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of an entry as a leaf (RFC 6962, 2.1)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node over its two children (RFC 6962, 2.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """A tree as far as it must be known to add leaves: the roots of its complete subtrees."""

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        """Begin with ``peaks``, the roots of the complete subtrees of ``size`` leaves, from left.

        ``ValueError`` unless there is one for each bit that is set in ``size``.
        """
        if len(peaks) != size.bit_count():
            raise ValueError("a tree has as many complete subtrees as its size has bits set")
        self.size = size
        self._peaks = list(peaks)

    def copy(self) -> Tree:
        """Return a tree that goes on from here by itself."""
        return Tree(self.size, self._peaks)

    @classmethod
    def of(cls, size: int, node: Node) -> Tree:
        """Return the tree of the first ``size`` leaves."""
        peaks, start = [], 0
        for level in reversed(range(size.bit_length())):
            if size >> level & 1:
                peaks.append(node(level, start >> level))
                start += 1 << level
        return cls(size, peaks)

    def append(self, leaf: bytes) -> list[bytes]:
        """Add a leaf's hash; return the hashes of all subtrees that it completes, from below.

        The first is the leaf itself. All of them, leaf after leaf, are in the order of ``stored``.
        """
        completed = [leaf]
        size = self.size
        while size & 1:
            leaf = hashlib.sha256(b"\x01" + self._peaks.pop() + leaf).digest()
            completed.append(leaf)
            size >>= 1
        self._peaks.append(leaf)
        self.size += 1
        return completed

    def root(self) -> bytes:
        """Return the root of the tree as it is."""
        if not self._peaks:
            return EMPTY_ROOT
        root = self._peaks[-1]
        for peak in self._peaks[-2::-1]:
            root = node_hash(peak, root)
        return root


def stored(level: int, number: int) -> int:
    """Return where a subtree's hash stands when hashes are stored in the order of completion.

    Each leaf is followed by the subtrees that it completes, so that a log's hashes are a file that
    is only appended to (Go's ``sumdb/tlog`` keeps them so).
    """
    last_leaf = number + 1 << level
    return stored_count(last_leaf - 1) + level


def stored_count(size: int) -> int:
    """Return how many hashes are stored for ``size`` leaves."""
    return 2 * size - size.bit_count()


def root(size: int, node: Node) -> bytes:
    """Return the root of the first ``size`` leaves (RFC 6962, 2.1)."""
    return _tree_hash(0, size, node) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, node: Node) -> list[bytes]:
    """Return PATH(index, D[size]) of RFC 6962, 2.1.1; ``ValueError`` without such a leaf."""
    if not 0 <= index < size:
        raise ValueError("there is no such leaf")
    return _path(index, 0, size, node)


def consistency_proof(first: int, second: int, node: Node) -> list[bytes]:
    """Return PROOF(first, D[second]) of RFC 6962, 2.1.2; ``ValueError`` unless 0 < first <= second.

    It is empty when the sizes are equal.
    """
    if not 0 < first <= second:
        raise ValueError("there is no such proof")
    return _subproof(first, 0, second, node, whole=True)


def inclusion_holds(
    leaf: bytes, index: int, size: int, path: Sequence[bytes], root_hash: bytes
) -> bool:
    """Say whether ``path`` proves that a leaf of this hash is in the tree (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size or not _is_path(path):
        return False
    number, last = index, size - 1
    found = leaf
    for step in path:
        if last == 0:
            return False
        if number & 1 or number == last:
            found = node_hash(step, found)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            found = node_hash(found, step)
        number, last = number >> 1, last >> 1
    return last == 0 and found == root_hash


def consistency_holds(
    first: int, first_root: bytes, second: int, second_root: bytes, path: Sequence[bytes]
) -> bool:
    """Say whether ``path`` proves that the second tree begins with the first (RFC 9162, 2.1.4.2).

    Every tree begins with the empty one, which needs no path.
    """
    if not 0 <= first <= second or not _is_path(path):
        return False
    if first == second:
        return not path and first_root == second_root
    if first == 0:
        return not path and first_root == EMPTY_ROOT
    steps = list(path)
    if first & (first - 1) == 0:
        steps.insert(0, first_root)
    if not steps:
        return False
    number, last = first - 1, second - 1
    while number & 1:
        number, last = number >> 1, last >> 1
    old = new = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if number & 1 or number == last:
            old, new = node_hash(step, old), node_hash(step, new)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            new = node_hash(new, step)
        number, last = number >> 1, last >> 1
    return last == 0 and old == first_root and new == second_root


def _is_path(path: Sequence[bytes]) -> bool:
    return len(path) <= MAX_PATH and all(len(step) == HASH_BYTES for step in path)


def _split(size: int) -> int:
    """Return the largest power of two smaller than ``size``."""
    return 1 << (size - 1).bit_length() - 1


def _tree_hash(start: int, size: int, node: Node) -> bytes:
    """Return MTH of ``size`` leaves from ``start``."""
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return node(level, start >> level)
    left = _split(size)
    return node_hash(_tree_hash(start, left, node), _tree_hash(start + left, size - left, node))


def _path(index: int, start: int, size: int, node: Node) -> list[bytes]:
    if size == 1:
        return []
    left = _split(size)
    if index < left:
        beside = _tree_hash(start + left, size - left, node)
        return [*_path(index, start, left, node), beside]
    beside = _tree_hash(start, left, node)
    return [*_path(index - left, start + left, size - left, node), beside]


def _subproof(first: int, start: int, size: int, node: Node, *, whole: bool) -> list[bytes]:
    if first == size:
        return [] if whole else [_tree_hash(start, size, node)]
    left = _split(size)
    if first <= left:
        beside = _tree_hash(start + left, size - left, node)
        return [*_subproof(first, start, left, node, whole=whole), beside]
    beside = _tree_hash(start, left, node)
    rest = _subproof(first - left, start + left, size - left, node, whole=False)
    return [*rest, beside]
