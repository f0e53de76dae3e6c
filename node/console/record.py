"""The ledger as the console shows it: checked, summed up, and a page of it at a time."""

from __future__ import annotations

import hashlib
import threading
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from contract.errors import LedgerError
from node.gate.ledger import GENESIS, Entry, Head, parse_line
from node.gate.summary import summarise

Summary = dict[tuple[str, str], tuple[int, int, list[str]]]


@dataclass(frozen=True)
class Record:
    """A ledger read from its beginning: its head, its sums, and where its chain breaks, if so.

    After a break nothing is believed: head and sums are those of the entries before it.
    """

    head: Head
    summary: Summary
    problem: str
    checked_at: datetime
    _path: Path
    _offsets: array[int]

    @property
    def entries(self) -> int:
        """The number of entries."""
        return self.head.sequence + 1

    def page(self, number: int, size: int) -> list[Entry]:
        """Return a page's entries, newest first; the first page is 1. Empty past the last one.

        Each is checked to follow the one before it, as it was when the whole was read.
        """
        stop = self.entries - (number - 1) * size
        start = max(0, stop - size)
        if stop <= 0:
            return []
        found: list[Entry] = []
        with self._path.open("rb") as file:
            file.seek(self._offsets[max(0, start - 1)])
            previous = GENESIS if start == 0 else _hash(file.readline())
            for sequence in range(start, stop):
                entry = parse_line(file.readline().removesuffix(b"\n"), sequence, previous)
                previous = entry.hash
                found.append(entry)
        return found[::-1]


class LedgerReader:
    """Reads a ledger whole when its file has changed since the last time, else not again."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "ledger.jsonl"
        self._lock = threading.Lock()
        self._stamp: tuple[int, ...] | None = None
        self._record: Record | None = None

    def read(self) -> Record:
        """Return the ledger, its chain checked since its last change."""
        with self._lock:
            stamp = self._status()
            if self._record is None or stamp is None or stamp != self._stamp:
                self._record = _read(self._path)
                self._stamp = stamp
            return self._record

    def _status(self) -> tuple[int, ...] | None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class _Walk:
    """One pass over the file: yields believed entries, and keeps where they are."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.offsets = array("Q")
        self.head = Head(-1, GENESIS)
        self.problem = ""

    def __iter__(self) -> Iterator[Entry]:
        try:
            yield from self._entries()
        except LedgerError as error:
            self.problem = str(error)

    def _entries(self) -> Iterator[Entry]:
        if not self._path.exists():
            return
        offset = 0
        with self._path.open("rb") as file:
            for number, line in enumerate(file):
                if not line.endswith(b"\n"):
                    return  # being written now, or cut by a crash: never acted on
                entry = parse_line(line[:-1], number, self.head.hash)
                self.offsets.append(offset)
                self.head = Head(entry.sequence, entry.hash)
                offset += len(line)
                yield entry


def _read(path: Path) -> Record:
    walk = _Walk(path)
    checked_at = datetime.now(UTC)
    summary = summarise(walk)
    return Record(walk.head, summary, walk.problem, checked_at, path, walk.offsets)


def _hash(line: bytes) -> str:
    return hashlib.sha256(line.removesuffix(b"\n")).hexdigest()
