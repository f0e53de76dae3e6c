"""Backpressure: whether there is room for one more arrival."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from node.intake.landing import Landing

LOOK_SECONDS = 0.5
"""How old a look at disk and queue may be."""


@dataclass(frozen=True)
class Limits:
    """What the landing may take."""

    keep_free_bytes: int
    max_waiting: int
    max_instance_bytes: int


class Room:
    """Looks at the landing's disk and queue, now and then."""

    def __init__(self, landing: Landing, limits: Limits, monotonic: Callable[[], float]) -> None:
        self._landing = landing
        self._limits = limits
        self._monotonic = monotonic
        self._looked_at = -LOOK_SECONDS * 2
        self._reason: str | None = None
        self._lock = threading.Lock()

    @property
    def max_instance_bytes(self) -> int:
        """A larger instance is refused."""
        return self._limits.max_instance_bytes

    def refuses(self) -> str | None:
        """Return why nothing more is taken now, or None."""
        with self._lock:
            now = self._monotonic()
            if now - self._looked_at >= LOOK_SECONDS:
                self._reason = self._look()
                self._looked_at = now
            return self._reason

    def _look(self) -> str | None:
        disk = os.statvfs(self._landing.folder)
        if disk.f_bavail * disk.f_frsize < self._limits.keep_free_bytes:
            return "the landing's disk is nearly full"
        if self._landing.count() >= self._limits.max_waiting:
            return "too many instances wait to be de-identified"
        return None
