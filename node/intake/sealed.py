"""Files of identified data, encrypted on the way: AES-256-GCM in pieces, the STREAM construction.

Each file has a key of its own, HKDF-SHA-256 (RFC 5869) of the folder's key, a random salt and a
context that says what the file is, so that no two files share a nonce however many there are, and
none passes for another. A piece is sealed with its place and whether it is the last: pieces can't
be dropped, swapped or cut off (Hoang, Reyhanitabar, Rogaway and Vizar, CRYPTO 2015). The header is
authenticated with every piece.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from contract.errors import DataError

MAGIC = b"WGS1"
SALT = 32
HEADER = len(MAGIC) + SALT
PIECE = 1024 * 1024
TAG = 16


class Sealer:
    """Writes one sealed file. Nothing is whole before ``finish``."""

    def __init__(self, file: BinaryIO, key: bytes, context: bytes) -> None:
        salt = secrets.token_bytes(SALT)
        self._header = MAGIC + salt
        self._cipher = _cipher(key, salt, context)
        self._file = file
        self._waiting = bytearray()
        self._index = 0
        file.write(self._header)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take more bytes. What is held in memory is less than a piece and ``data``."""
        self._waiting += data
        if len(self._waiting) > PIECE:
            with memoryview(self._waiting) as whole:
                # The last piece has at least one byte unless the file is empty.
                end = (len(whole) - 1) // PIECE * PIECE
                for start in range(0, end, PIECE):
                    self._seal(whole[start : start + PIECE], last=False)
            del self._waiting[:end]

    def finish(self) -> None:
        """Seal what is left as the last piece."""
        self._seal(self._waiting, last=True)
        self._waiting = bytearray()

    def _seal(self, piece: bytearray | memoryview, *, last: bool) -> None:
        self._file.write(self._cipher.encrypt(_nonce(self._index, last), piece, self._header))
        self._index += 1


def unsealed(file: BinaryIO, key: bytes, context: bytes) -> Iterator[bytes]:
    """Yield the bytes of a sealed file piece by piece; ``DataError`` if it was changed or cut."""
    header = file.read(HEADER)
    if len(header) != HEADER or not header.startswith(MAGIC):
        raise _changed()
    cipher = _cipher(key, header[len(MAGIC) :], context)
    piece = file.read(PIECE + TAG)
    index = 0
    while True:
        following = file.read(PIECE + TAG)
        try:
            yield cipher.decrypt(_nonce(index, not following), piece, header)
        except (InvalidTag, ValueError):
            raise _changed() from None
        if not following:
            return
        piece, index = following, index + 1


def plain_bytes(sealed_bytes: int) -> int:
    """Return how many bytes a sealed file of this size holds."""
    body = max(sealed_bytes - HEADER, TAG)
    return body - TAG * -(-body // (PIECE + TAG))


def _cipher(key: bytes, salt: bytes, context: bytes) -> AESGCM:
    derivation = HKDF(SHA256(), length=32, salt=salt, info=b"wardgate sealed file 1: " + context)
    return AESGCM(derivation.derive(key))


def _nonce(index: int, last: bool) -> bytes:
    return bytes(7) + index.to_bytes(4, "big") + (b"\1" if last else b"\0")


def _changed() -> DataError:
    return DataError("A sealed file was changed or cut; it can't be read.")
