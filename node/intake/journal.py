"""The journal of files that are done, so that none of them is read again.

A file is known by a keyed digest of its path, inode, size and times of change: one that was moved,
replaced or written to is read again, and then its content decides. The device is left out, because
a network share has another number after each mount. The journal is a cache: it may be lost. It
counts only while the catalogue still knows what was written down last, so a catalogue that was
restored from an older backup gets everything anew.
"""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from pathlib import Path

from contract.errors import StorageError
from foundation.files import SECRET_MODE, storage_errors
from node.deid.pseudonyms import Pseudonyms
from node.home import NodeHome

KEY_BYTES = 16
ASK = 512
"""Keys asked for at once."""
SETTLED_NS = 2_000_000_000
"""A file that was written to this shortly ago may be again, within one tick of its clock."""

_TIMES = struct.Struct("<QQqq")
_BUSY_SECONDS = 30.0

Identity = tuple[int, int, int, int]
"""Inode, size in bytes, time of modification and of change, in nanoseconds."""


def identity(status: os.stat_result) -> Identity:
    """Return what changes when a file is written to or replaced."""
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class Journal:
    """The journal of one node; several intakes may use it at once."""

    def __init__(self, home: NodeHome, pseudonyms: Pseudonyms) -> None:
        self._key = bytes.fromhex(pseudonyms.source(b"journal"))
        self._database = _open(home.root / "journal.db")

    def close(self) -> None:
        """Close it; what was added is durable already."""
        self._database.close()

    def check(self, is_known: Callable[[str], bool]) -> None:
        """Empty the journal unless the catalogue knows the source that was added last."""
        row = self._database.execute("SELECT source FROM last").fetchone()
        if row is not None and not is_known(row[0]):
            with self._database:
                self._database.execute("DELETE FROM done")
                self._database.execute("DELETE FROM last")

    def key(self, place: str, file: os.stat_result, of: bytes = b"") -> bytes:
        """Return the key of a file; ``of`` is what else decides about it."""
        path = place.encode("utf-8", "surrogateescape")
        if of:
            path += b"\0" + of
        state = _TIMES.pack(file.st_ino, file.st_size, file.st_mtime_ns, file.st_ctime_ns)
        return blake2b(state + path, key=self._key, digest_size=KEY_BYTES).digest()

    def known(self, keys: Sequence[bytes]) -> set[bytes]:
        """Return those of the keys (at most ``ASK``) that are done."""
        marks = ",".join("?" * len(keys))
        query = f"SELECT key FROM done WHERE key IN ({marks})"  # noqa: S608
        return {row[0] for row in self._database.execute(query, keys)}

    def add(self, keys: Iterable[bytes], last_source: str | None) -> None:
        """Add what the catalogue has by now; ``last_source`` is one of the sources it has."""
        with storage_errors(Path("the journal")), self._database:
            self._database.executemany(
                "INSERT OR IGNORE INTO done VALUES (?)", [(key,) for key in keys]
            )
            if last_source is not None:
                self._database.execute("INSERT OR REPLACE INTO last VALUES (1, ?)", (last_source,))


def _open(path: Path) -> sqlite3.Connection:
    with storage_errors(path):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, SECRET_MODE))
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise StorageError("The journal of intake can't be opened.") from None
        # Not a database any more: it is a cache, and starts anew.
        for ending in ("", "-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, SECRET_MODE))
        return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False)
    # NORMAL: a power cut may take the last entries, and then these files are read again.
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "cache_size=-32768"):
        connection.execute(f"PRAGMA {pragma}")
    with connection:
        connection.execute("CREATE TABLE IF NOT EXISTS done (key BLOB PRIMARY KEY) WITHOUT ROWID")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS last (one INTEGER PRIMARY KEY, source TEXT NOT NULL)"
        )
    return connection
