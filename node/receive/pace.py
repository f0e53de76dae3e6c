"""How long a sender may keep its place: it may pause, but not trickle."""

from __future__ import annotations


class Pace:
    """Time that a sender has left. Waiting for it spends time, what comes earns some.

    It never has more than ``idle_seconds`` left, and each byte earns the time that it takes at
    ``least_bytes_per_second``. So a sender that is slower for ``idle_seconds`` has none left. Time
    that the receiver takes for itself isn't counted.
    """

    def __init__(self, idle_seconds: float, least_bytes_per_second: float) -> None:
        self._most = idle_seconds
        self._rate = least_bytes_per_second
        self.left_seconds = idle_seconds
        """How long the sender may be waited for now; 0 or less: no longer."""

    def came(self, size_bytes: int, waited_seconds: float) -> None:
        """Note bytes, and how long they were waited for."""
        earned = size_bytes / self._rate
        self.left_seconds = min(self._most, self.left_seconds - waited_seconds + earned)

    def renew(self) -> None:
        """Note that something was finished, whatever its size."""
        self.left_seconds = self._most
