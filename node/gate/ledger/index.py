"""What is derived from the ledger's file, so that it needn't be read whole again.

In ``index/`` beside it; all of it can be deleted and is then made again.

- ``hashes``: the Merkle tree's hashes in the order of completion (``contract.merkle.stored``).
- ``offsets``: where each entry ends in the file, 8 bytes each.
- ``segments``: a checkpoint for every 4,096 entries: where they end, the last one's hash, the root,
  the SHA-256 of their bytes, and a checksum of these. It is written once the others are durable.

At a start each segment's bytes are hashed again and compared, which takes a second for a million
entries; entries after the last checkpoint are read one by one. A checkpoint that fails its own
checksum was torn by a crash and is dropped, with those after it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from contract import merkle
from contract.errors import LedgerError
from foundation.files import file_mode, private_folder, storage_errors, sync_folder

SEGMENT = 4096
"""Entries between two checkpoints."""
DAMAGED = "The ledger's index is damaged; delete its folder 'index', which is made again."
_FIELDS = 8 + 32 + 32 + 32
_RECORD = _FIELDS + 8
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Checkpoint:
    """Entries that were found whole: how many, where they end, the last one's hash, the root."""

    size: int
    end: int
    hash: bytes
    root: bytes


class Index:
    """The derived files of one ledger, open. Writers hold the ledger's lock."""

    def __init__(self, folder: Path) -> None:
        self._folder = private_folder(folder)
        self._hashes = self._open("hashes")
        self._offsets = self._open("offsets")
        self._segments = self._open("segments")
        sync_folder(folder)

    def _open(self, name: str) -> int:
        path = self._folder / name
        with storage_errors(path):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            return os.open(path, flags, file_mode(self._folder))

    def close(self) -> None:
        """Close the files."""
        for descriptor in (self._hashes, self._offsets, self._segments):
            os.close(descriptor)

    # ---- the tree ------------------------------------------------------------------------------

    def node(self, level: int, number: int) -> bytes:
        """Return the hash of a complete subtree."""
        found = os.pread(self._hashes, 32, 32 * merkle.stored(level, number))
        if len(found) != 32:
            raise LedgerError(DAMAGED)
        return found

    def place(self, sequence: int) -> tuple[int, int]:
        """Return where an entry's line begins, and where it ends (after its newline)."""
        if sequence == 0:
            found = bytes(8) + os.pread(self._offsets, 8, 0)
        else:
            found = os.pread(self._offsets, 16, 8 * (sequence - 1))
        if len(found) != 16:
            raise LedgerError(DAMAGED)
        return int.from_bytes(found[:8], "big"), int.from_bytes(found[8:], "big")

    def write(self, first: int, hashes: Sequence[bytes], ends: Sequence[int]) -> None:
        """Write the hashes that entries from ``first`` on complete, and where each ends."""
        with storage_errors(self._folder):
            _write_at(self._hashes, b"".join(hashes), 32 * merkle.stored_count(first))
            data = b"".join(end.to_bytes(8, "big") for end in ends)
            _write_at(self._offsets, data, 8 * first)

    # ---- checkpoints ---------------------------------------------------------------------------

    def add_checkpoint(self, at: Checkpoint, digest: bytes) -> None:
        """Write the checkpoint at the end of a segment whose bytes have this SHA-256."""
        with storage_errors(self._folder):
            os.fsync(self._hashes)
            os.fsync(self._offsets)
            record = at.end.to_bytes(8, "big") + at.hash + at.root + digest
            place = (at.size // SEGMENT - 1) * _RECORD
            _write_at(self._segments, record + _checksum(at.size, record), place)
            os.fsync(self._segments)

    def checked(self, ledger: int) -> Checkpoint:
        """Return the last checkpoint after comparing all of them with the ledger's file.

        ``LedgerError`` when the file was changed or cut behind a checkpoint.
        """
        last = Checkpoint(0, 0, bytes(32), merkle.EMPTY_ROOT)
        length = os.fstat(ledger).st_size
        for at, digest in self._records():
            if at.end > length:
                raise LedgerError(
                    f"The ledger was cut: it had {at.size} entries at least, and its file is "
                    "shorter."
                )
            if _digest(ledger, last.end, at.end) != digest:
                raise LedgerError(f"The ledger was changed before entry {at.size}.")
            last = at
        if last.size:
            begin, end = self.place(last.size - 1)
            line = os.pread(ledger, end - begin, begin)
            hash_ = hashlib.sha256(line[:-1]).digest()
            root = merkle.root(last.size, self.node)
            if Checkpoint(last.size, end, hash_, root) != last:
                raise LedgerError(DAMAGED)
        return last

    def _records(self) -> Iterator[tuple[Checkpoint, bytes]]:
        size = 0
        while True:
            record = os.pread(self._segments, _RECORD, size // SEGMENT * _RECORD)
            size += SEGMENT
            if len(record) < _RECORD or record[_FIELDS:] != _checksum(size, record[:_FIELDS]):
                return
            end = int.from_bytes(record[:8], "big")
            yield Checkpoint(size, end, record[8:40], record[40:72]), record[72:_FIELDS]


def _checksum(size: int, record: bytes) -> bytes:
    return hashlib.sha256(size.to_bytes(8, "big") + record).digest()[:8]


def _digest(descriptor: int, start: int, end: int) -> bytes:
    found = hashlib.sha256()
    while start < end:
        data = os.pread(descriptor, min(_CHUNK, end - start), start)
        if not data:
            break
        found.update(data)
        start += len(data)
    return found.digest()


def _write_at(descriptor: int, data: bytes, place: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, place)
        view, place = view[written:], place + written
