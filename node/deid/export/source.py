"""The bytes of one file: read when it is small, mapped when it is large."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from node.deid.reading import Unsafe

MAPPED_FROM_BYTES = 16 * 2**20
"""A file of this size or more is mapped instead of read."""
MAX_FILE_BYTES = 64 * 2**30
HEAD_BYTES = 16 * 1024
LONG_HEAD_BYTES = 512 * 1024

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Unreadable(Exception):
    """The file system doesn't give the file, or it is no regular file any more."""


@dataclass(frozen=True, slots=True)
class Source:
    """An open file. ``data`` is its whole content."""

    descriptor: int
    data: bytes | mmap.mmap

    @property
    def is_mapped(self) -> bool:
        """Say whether the content is mapped, so that copies are better made by the kernel."""
        return isinstance(self.data, mmap.mmap)


@contextmanager
def opened(path: str) -> Iterator[Source]:
    """Open a file; ``Unreadable`` if that can't be done, ``Unsafe`` past ``MAX_FILE_BYTES``."""
    descriptor, size = _open(path)
    try:
        if size > MAX_FILE_BYTES:
            raise Unsafe("too-large")
        if size < MAPPED_FROM_BYTES:
            yield Source(descriptor, _read(descriptor, size))
            return
        mapped = mmap.mmap(descriptor, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
        yield Source(descriptor, mapped)
        # Not closed here: whoever still holds a view of it, a traceback even, would be an error.
        mapped.madvise(mmap.MADV_DONTNEED)
    finally:
        os.close(descriptor)


def head(path: str, limit_bytes: int = HEAD_BYTES) -> tuple[bytes, int]:
    """Return the first bytes of a file and its size; ``Unreadable`` as ``opened``."""
    descriptor, size = _open(path)
    try:
        return os.read(descriptor, limit_bytes), size
    except OSError:
        raise Unreadable from None
    finally:
        os.close(descriptor)


def _open(path: str) -> tuple[int, int]:
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError:
        raise Unreadable from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise Unreadable
    return descriptor, status.st_size


def _read(descriptor: int, size: int) -> bytes:
    # One byte more than its size, so that most files need one call and a growing one is noticed.
    try:
        data = os.read(descriptor, size + 1)
        if len(data) == size:
            return data
        pieces = [data]
        while len(pieces[-1]) and sum(map(len, pieces)) < MAPPED_FROM_BYTES * 2:
            pieces.append(os.read(descriptor, 1 << 20))
        return b"".join(pieces)
    except OSError:
        raise Unreadable from None
