"""The ledger: an append-only, hash-chained file of every decision and every byte that left.

Each line is one entry: a JSON object with its sequence number, time, kind, body and ``previous``,
the SHA-256 of the line before it. Changing, dropping or reordering a line breaks every later one.
The newest line's hash is the *head*; it goes into every receipt and to the coordinator, which
tells it back at each connection: a ledger that was cut or restored from a backup is seen then.

An entry is durable (fsync) when ``append`` returns, and what it records happens after that. A line
that a crash left half-written was never acted on; it is dropped at the next start.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from contract.errors import LedgerError, NotFound
from foundation.files import SECRET_MODE, private_folder, storage_errors, sync_folder, write_durably

GENESIS = "0" * 64
MAX_LINE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Head:
    """The newest entry: its sequence number (-1 for an empty ledger) and its hash."""

    sequence: int
    hash: str


@dataclass(frozen=True)
class Entry:
    """One entry as read back."""

    sequence: int
    time: str
    kind: str
    body: Mapping[str, Any]
    previous: str
    hash: str


def parse_line(line: bytes, expected: int, previous: str) -> Entry:
    """Return the entry of one line; ``LedgerError`` unless it continues the chain."""
    try:
        value = json.loads(line)
        entry = Entry(
            sequence=value["sequence"],
            time=value["time"],
            kind=value["kind"],
            body=value["body"],
            previous=value["previous"],
            hash=hashlib.sha256(line).hexdigest(),
        )
    except (ValueError, KeyError, TypeError):
        raise LedgerError(f"The ledger's entry {expected} is not readable.") from None
    if entry.sequence != expected or entry.previous != previous:
        raise LedgerError(f"The ledger's chain breaks at entry {expected}.")
    return entry


def format_line(
    sequence: int, time: datetime, kind: str, body: Mapping[str, Any], previous: str
) -> bytes:
    """Return an entry's line without its newline."""
    value = {
        "sequence": sequence,
        "time": time.isoformat(),
        "kind": kind,
        "body": dict(body),
        "previous": previous,
    }
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def read_entries(folder: Path) -> Iterator[Entry]:
    """Yield every entry, checking the chain; ``LedgerError`` where it breaks.

    A last line without its newline was never acted on and is passed over.
    """
    path = folder / "ledger.jsonl"
    if not path.exists():
        return
    previous = GENESIS
    with path.open("rb") as file:
        for number, line in enumerate(file):
            if not line.endswith(b"\n"):
                return
            entry = parse_line(line[:-1], number, previous)
            previous = entry.hash
            yield entry


class Ledger:
    """The ledger of a node, open for appending by one process at a time and many threads."""

    def __init__(self, folder: Path) -> None:
        """Open (or begin) the ledger in ``folder``, verifying its chain.

        Another process may append meanwhile: each append takes the file's lock and reads on first.
        """
        self._folder = private_folder(folder)
        self._path = folder / "ledger.jsonl"
        self._payloads = private_folder(folder / "payloads")
        self._thread_lock = threading.Lock()
        self._sequence = -1
        self._hash = GENESIS
        self._size = 0
        with storage_errors(self._path):
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._file = os.open(self._path, flags, SECRET_MODE)
            sync_folder(folder)
        with self._thread_lock:
            self._locked(self._catch_up)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    @property
    def head(self) -> Head:
        """The newest entry that this process knows of."""
        return Head(self._sequence, self._hash)

    def append(self, kind: str, body: Mapping[str, Any], time: datetime) -> Head:
        """Write one entry durably and return its head."""
        with self._thread_lock:
            return self._locked(lambda: self._append(kind, body, time))

    def _locked(self, action: Callable[[], Head]) -> Head:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            return action()
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _append(self, kind: str, body: Mapping[str, Any], time: datetime) -> Head:
        self._catch_up()
        line = format_line(self._sequence + 1, time, kind, body, self._hash)
        if len(line) > MAX_LINE_BYTES:
            raise LedgerError("A ledger entry is too long.")
        data = line + b"\n"
        with storage_errors(self._path):
            try:
                written = os.write(self._file, data)
                if written != len(data):
                    raise OSError(28, "short write")
                os.fsync(self._file)
            except OSError:
                # Nothing half-written may stay: the entry was not acted on.
                os.ftruncate(self._file, self._size)
                raise
        self._size += len(data)
        self._sequence += 1
        self._hash = hashlib.sha256(line).hexdigest()
        return Head(self._sequence, self._hash)

    def _catch_up(self) -> Head:
        """Read what other processes appended; drop a half-written last line."""
        end = os.fstat(self._file).st_size
        if end < self._size:
            raise LedgerError("The ledger was cut while it was open.")
        if end == self._size:
            return self.head
        with self._path.open("rb") as file:
            file.seek(self._size)
            for line in file:
                if not line.endswith(b"\n"):
                    os.ftruncate(self._file, self._size)
                    break
                entry = parse_line(line[:-1], self._sequence + 1, self._hash)
                self._sequence, self._hash = entry.sequence, entry.hash
                self._size += len(line)
        return self.head

    def keep_payload(self, data: bytes) -> str:
        """Keep a payload's bytes under their SHA-256, so that it can be replayed; return it."""
        digest = hashlib.sha256(data).hexdigest()
        path = self._payloads / digest
        if not path.exists():
            write_durably(path, data)
        return digest

    def payload(self, digest: str) -> bytes:
        """Return a kept payload; ``LedgerError`` when its bytes changed."""
        path = self._payloads / digest
        if not path.exists():
            raise NotFound("The payload is not kept here (it was larger than the policy keeps).")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise LedgerError("A kept payload was changed.")
        return data

    def holds(self, sequence: int, hash_: str) -> bool:
        """Say whether the ledger holds this head of an earlier time."""
        if sequence == -1:
            return True
        if sequence == self._sequence:
            return hash_ == self._hash
        found = next((e for e in read_entries(self._folder) if e.sequence == sequence), None)
        return found is not None and found.hash == hash_


def verify(folder: Path) -> Head:
    """Check the whole chain and every kept payload; return the head. ``LedgerError`` otherwise."""
    head = Head(-1, GENESIS)
    checked: set[str] = set()
    for entry in read_entries(folder):
        head = Head(entry.sequence, entry.hash)
        for digest in entry.body.get("kept", ()):
            if digest in checked:
                continue
            path = folder / "payloads" / str(digest)
            if not path.exists():
                raise LedgerError(f"The payload of entry {entry.sequence} was removed.")
            if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                raise LedgerError(f"The payload of entry {entry.sequence} was changed.")
            checked.add(digest)
    return head
