"""Payloads that left, kept under their SHA-256 for as long as the policy says."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from contract.errors import LedgerError, NotFound
from foundation.files import private_folder, storage_errors, sync_folder, write_durably


class Payloads:
    """The folder of kept payloads. A file's time is when its payload left last."""

    def __init__(self, folder: Path) -> None:
        self._folder = private_folder(folder)
        self._lock = threading.Lock()

    def keep(self, data: bytes) -> str:
        """Keep a payload's bytes durably; return their SHA-256."""
        digest = hashlib.sha256(data).hexdigest()
        path = self._folder / digest
        with self._lock, storage_errors(path):
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                write_durably(path, data)
                return digest
            try:
                os.utime(descriptor)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
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
