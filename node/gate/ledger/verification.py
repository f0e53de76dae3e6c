"""Checking a whole ledger: chain, tree, kept heads, payloads, and whether its clock went back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from contract import merkle
from contract.errors import LedgerError
from node.gate.ledger.book import PURGED
from node.gate.ledger.entries import FILE, GENESIS, Head, read_line, read_lines
from node.gate.ledger.heads import kept_positions

CLOCK_SLACK = timedelta(seconds=5)
"""Threads write in another order than they looked at the clock; more than this is a clock's."""
PURGE_SLACK = timedelta(days=1)
PROGRESS_ENTRIES = 50_000


@dataclass(frozen=True)
class Report:
    """What was found. ``went_back``: entries that are earlier than the one before, and by how much.

    ``heads``: how many kept heads lie on it; ``purged``: how many payloads it says it purged.
    """

    head: Head
    root: str
    payloads: int
    purged: int
    heads: int
    went_back: tuple[tuple[int, timedelta], ...]

    @property
    def entries(self) -> int:
        """The number of entries."""
        return self.head.sequence + 1


def verify(folder: Path) -> Head:
    """Check the whole ledger; return its head. ``LedgerError`` when anything was changed."""
    return examine(folder).head


def examine(folder: Path, progress: Callable[[int], None] = lambda entries: None) -> Report:
    """Check the whole ledger: the chain, kept heads, every kept payload.

    A clock that went back is reported and is no error. ``progress`` is told the number of entries.
    """
    tree = merkle.Tree()
    heads = {(at.tree_size, at.root_hash, at.chain_hash) for at in kept_positions(folder / "heads")}
    sizes = {size for size, _, _ in heads}
    payloads = _PayloadCheck(folder / "payloads")
    went_back: list[tuple[int, timedelta]] = []
    hash_, latest = GENESIS, datetime.min.replace(tzinfo=UTC)
    found = set()
    for number, line in enumerate(read_lines(folder / FILE)):
        try:
            value = read_line(line, number, hash_)
            time = datetime.fromisoformat(value["time"]).astimezone(UTC)
            payloads.check(number, value["kind"], value["body"], time)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise LedgerError(f"The ledger's entry {number} is not readable.") from None
        hash_ = hashlib.sha256(line).hexdigest()
        tree.append(merkle.leaf_hash(line))
        if number + 1 in sizes:
            found.add((number + 1, tree.root().hex(), hash_))
        if time + CLOCK_SLACK < latest:
            went_back.append((number, latest - time))
        latest = time
        if number % PROGRESS_ENTRIES == 0:
            progress(number)
    if missing := heads - found:
        size = min(missing)[0]
        raise LedgerError(
            f"The ledger doesn't go on from its own signed head of {size} entries: it was cut, "
            "changed or restored from a backup."
        )
    payloads.finish()
    return Report(
        Head(tree.size - 1, hash_),
        tree.root().hex(),
        len(payloads.checked),
        payloads.purged,
        len(heads),
        tuple(went_back),
    )


class _PayloadCheck:
    """Whether each payload that an entry kept is there, or was purged in its time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.checked: set[bytes] = set()
        self.purged = 0
        self._missing: dict[bytes, tuple[int, datetime]] = {}

    def check(self, number: int, kind: str, body: Mapping[str, Any], time: datetime) -> None:
        """Look at what one entry says of payloads."""
        if kind == PURGED:
            self._purge(body)
        for digest in body.get("kept", ()):
            key = bytes.fromhex(digest)
            if key in self.checked:
                continue
            try:
                data = (self._folder / key.hex()).read_bytes()
            except FileNotFoundError:
                self._missing[key] = number, time
                continue
            if hashlib.sha256(data).digest() != key:
                raise LedgerError(f"The payload of entry {number} was changed.")
            self.checked.add(key)

    def _purge(self, body: Mapping[str, Any]) -> None:
        limit = datetime.fromisoformat(body["older_than"]) + PURGE_SLACK
        for digest in body["payloads"]:
            self.purged += 1
            number, time = self._missing.pop(bytes.fromhex(digest), (-1, limit))
            if time > limit:
                raise LedgerError(f"The payload of entry {number} was purged before time.")

    def finish(self) -> None:
        """Object if a payload isn't there that was not purged."""
        if self._missing:
            first = min(number for number, _ in self._missing.values())
            raise LedgerError(f"The payload of entry {first} was removed.")
