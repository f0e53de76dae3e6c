"""Every regular file below some paths, in a fixed order, whatever they are called."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from contract.errors import NotFound
from node.deid.slides.recognition import SLIDEDAT, belongs_to_slide

MAX_FILE_BYTES = 4 * 2**30
_CHUNK = 1024 * 1024

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
        for place, kind, status in _below(str(given.resolve())):
            position += 1
            yield Found(position, place, kind, status)


def read_file(path: Path) -> bytes | None:
    """Return the bytes of a regular file, or None if it is larger than ``MAX_FILE_BYTES``.

    ``OSError`` when it can't be read, or is something else by now.
    """
    descriptor = open_file(path)
    with os.fdopen(descriptor, "rb") as file:
        if os.fstat(descriptor).st_size > MAX_FILE_BYTES:
            return None
        return file.read()


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


def _below(path: str) -> Iterator[tuple[str, Kind, os.stat_result | None]]:
    try:
        top = Path(path).stat()
    except OSError:
        yield path, "special", None
        return
    if not stat.S_ISDIR(top.st_mode):
        yield (path, "file", top) if stat.S_ISREG(top.st_mode) else (path, "special", None)
        return
    waiting = [path]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                inside = sorted(entries, key=_name)
        except OSError:
            yield folder, "unreadable-folder", None
            continue
        folders = []
        in_slide: bool | None = None
        for entry in inside:
            if entry.is_symlink():
                yield entry.path, "link", None
            elif entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif not entry.is_file(follow_symlinks=False):
                yield entry.path, "special", None
            else:
                if in_slide is None:
                    in_slide = any(e.name == SLIDEDAT for e in inside) and belongs_to_slide(
                        Path(folder, SLIDEDAT)
                    )
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue  # gone since
                yield entry.path, "part-of-a-slide" if in_slide else "file", status
        waiting.extend(reversed(folders))


def _name(entry: os.DirEntry[str]) -> bytes:
    return os.fsencode(entry.name)
