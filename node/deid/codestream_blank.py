"""A stream whose length stays as it is while ranges of it are overwritten."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate


class Blanks:
    """Collects ranges of ``data`` to overwrite, each with one byte value."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._ranges: list[tuple[int, int, bytes]] = []

    def fill(self, start: int, stop: int, value: int = 0) -> None:
        """Overwrite ``data[start:stop]``."""
        if start < stop:
            self._ranges.append((start, stop, bytes((value,)) * (stop - start)))

    def set(self, start: int, new: bytes) -> None:
        """Overwrite what begins at ``start`` with ``new``."""
        self._ranges.append((start, start + len(new), new))

    def result(self) -> bytes:
        """Return the stream, ``data`` itself if nothing changes."""
        if all(self.data[start:stop] == new for start, stop, new in self._ranges):
            return self.data
        out = bytearray(self.data)
        for start, stop, new in self._ranges:
            out[start:stop] = new
        return bytes(out)


class Payload:
    """An elementary stream that lies in pieces in a container."""

    def __init__(self, blanks: Blanks, ranges: list[tuple[int, int]]) -> None:
        self._blanks = blanks
        self._ranges = ranges
        self._starts = [0, *accumulate(stop - start for start, stop in ranges)]
        self.data = (
            blanks.data
            if ranges == [(0, len(blanks.data))]
            else b"".join(blanks.data[start:stop] for start, stop in ranges)
        )

    def fill(self, start: int, stop: int, value: int = 0) -> None:
        """Overwrite ``self.data[start:stop]`` where it lies."""
        index = bisect_right(self._starts, start) - 1
        while start < stop and index < len(self._ranges):
            first = self._ranges[index][0] + start - self._starts[index]
            length = min(stop, self._starts[index + 1]) - start
            self._blanks.fill(first, first + length, value)
            start += length
            index += 1
