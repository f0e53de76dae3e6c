"""Blobs on the link at once: a few, whoever asks, so that hundreds of sites fit into memory.

Each transfer under way takes memory for what was received and not yet read, or read and not yet
sent. Who has to wait for a slot has sent nothing yet. A transfer holds its slot for a while only:
one that is still not through is slow for its line's sake, takes little memory, and must not keep
others out. So each begins at last: ``at_once`` of them every ``seconds``, however slow all are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

AT_ONCE = 12
SECONDS = 10.0


class Transfers:
    """The slots of one coordinator. Used in its event loop only."""

    def __init__(self, at_once: int = AT_ONCE, seconds: float = SECONDS) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._seconds = seconds
        self._reserved: dict[Hashable, _Slot] = {}

    async def reserve(self, key: Hashable) -> None:
        """Return once the transfer ``key`` has a slot; it should begin while that lasts."""
        if key not in self._reserved:
            self._reserved[key] = await self._slot(key)

    @asynccontextmanager
    async def slot(self, key: Hashable = None) -> AsyncIterator[None]:
        """Transfer inside: with the slot that was reserved for ``key``, or once there is one."""
        slot = self._reserved.pop(key, None) or await self._slot(key)
        try:
            yield
        finally:
            slot.free()

    async def _slot(self, key: Hashable) -> _Slot:
        await self._free.acquire()
        slot = _Slot(self._free)

        def over() -> None:
            if self._reserved.get(key) is slot:
                del self._reserved[key]
            slot.free()

        slot.timer = asyncio.get_running_loop().call_later(self._seconds, over)
        return slot


class _Slot:
    """A slot until it is freed, once."""

    timer: asyncio.TimerHandle

    def __init__(self, of: asyncio.Semaphore) -> None:
        self._of: asyncio.Semaphore | None = of

    def free(self) -> None:
        """Give the slot back, if it wasn't yet."""
        self.timer.cancel()
        if self._of is not None:
            self._of.release()
            self._of = None
