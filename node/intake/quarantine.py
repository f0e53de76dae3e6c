"""Quarantine: what could not be made safe, kept sealed for the hospital's own eyes.

A file is known by its keyed source digest, which is sealed in. ``node.intake.sealed`` says how.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from contract.errors import DataError, NotFound
from foundation.files import SECRET_MODE, private_folder, storage_errors, sync_folder
from node.deid.pseudonyms import load_key
from node.home import NodeHome
from node.intake import sealed

SUFFIX = ".sealed"
FIRST_SUFFIX = ".quarantined"
"""Files of the first form, sealed under the folder's key itself; they are sealed anew when met."""
FIRST_MAGIC = b"WGQ1"


@dataclass(frozen=True)
class Held:
    """One file in quarantine."""

    source_digest: str
    since: datetime
    size_bytes: int


class Quarantine:
    """The quarantine of one node."""

    def __init__(self, home: NodeHome) -> None:
        self._folder = private_folder(home.quarantine)
        self._key = load_key(home.quarantine_key, create=True)
        for path in self._folder.glob("*" + FIRST_SUFFIX):
            self._renew(path)

    def path(self, source_digest: str) -> Path:
        """Where the file with this keyed digest is kept."""
        return self._folder / f"{source_digest}{SUFFIX}"

    def put(self, source_digest: str, data: Iterable[bytes]) -> None:
        """Keep a file, durably; ``StorageError`` when there is no room for it."""
        path = self.path(source_digest)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        with storage_errors(self._folder):
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
                with os.fdopen(os.open(temporary, flags, SECRET_MODE), "wb") as file:
                    sealer = sealed.Sealer(file, self._key, source_digest.encode())
                    for part in data:
                        sealer.write(part)
                    sealer.finish()
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
            yield from sealed.unsealed(file, self._key, source_digest.encode())

    def held(self) -> list[Held]:
        """Return what is in quarantine, oldest first."""
        found = []
        for path in self._folder.glob("*" + SUFFIX):
            if path.name.startswith("."):
                continue
            with suppress(FileNotFoundError):
                state = path.stat()
                since = datetime.fromtimestamp(state.st_mtime, UTC)
                size = sealed.plain_bytes(state.st_size)
                found.append(Held(path.name.removesuffix(SUFFIX), since, size))
        return sorted(found, key=lambda held: (held.since, held.source_digest))

    def find(self, start: str) -> Held:
        """Return the one file whose digest begins with ``start``; else ``NotFound``."""
        found = [held for held in self.held() if held.source_digest.startswith(start)]
        if len(found) != 1:
            what = "No file" if not found else "More than one file"
            raise NotFound(f"{what} in quarantine begins with that number; see `quarantine list`.")
        return found[0]

    def release(self, source_digests: Iterable[str]) -> None:
        """Delete files that were made safe after all."""
        with storage_errors(self._folder):
            for source_digest in source_digests:
                self.path(source_digest).unlink(missing_ok=True)

    def purge(self, now: datetime, older_than: timedelta) -> int:
        """Delete what has been in quarantine for longer than ``older_than``; return how many."""
        purged = 0
        with storage_errors(self._folder):
            for held in self.held():
                if held.since < now - older_than:
                    self.path(held.source_digest).unlink(missing_ok=True)
                    purged += 1
            for path in self._folder.glob(f".*{SUFFIX}.*"):
                # A kill left it unfinished; whoever still writes has touched it just now.
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < (now - older_than).timestamp():
                        path.unlink()
            sync_folder(self._folder)
        return purged

    def _renew(self, path: Path) -> None:
        digest = path.name.removesuffix(FIRST_SUFFIX)
        since = path.stat().st_mtime
        # A damaged file stays as it is: it can't be read, and nothing is lost by that.
        with suppress(DataError):
            self.put(digest, _first_form(path, self._key, digest.encode()))
            os.utime(self.path(digest), (since, since))
            path.unlink()


def _first_form(path: Path, key: bytes, digest: bytes) -> Iterator[bytes]:
    cipher = AESGCM(key)
    with path.open("rb") as file:
        header = file.read(len(FIRST_MAGIC) + 7)
        piece, index = file.read(sealed.PIECE + sealed.TAG), 0
        while True:
            following = file.read(sealed.PIECE + sealed.TAG)
            last = b"\0" if following else b"\1"
            nonce = header[len(FIRST_MAGIC) :].ljust(7, b"\0") + index.to_bytes(4, "big") + last
            try:
                yield cipher.decrypt(nonce, piece, digest)
            except (InvalidTag, ValueError):
                raise DataError("A file in quarantine was changed.") from None
            if not following:
                return
            piece, index = following, index + 1
