"""The journal of files that are done, so that none of them is read again.

A file is known by keyed digests of its folder's path, and of its name, inode, size and times of
change: one that was moved, replaced or written to is read again, and then its content decides. The
device is left out, because a network share has another number after each mount. The journal is a
cache: it may be lost. It counts only while the catalogue still knows what was written down last, so
a catalogue that was restored from an older backup gets everything anew.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from pathlib import Path

from contract.errors import StorageError
from foundation.files import SECRET_MODE, storage_errors
from node.deid.pseudonyms import Pseudonyms
from node.home import NodeHome

FOLDER_BYTES = 16
FILE_BYTES = 16
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
        self._done: dict[bytes, set[bytes]] = {}
        """Of the folders asked for last."""

    def close(self) -> None:
        """Close it; what was added is durable already."""
        self._database.close()

    def check(self, is_known: Callable[[str], bool]) -> None:
        """Empty the journal unless the catalogue knows the source that was added last."""
        row = self._database.execute("SELECT source FROM last").fetchone()
        if row is not None and not is_known(row[0]):
            self._done.clear()
            with self._database:
                self._database.execute("DELETE FROM done")
                self._database.execute("DELETE FROM last")

    def keys(self, files: Iterable[tuple[str, os.stat_result, bytes]]) -> list[bytes]:
        """Return the key of each file: its path, its state, and what else decides about it."""
        secret, pack, found = self._key, _TIMES.pack, []
        folder, first = None, b""
        for place, file, of in files:
            parent, _, name = place.rpartition("/")
            if parent != folder:
                folder = parent
                encoded = parent.encode("utf-8", "surrogateescape")
                first = blake2b(encoded, key=secret, digest_size=FOLDER_BYTES).digest()
            text = pack(file.st_ino, file.st_size, file.st_mtime_ns, file.st_ctime_ns)
            text += name.encode("utf-8", "surrogateescape")
            if of:
                text += b"/" + of
            found.append(first + blake2b(text, key=secret, digest_size=FILE_BYTES).digest())
        return found

    def known(self, keys: Sequence[bytes]) -> set[bytes]:
        """Return those of the keys that are done; most of them should be of one folder."""
        found: set[bytes] = set()
        folders = {key[:FOLDER_BYTES] for key in keys}
        self._done = {folder: done for folder, done in self._done.items() if folder in folders}
        for folder in folders - self._done.keys():
            self._done[folder] = self._read(folder)
        for key in keys:
            if key[FOLDER_BYTES:] in self._done[key[:FOLDER_BYTES]]:
                found.add(key)
        return found

    def add(self, keys: Iterable[bytes], last_source: str | None) -> None:
        """Add what the catalogue has by now; ``last_source`` is one of the sources it has."""
        rows: dict[bytes, list[bytes]] = {}
        for key in keys:
            rows.setdefault(key[:FOLDER_BYTES], []).append(key[FOLDER_BYTES:])
        for folder, files in rows.items():
            if folder in self._done:
                self._done[folder].update(files)
        with storage_errors(Path("the journal")), self._database:
            self._database.executemany(
                "INSERT INTO done VALUES (?, ?)",
                [(folder, b"".join(files)) for folder, files in rows.items()],
            )
            if last_source is not None:
                self._database.execute("INSERT OR REPLACE INTO last VALUES (1, ?)", (last_source,))

    def _read(self, folder: bytes) -> set[bytes]:
        found: set[bytes] = set()
        for (files,) in self._database.execute("SELECT files FROM done WHERE folder = ?", [folder]):
            found.update(files[at : at + FILE_BYTES] for at in range(0, len(files), FILE_BYTES))
        return found


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
    _write_ahead(connection)
    # NORMAL: a power cut may take the last entries, and then these files are read again.
    for pragma in ("synchronous=NORMAL", "cache_size=-32768"):
        connection.execute(f"PRAGMA {pragma}")
    with connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS done (folder BLOB NOT NULL, files BLOB NOT NULL)"
        )
        connection.execute("CREATE INDEX IF NOT EXISTS done_folder ON done (folder)")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS last (one INTEGER PRIMARY KEY, source TEXT NOT NULL)"
        )
    return connection


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Turn the write-ahead log on; of two that do so at once SQLite lets one fail, not wait."""
    until = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
