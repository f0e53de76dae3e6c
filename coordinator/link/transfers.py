"""Blobs on the link at once: a few, whoever asks, so that hundreds of sites fit into memory.

Each transfer under way takes memory for what was received and not yet read, or read and not yet
sent. Who has to wait for a slot has sent nothing yet. A transfer keeps its slot while it goes well.
One that doesn't is held up by its own line: it takes little memory, and must not keep others out,
so it goes on without its slot, and each of any number of slow ones begins at last.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

AT_ONCE = 8
PERIOD_SECONDS = 10.0
PERIOD_BYTES = 10_000_000
"""What a transfer must bring on in each period to keep its slot."""


class Slot:
    """Leave for one transfer. ``moved`` says how it goes."""

    def __init__(self, of: asyncio.Semaphore) -> None:
        self._of: asyncio.Semaphore | None = of
        self.bytes = 0

    def moved(self, size: int) -> None:
        """Take note of so many bytes more."""
        self.bytes += size

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
    ) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._seconds = period_seconds
        self._bytes = period_bytes
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

    async def _slot(self, key: Hashable) -> Slot:
        await self._free.acquire()
        slot = Slot(self._free)
        self._watch(slot, key)
        return slot

    def _watch(self, slot: Slot, key: Hashable) -> None:
        before = slot.bytes

        def look() -> None:
            if slot.bytes - before >= self._bytes:
                self._watch(slot, key)
                return
            if self._reserved.get(key) is slot:
                del self._reserved[key]
            slot.free()

        asyncio.get_running_loop().call_later(self._seconds, look)
