"""Large payloads as content-addressed files: received in chunks, resumable, hash-checked."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from contract.errors import DocumentError, NotFound
from foundation.files import SECRET_MODE, private_folder, storage_errors, sync_folder
from foundation.transport import CHUNK_BYTES

_DIGEST = re.compile(r"[0-9a-f]{64}")


def is_digest(name: str) -> bool:
    """Say whether a name is a SHA-256 in hexadecimal, and so leads nowhere."""
    return _DIGEST.fullmatch(name) is not None


@dataclass(frozen=True)
class BlobFolder:
    """A folder of blobs, each a file called by its SHA-256; half-received ones end in ``.part``."""

    folder: Path

    def path(self, digest: str) -> Path:
        """Return where the blob is or will be; ``DocumentError`` when ``digest`` is none."""
        if not is_digest(digest):
            raise DocumentError("A blob's name is not a SHA-256.")
        return self.folder / digest

    def has(self, digest: str) -> bool:
        """Say whether the blob is here, complete."""
        return self.path(digest).exists()

    def part(self, digest: str, sender: str) -> Path:
        """Return where a sender's half-received blob is."""
        return self.folder / f"{self.path(digest).name}.{sender}.part"

    def offset(self, digest: str, size: int, sender: str) -> int:
        """Return how many bytes are held: all when complete."""
        if self.has(digest):
            return size
        part = self.part(digest, sender)
        held = part.stat().st_size if part.exists() else 0
        return held if held <= size else 0

    def read(self, digest: str, offset: int = 0) -> Iterator[bytes]:
        """Yield the blob from ``offset`` on, in chunks; ``NotFound`` when it isn't here."""
        try:
            with self.path(digest).open("rb") as file:
                file.seek(offset)
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk
        except FileNotFoundError:
            raise NotFound("A blob that was asked for is not here.") from None

    def store(self, data: bytes) -> str:
        """Write a whole blob durably and return its digest."""
        digest = hashlib.sha256(data).hexdigest()
        if not self.has(digest):
            receiver = BlobReceiver(self, digest, len(data), "self", 0)
            try:
                receiver.write(data)
                receiver.finish()
            finally:
                receiver.close()
        return digest


_receivers: WeakValueDictionary[Path, BlobReceiver] = WeakValueDictionary()
_lock = threading.Lock()


class BlobReceiver:
    """Takes one blob in, from ``offset`` on. Blocking; call it from a thread.

    Never writes past ``size``; the file gets its name only when its hash is right. A new receiver
    of the same part takes it over: what an older one still gets is refused, for two writers of one
    file would make content that neither of them hashed.
    """

    def __init__(self, blobs: BlobFolder, digest: str, size: int, sender: str, offset: int) -> None:
        private_folder(blobs.folder)
        self._target = blobs.path(digest)
        self._part = blobs.part(digest, sender)
        self._size = size
        self._held = offset
        self._hash = hashlib.sha256()
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with storage_errors(self._part), _lock:
            older = _receivers.get(self._part)
            if older is not None:
                older.close()
            self._file = os.fdopen(os.open(self._part, flags, SECRET_MODE), "r+b")
            _receivers[self._part] = self
        left = offset
        while left:
            chunk = self._file.read(min(left, CHUNK_BYTES))
            if not chunk:
                self.close()
                raise DocumentError("A blob is continued at an offset that isn't held.")
            self._hash.update(chunk)
            left -= len(chunk)
        self._file.truncate(offset)
        self._file.seek(offset)

    @property
    def held(self) -> int:
        """Bytes received so far."""
        return self._held

    def write(self, data: bytes) -> None:
        """Append a chunk; ``DocumentError`` when it goes past the declared size."""
        if self._held + len(data) > self._size:
            raise DocumentError("A blob is larger than it was declared.")
        with storage_errors(self._part), self._own():
            self._file.write(data)
        self._hash.update(data)
        self._held += len(data)

    def finish(self) -> None:
        """Check size and hash and give the file its name, durably."""
        if self._held != self._size:
            raise DocumentError("A blob is shorter than it was declared.")
        if self._hash.hexdigest() != self._target.name:
            self._part.unlink(missing_ok=True)
            raise DocumentError("A blob's bytes don't have the hash that it was declared with.")
        with storage_errors(self._part), self._own():
            self._file.flush()
            os.fsync(self._file.fileno())
            with _lock:
                self._file.flush()  # raises if a newer receiver took the part over meanwhile
                self._part.replace(self._target)
            sync_folder(self._target.parent)

    @contextmanager
    def _own(self) -> Iterator[None]:
        try:
            yield
        except ValueError:  # the file was closed
            raise DocumentError("A blob is sent over another stream already.") from None

    def close(self) -> None:
        """Close the file; what is held stays for a later continuation."""
        self._file.close()
