"""Payloads that left, kept under their SHA-256 for as long as the policy says."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from contract.errors import LedgerError, NotFound
from foundation.files import file_mode, private_folder, storage_errors, sync_folder


class Payloads:
    """The folder of kept payloads. A file's time is when its payload left last."""

    def __init__(self, folder: Path) -> None:
        self._folder = private_folder(folder)
        self._lock = threading.Lock()

    def keep(self, data: bytes) -> str:
        """Keep a payload's bytes durably; return their SHA-256.

        A file that a power cut left half-written is written anew.
        """
        digest = hashlib.sha256(data).hexdigest()
        path = self._folder / digest
        with self._lock, storage_errors(path):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(path, flags, file_mode(self._folder))
            try:
                if _holds(descriptor, data):
                    os.utime(descriptor)
                else:
                    _write(descriptor, data, path)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            sync_folder(self._folder)
        return digest

    def get(self, digest: str) -> bytes:
        """Return a kept payload; ``LedgerError`` when its bytes changed."""
        path = self._folder / digest
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise NotFound(
                "The payload is not kept here: it was larger than the policy keeps, or is purged."
            ) from None
        if hashlib.sha256(data).hexdigest() != digest:
            raise LedgerError("A kept payload was changed.")
        return data

    def older_than(self, moment: datetime) -> list[str]:
        """Return the payloads that left last before ``moment``."""
        limit = moment.timestamp()
        with os.scandir(self._folder) as found:
            return sorted(f.name for f in found if f.is_file() and f.stat().st_mtime < limit)

    def remove(self, digests: Iterable[str], moment: datetime) -> int:
        """Delete those of ``digests`` that haven't left again since ``moment``; return the bytes.

        The ledger must say so before.
        """
        limit, removed = moment.timestamp(), 0
        with self._lock:
            for digest in digests:
                path = self._folder / digest
                try:
                    status = path.stat()
                except FileNotFoundError:
                    continue
                if status.st_mtime < limit:
                    path.unlink()
                    removed += status.st_size
            sync_folder(self._folder)
        return removed


def _holds(descriptor: int, data: bytes) -> bool:
    if os.fstat(descriptor).st_size != len(data):
        return False
    return os.pread(descriptor, len(data), 0) == data


def _write(descriptor: int, data: bytes, path: Path) -> None:
    try:
        os.ftruncate(descriptor, 0)
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
    except BaseException:
        path.unlink(missing_ok=True)
        raise
