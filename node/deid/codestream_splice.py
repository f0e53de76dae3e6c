"""Which parts of a compressed stream are kept: ranges of it, and bytes that replace others."""

from __future__ import annotations


class Splice:
    """Collects a stream's kept parts in order. Entropy-coded data is copied once, or not at all."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.length = 0
        self._parts: list[tuple[int, int] | bytes] = []

    def take(self, start: int, stop: int) -> None:
        """Keep ``data[start:stop]``."""
        if stop <= start:
            return
        self.length += stop - start
        last = self._parts[-1] if self._parts else None
        if isinstance(last, tuple) and last[1] == start:
            self._parts[-1] = (last[0], stop)
        else:
            self._parts.append((start, stop))

    def put(self, new: bytes, start: int, stop: int) -> None:
        """Have ``new`` in place of ``data[start:stop]``; the same bytes count as kept."""
        if new == self.data[start:stop]:
            self.take(start, stop)
        else:
            self.length += len(new)
            self._parts.append(new)

    def result(self) -> bytes:
        """Return the kept parts; ``data`` itself when they are all of it but what fills its end."""
        data = self.data
        if len(self._parts) == 1 and isinstance(self._parts[0], tuple):
            start, stop = self._parts[0]
            if start == 0 and not data[stop:].strip(b"\0\xff"):
                return data
        return b"".join(
            part if isinstance(part, bytes) else data[part[0] : part[1]] for part in self._parts
        )
