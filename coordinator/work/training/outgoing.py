"""Tensors that a ServerApp sends: memory files of its process, kept as blobs for the sites.

The process is confined and can't write here; its bytes are copied. They aren't synced to the disk:
a ServerApp that is restarted makes them anew, so what an earlier life left is dropped first.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from contract import wire_pb2 as wire
from contract.errors import DocumentError
from foundation.files import SECRET_MODE, private_folder, storage_errors, sync_folder

KEPT = 4
_DIGEST = re.compile("[0-9a-f]{64}")
_MALFORMED = "The ServerApp's process sent a malformed blob."


class Outgoing:
    """The blobs of one ServerApp, in ``outgoing`` and, as links, in the job's ``blobs``."""

    def __init__(self, outgoing: Path, blobs: Path, max_bytes: int) -> None:
        self._outgoing = private_folder(outgoing)
        self._blobs = private_folder(blobs)
        self._max_bytes = max_bytes
        self._recent: list[str] = []
        for path in self._outgoing.iterdir():
            link = self._blobs / path.name
            if link.exists() and link.samefile(path):
                link.unlink()
            path.unlink()

    def store(self, reference: wire.BlobReference, descriptor: int | None) -> None:
        """Copy a memory file to the blob ``reference``; who fetches it checks its hash."""
        digest, size = reference.digest, reference.size
        if descriptor is None or not _DIGEST.fullmatch(digest) or size > self._max_bytes:
            raise DocumentError(_MALFORMED)
        if digest in self._recent:
            self._recent.remove(digest)
        else:
            self._copy(digest, size, descriptor)
        self._recent.append(digest)

    def _copy(self, digest: str, size: int, descriptor: int) -> None:
        if os.fstat(descriptor).st_size != size:
            raise DocumentError(_MALFORMED)
        target = self._outgoing / digest
        temporary = target.with_name(f".{secrets.token_hex(8)}")
        with storage_errors(target):
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                with os.fdopen(os.open(temporary, flags, SECRET_MODE), "wb") as file:
                    sent = 0
                    while sent < size:
                        copied = os.sendfile(file.fileno(), descriptor, sent, size - sent)
                        if not copied:
                            raise DocumentError(_MALFORMED)
                        sent += copied
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
            if not (self._blobs / digest).exists():  # a site's reply may have the same bytes
                os.link(target, self._blobs / digest)

    def drop_old(self, wanted: set[str]) -> None:
        """Forget all but the newest few and those that are ``wanted``."""
        for digest in self._recent[:-KEPT]:
            if digest not in wanted:
                self._recent.remove(digest)
                target, link = self._outgoing / digest, self._blobs / digest
                if link.exists() and link.samefile(target):
                    link.unlink()
                target.unlink(missing_ok=True)

    def keep(self, digest: str) -> bool:
        """Make a blob durable, for good; say whether it is here."""
        if digest not in self._recent:
            return False
        with (self._blobs / digest).open("rb") as file:
            os.fsync(file.fileno())
        sync_folder(self._blobs)
        (self._outgoing / digest).unlink(missing_ok=True)
        return True
