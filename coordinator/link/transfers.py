"""Blobs on the link at once: a few, whoever asks, so that hundreds of sites fit into memory.

Each transfer under way takes memory for what was received and not yet read, or read and not yet
sent. Who has to wait for a slot has sent nothing yet. A transfer keeps its slot while it goes well.
One that doesn't must not keep others out, so it goes on without its slot. That is right where its
own line is slow. Where all are slow, what is slow may be our line or our processor; then each more
only takes memory: so a few go on so, and beyond that one in a while, and each of any number of slow
ones begins at last.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager

AT_ONCE = 8
PERIOD_SECONDS = 10.0
PERIOD_BYTES = 10_000_000
"""What a transfer must bring on in each period to keep its slot."""
SLOW_AT_ONCE = 24
"""How many go on without a slot, before more have to wait for it."""
SLOW_SECONDS = 60.0
"""After so long yet one more goes on without."""


class Slot:
    """Leave for one transfer. ``moved`` says how it goes."""

    def __init__(self, of: asyncio.Semaphore) -> None:
        self._of: asyncio.Semaphore | None = of
        self.bytes = 0
        self.ended: Callable[[], None] = lambda: None

    def moved(self, size: int) -> None:
        """Take note of so many bytes more."""
        self.bytes += size

    @property
    def held(self) -> bool:
        """Whether it wasn't given back yet."""
        return self._of is not None

    def free(self) -> None:
        """Give the slot back, if it wasn't yet."""
        if self._of is not None:
            self._of.release()
            self._of = None


class Transfers:
    """The slots of one coordinator. Used in its event loop only."""

    def __init__(
        self,
        at_once: int = AT_ONCE,
        period_seconds: float = PERIOD_SECONDS,
        period_bytes: int = PERIOD_BYTES,
        slow_at_once: int = SLOW_AT_ONCE,
        slow_seconds: float = SLOW_SECONDS,
    ) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._seconds = period_seconds
        self._bytes = period_bytes
        self._slow_at_once = slow_at_once
        self._slow_seconds = slow_seconds
        self._slow = 0
        self._last_slow_at = -math.inf
        self._reserved: dict[Hashable, Slot] = {}

    async def reserve(self, key: Hashable) -> None:
        """Return once the transfer ``key`` has a slot; it should begin within a period."""
        if key not in self._reserved:
            self._reserved[key] = await self._slot(key)

    @asynccontextmanager
    async def slot(self, key: Hashable = None) -> AsyncIterator[Slot]:
        """Transfer inside: with the slot that was reserved for ``key``, or once there is one."""
        slot = self._reserved.pop(key, None) or await self._slot(key)
        try:
            yield slot
        finally:
            slot.free()
            slot.ended()

    async def _slot(self, key: Hashable) -> Slot:
        await self._free.acquire()
        slot = Slot(self._free)
        self._watch(slot, key)
        return slot

    def _watch(self, slot: Slot, key: Hashable) -> None:
        before = slot.bytes
        loop = asyncio.get_running_loop()

        def look() -> None:
            if not slot.held:
                return
            if self._reserved.get(key) is slot:  # it never began
                del self._reserved[key]
                slot.free()
            elif slot.bytes - before >= self._bytes or not self._may_be_slow(loop.time()):
                self._watch(slot, key)
            else:
                self._slow += 1
                self._last_slow_at = loop.time()
                slot.ended = self._one_slow_less
                slot.free()

        loop.call_later(self._seconds, look)

    def _may_be_slow(self, now: float) -> bool:
        return self._slow < self._slow_at_once or now - self._last_slow_at >= self._slow_seconds

    def _one_slow_less(self) -> None:
        self._slow -= 1
