"""Every regular file below some paths, in a fixed order, whatever they are called."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Literal, NamedTuple

from contract.errors import NotFound
from node.deid.slides.recognition import SLIDEDAT, belongs_to_slide

_CHUNK = 1024 * 1024
_NAME = attrgetter("name")

Kind = Literal["file", "link", "special", "unreadable-folder", "part-of-a-slide"]


class Found(NamedTuple):
    """Something below a path. ``position`` counts from 1 and names it in messages."""

    position: int
    place: str
    kind: Kind
    status: os.stat_result | None = None
    """Of a file, as it was when it was found."""

    @property
    def path(self) -> Path:
        """Where it is."""
        return Path(self.place)


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
        position = yield from _below(str(given.resolve()), position)


def chunks(path: Path) -> Iterator[bytes]:
    """Yield a regular file's bytes piece by piece."""
    with os.fdopen(open_file(path), "rb") as file:
        while piece := file.read(_CHUNK):
            yield piece


def open_file(path: str | Path) -> int:
    """Open a regular file for reading and return its descriptor; a link is not followed.

    ``OSError`` when it can't be read, or is something else by now.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("not a regular file")
    return descriptor


def _below(path: str, position: int) -> Generator[Found, None, int]:
    """Yield what is below a path; return the last position."""
    try:
        top = Path(path).stat()
    except OSError:
        yield Found(position + 1, path, "special")
        return position + 1
    if not stat.S_ISDIR(top.st_mode):
        regular = stat.S_ISREG(top.st_mode)
        yield Found(position + 1, path, *(("file", top) if regular else ("special", None)))
        return position + 1
    waiting = [path]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                inside = sorted(entries, key=_NAME)
        except OSError:
            position += 1
            yield Found(position, folder, "unreadable-folder")
            continue
        regular_kind: Kind = "file"
        if any(entry.name == SLIDEDAT for entry in inside) and belongs_to_slide(
            Path(folder, SLIDEDAT)
        ):
            regular_kind = "part-of-a-slide"
        folders = []
        for entry in inside:
            if entry.is_file(follow_symlinks=False):
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue  # gone since
                position += 1
                yield Found(position, entry.path, regular_kind, status)
            elif entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            else:
                position += 1
                yield Found(position, entry.path, "link" if entry.is_symlink() else "special")
        waiting.extend(reversed(folders))
    return position
