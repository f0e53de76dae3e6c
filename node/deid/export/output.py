"""Files of the copy: each appears whole under its name, and none replaces another.

A file is written in a folder of its process's own, so that processes don't wait for each other, and
then linked to its place, which fails when there is something already. Nothing is synced file by
file: a copy that a power cut interrupts is made anew, and its sources are still there.
"""

# Paths are text here and the calls are the kernel's: this runs for each of a million files.
# ruff: noqa: PTH102, PTH104, PTH108, PTH123

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

from foundation.files import storage_errors

_MODE = 0o600
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
PART = ".part-"
"""How the names of unfinished files and their folders begin, in the top folder."""
_UNFINISHED = "unfinished"


class Output:
    """The folder of one copy. ``worker`` sets the unfinished files of each process apart."""

    def __init__(self, root: Path, worker: str) -> None:
        self._root = str(root)
        folder = f"{self._root}/{PART}{worker}"
        self._part = f"{folder}/{_UNFINISHED}"
        with storage_errors(root), contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        self._folders: set[str] = set()

    def path(self, relative: str) -> Path:
        """Return where a file of the copy is."""
        return Path(self._root, relative)

    def write_part(self, write: Callable[[int], object]) -> None:
        """Make the unfinished file; ``write`` gets its descriptor."""
        with storage_errors(Path(self._root)):
            descriptor = os.open(
                self._part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _MODE
            )
            try:
                write(descriptor)
            finally:
                os.close(descriptor)

    def finish(self, relative: str) -> bool:
        """Give the unfinished file its place; False when there is a file already."""
        target = f"{self._root}/{relative}"
        self.make_folder(relative)
        with storage_errors(Path(self._root)):
            try:
                os.link(self._part, target)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                return self._finish_without_links(target)
            os.unlink(self._part)
        return True

    def set_aside(self, name: str) -> str:
        """Keep the unfinished file under a name of its own in the top folder."""
        with storage_errors(Path(self._root)):
            os.rename(self._part, f"{self._root}/{PART}{name}")
        return PART + name

    def same_as_part(self, relative: str) -> bool:
        """Say whether the file at its place has the unfinished file's bytes."""
        return same_bytes(f"{self._root}/{relative}", self._part)

    def drop_part(self) -> None:
        """Delete the unfinished file, if there is one."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._part)

    def _finish_without_links(self, target: str) -> bool:
        # FAT and some network file systems: the empty file reserves the name.
        try:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE))
        except FileExistsError:
            return False
        os.rename(self._part, target)
        return True

    def make_folder(self, relative: str) -> None:
        """Make the folder of a file, for its owner alone."""
        folder = relative.rpartition("/")[0]
        if folder in self._folders:
            return
        path = self._root
        with storage_errors(Path(self._root)):
            for part in folder.split("/"):
                path = f"{path}/{part}"
                with contextlib.suppress(FileExistsError):
                    os.mkdir(path, 0o700)
        self._folders.add(folder)


def remove_parts(root: Path) -> None:
    """Remove what processes have left unfinished, when all of them have ended."""
    for folder in root.glob(f"{PART}*"):
        (folder / _UNFINISHED).unlink(missing_ok=True)
        folder.rmdir()


def same_bytes(one: str, other: str) -> bool:
    """Say whether two files have the same content; memory is bounded."""
    with open(one, "rb") as first, open(other, "rb") as second:
        if os.fstat(first.fileno()).st_size != os.fstat(second.fileno()).st_size:
            return False
        while True:
            a, b = first.read(1 << 20), second.read(1 << 20)
            if a != b:
                return False
            if not a:
                return True
