"""Every regular file below some paths, in a fixed order, whatever they are called."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from contract.errors import NotFound

MAX_FILE_BYTES = 4 * 2**30
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Found:
    """Something below a path. ``position`` counts from 1 and names it in messages."""

    position: int
    path: Path
    kind: Literal["file", "link", "special", "unreadable-folder"]


def walk(paths: Sequence[Path]) -> Iterator[Found]:
    """Yield what lies below ``paths``, folder by folder, sorted by name.

    A path that is given may be a link; below it links are reported and never followed, so that no
    tree leads out of itself. ``NotFound`` says which of the paths doesn't exist, by its number.
    """
    for number, path in enumerate(paths, 1):
        if not path.exists():
            raise NotFound(f"Path {number} of {len(paths)} does not exist.")
    position = 0
    for given in paths:
        for path, kind in _below(given.resolve()):
            position += 1
            yield Found(position, path, kind)


def read_file(path: Path) -> bytes | None:
    """Return the bytes of a regular file, or None if it is larger than ``MAX_FILE_BYTES``.

    ``OSError`` when it can't be read, or is something else by now.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            return None
        return file.read()


def chunks(path: Path) -> Iterator[bytes]:
    """Yield a regular file's bytes piece by piece."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        while piece := file.read(_CHUNK):
            yield piece


def _below(
    path: Path,
) -> Iterator[tuple[Path, Literal["file", "link", "special", "unreadable-folder"]]]:
    if not path.is_dir():
        yield path, "file" if path.is_file() else "special"
        return
    waiting = [path]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                inside = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        except OSError:
            yield folder, "unreadable-folder"
            continue
        folders = []
        for entry in inside:
            if entry.is_symlink():
                yield Path(entry.path), "link"
            elif entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                yield Path(entry.path), "file"
            else:
                yield Path(entry.path), "special"
        waiting.extend(reversed(folders))
