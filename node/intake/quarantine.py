"""Quarantine: what could not be made safe, kept encrypted for the hospital's own eyes.

A file is AES-256-GCM in pieces of 1 MiB, each sealed with its place and whether it is the last, so
that pieces can't be dropped, swapped or cut off (the STREAM construction: Hoang, Reyhanitabar,
Rogaway and Vizar, CRYPTO 2015). The source's keyed digest is sealed in as well.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from contract.errors import DataError
from foundation.files import SECRET_MODE, private_folder, storage_errors, sync_folder
from node.deid.pseudonyms import load_key
from node.home import NodeHome

MAGIC = b"WGQ1"
PIECE = 1024 * 1024
_TAG = 16
_PREFIX = 7


class Quarantine:
    """The quarantine of one node."""

    def __init__(self, home: NodeHome) -> None:
        self._folder = private_folder(home.quarantine)
        self._cipher = AESGCM(load_key(home.root / "quarantine.key", create=True))

    def path(self, source_digest: str) -> Path:
        """Where the file with this keyed digest is kept."""
        return self._folder / f"{source_digest}.quarantined"

    def put(self, source_digest: str, data: Iterable[bytes]) -> None:
        """Keep a file, durably; ``StorageError`` when there is no room for it."""
        path = self.path(source_digest)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        prefix = secrets.token_bytes(_PREFIX)
        with storage_errors(self._folder):
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
                with os.fdopen(os.open(temporary, flags, SECRET_MODE), "wb") as file:
                    file.write(MAGIC + prefix)
                    for index, (piece, last) in enumerate(_pieces(data)):
                        nonce = _nonce(prefix, index, last)
                        file.write(self._cipher.encrypt(nonce, piece, source_digest.encode()))
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            sync_folder(self._folder)

    def open(self, source_digest: str) -> Iterator[bytes]:
        """Yield the file's bytes piece by piece; ``DataError`` if what is kept was changed."""
        with self.path(source_digest).open("rb") as file:
            header = file.read(len(MAGIC) + _PREFIX)
            piece = file.read(PIECE + _TAG)
            index = 0
            while True:
                following = file.read(PIECE + _TAG)
                nonce = _nonce(header[len(MAGIC) :].ljust(_PREFIX, b"\0"), index, not following)
                try:
                    yield self._cipher.decrypt(nonce, piece, source_digest.encode())
                except (InvalidTag, ValueError):
                    raise DataError("A file in quarantine was changed.") from None
                if not following:
                    return
                piece, index = following, index + 1


def _nonce(prefix: bytes, index: int, last: bool) -> bytes:
    return prefix + index.to_bytes(4, "big") + (b"\1" if last else b"\0")


def _pieces(data: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    buffer = b""
    for part in data:
        buffer += part
        while len(buffer) > PIECE:
            yield buffer[:PIECE], False
            buffer = buffer[PIECE:]
    yield buffer, True
