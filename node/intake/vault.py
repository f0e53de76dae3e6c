"""De-identified files in the vault, by content, and the place where they are made.

A file is written, synced, in a staging folder of its intake's own; it gets its name among the
assets when the catalogue's writer has decided to keep it. So no decision has to undo another.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from foundation.files import SECRET_MODE, file_mode, private_folder, storage_errors
from node.home import NodeHome

_LOCK = "lock"
MIRAX = ".mrxs"
"""The suffix of an asset that has a folder beside it."""
_LIBC = ctypes.CDLL(None, use_errno=True)


class Vault:
    """The folder of assets: ``vault/assets/<aa>/<sha256><suffix>``.

    A MIRAX slide has its further files in ``vault/assets/<aa>/<sha256>/``.
    """

    def __init__(self, home: NodeHome) -> None:
        self._root = private_folder(home.vault)
        self._quarantine = home.quarantine
        self._folder = private_folder(home.vault / "assets")
        self._made: set[str] = set()

    def path(self, digest: str, suffix: str = ".dcm") -> Path:
        """Where the asset with this SHA-256 lies."""
        return self._folder / digest[:2] / f"{digest}{suffix}"

    def put(self, digest: str, data: bytes, suffix: str = ".dcm") -> None:
        """Keep an asset, durably."""
        with Staging(self) as staging:
            staged = staging.new()
            staged.touch(file_mode(staged.parent))
            staged.write_bytes(data)
            self.keep(staged, digest, suffix)
            self.sync()

    def staging(self) -> Staging:
        """Return a context with a folder for files that are being made; afterwards it is gone."""
        return Staging(self)

    def keep(self, staged: Path, digest: str, suffix: str) -> None:
        """Give a staged file (and the folder that belongs to it) its name; ``sync`` comes later."""
        shard = f"{self._folder}/{digest[:2]}"
        with storage_errors(self._folder):
            if digest[:2] not in self._made:
                private_folder(Path(shard))
                self._made.add(digest[:2])
            if suffix == MIRAX:
                # What is there without a row in the catalogue was cut off, and may not be whole.
                shutil.rmtree(f"{shard}/{digest}", ignore_errors=True)
                staged.with_suffix("").replace(f"{shard}/{digest}")
            os.rename(staged, f"{shard}/{digest}{suffix}")  # noqa: PTH104 - by the thousand

    def sync(self) -> None:
        """Make durable what was kept, bytes and names."""
        with storage_errors(self._folder):
            sync_filesystem(self._folder)


class Staging:
    """A folder of one intake for files that are being made; a killed one's is cleared by others."""

    def __init__(self, vault: Vault) -> None:
        self._quarantine = vault._quarantine
        self._all = private_folder(vault._root / "incoming")
        self.folder = self._all / secrets.token_hex(8)
        self._lock = -1

    def __enter__(self) -> Self:
        with storage_errors(self._all), _locked(self._all / _LOCK):
            self._clear()
            private_folder(self.folder)
            self._lock = _lock(self.folder / _LOCK)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)

    def new(self, suffix: str = "") -> Path:
        """Return the path of a file to be."""
        return staged_path(self.folder, suffix)

    def _clear(self) -> None:
        alone = True
        for left in self._all.iterdir():
            if left.is_dir():
                try:
                    os.close(_lock(left / _LOCK))
                except BlockingIOError:
                    alone = False
                else:
                    shutil.rmtree(left, ignore_errors=True)
        if alone:
            for unfinished in self._quarantine.glob(".*"):
                unfinished.unlink(missing_ok=True)


def staged_path(folder: Path, suffix: str = "") -> Path:
    """Return the path of a file to be in a staging folder."""
    return folder / f"{secrets.token_hex(12)}{suffix}"


def sync_filesystem(folder: Path) -> None:
    """Make durable all that was written to the file system of ``folder`` (Linux, syncfs(2)).

    One wait for hundreds of files and folders, where each by itself would wait for the disk.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _LIBC.syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)


def write_file(path: Path, write: Callable[[int], None], *, sync: bool) -> None:
    """Have a new file written by its descriptor; an error leaves none.

    Unless it is synced, ``Vault.sync`` on this machine does that. ``StorageError`` without room.
    """
    with storage_errors(path.parent):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file_mode(path.parent))
        try:
            write(descriptor)
            if sync:
                os.fsync(descriptor)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)


def remove_staged(staged: Path) -> None:
    """Remove a staged file that is not kept, and the folder that belongs to it."""
    staged.unlink(missing_ok=True)
    if staged.suffix == MIRAX:
        shutil.rmtree(staged.with_suffix(""), ignore_errors=True)


def _lock(path: Path) -> int:
    """Return a descriptor that holds the lock at ``path``; ``BlockingIOError`` if it is taken."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, SECRET_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait for the lock at ``path`` and hold it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, SECRET_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
