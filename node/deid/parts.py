"""A file being written: stretches of the file that it is made from, and new bytes, in order.

Nothing is copied until it is written, so a file of gigabytes costs the memory of its changes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from node.deid.elements import Buffer

Part = bytes | tuple[int, int]
"""New bytes, or the bounds of a stretch of the source."""
_LARGE = 4 << 20
_BATCH = 512


class Parts:
    """Collects parts; stretches that touch become one."""

    __slots__ = ("all", "length")

    def __init__(self) -> None:
        self.all: list[Part] = []
        self.length = 0

    def take(self, start: int, end: int) -> None:
        """Go on with ``source[start:end]``."""
        if end <= start:
            return
        self.length += end - start
        if self.all:
            last = self.all[-1]
            if type(last) is tuple and last[1] == start:
                self.all[-1] = (last[0], end)
                return
        self.all.append((start, end))

    def put(self, new: bytes) -> None:
        """Go on with ``new``."""
        if new:
            self.length += len(new)
            self.all.append(new)

    def extend(self, other: Parts) -> None:
        """Go on with what ``other`` has collected."""
        for part in other.all:
            if isinstance(part, bytes):
                self.put(part)
            else:
                self.take(*part)

    def pieces(self, source: Buffer) -> Iterator[Buffer]:
        """Yield the bytes, stretches of the source as views of it."""
        view = memoryview(source)
        for part in self.all:
            yield part if isinstance(part, bytes) else view[part[0] : part[1]]

    def join(self, source: Buffer, length: int | None = None) -> bytes:
        """Return all bytes as one, or the first ``length`` of them."""
        if length is None:
            return b"".join(self.pieces(source))
        collected = bytearray()
        for piece in self.pieces(source):
            collected += piece[: length - len(collected)]
            if len(collected) >= length:
                break
        return bytes(collected)

    def write(self, target: int, source: Buffer, descriptor: int | None = None) -> None:
        """Write all bytes to the descriptor ``target``.

        ``descriptor`` is the file that ``source`` is mapped from: the kernel copies large stretches
        between the two, so that they never count as this process's memory.
        """
        batch: list[Buffer] = []
        view = memoryview(source)
        for part in self.all:
            if isinstance(part, bytes):
                batch.append(part)
            elif descriptor is not None and part[1] - part[0] >= _LARGE:
                _write(target, batch)
                batch = []
                _copy(descriptor, target, *part)
            else:
                batch.append(view[part[0] : part[1]])
            if len(batch) >= _BATCH:
                _write(target, batch)
                batch = []
        _write(target, batch)


def _write(target: int, batch: list[Buffer]) -> None:
    while batch:
        written = os.writev(target, batch)
        while batch and written >= len(batch[0]):
            written -= len(batch.pop(0))
        if batch and written:
            batch[0] = memoryview(batch[0])[written:]


def _copy(source: int, target: int, start: int, end: int) -> None:
    """Copy between files without mapping them; some file systems can only read and write."""
    while start < end:
        try:
            done = os.copy_file_range(source, target, min(end - start, 1 << 30), start)
        except OSError:
            done = 0
        if not done:
            piece = os.pread(source, min(end - start, _LARGE), start)
            if not piece:
                raise OSError("a file became shorter while it was read")
            _write(target, [piece])
            done = len(piece)
        start += done
