"""How fast an archive is asked: token buckets, and pauses that grow after failures."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass


class TokenBucket:
    """Lets ``per_second`` tokens pass in the long run, and a burst of them at most at once.

    In any span of t seconds, at most ``burst + per_second * t`` tokens pass, plus the one request
    that began last: a request larger than the burst passes, and those after it wait it off. Any
    number of threads may share a bucket; ``per_second`` 0 is no limit.
    """

    def __init__(
        self,
        per_second: float,
        clock: Callable[[], float],
        sleep: Callable[[float], object],
        burst: float | None = None,
    ) -> None:
        self._rate = per_second
        self._burst = per_second if burst is None else burst
        self._clock = clock
        self._sleep = sleep
        self._level = self._burst
        self._at = clock()
        self._lock = threading.Lock()

    def take(self, tokens: float) -> float:
        """Take ``tokens``, sleep until they are paid off, and return the seconds slept."""
        if self._rate <= 0:
            return 0.0
        with self._lock:
            now = self._clock()
            self._level = min(self._burst, self._level + max(0.0, now - self._at) * self._rate)
            self._at = now
            self._level -= tokens
            wait = max(0.0, -self._level / self._rate)
        if wait > 0:
            self._sleep(wait)
        return wait


class Throttle:
    """The two limits of one archive: instances and bytes per second."""

    def __init__(
        self,
        instances_per_second: float,
        bytes_per_second: float,
        clock: Callable[[], float],
        sleep: Callable[[float], object],
    ) -> None:
        self._instances = TokenBucket(
            instances_per_second, clock, sleep, max(1.0, instances_per_second)
        )
        self._bytes = TokenBucket(bytes_per_second, clock, sleep)

    def instance(self) -> None:
        """Account for one instance; sleeps while they come too fast."""
        self._instances.take(1)

    def received(self, size_bytes: int) -> None:
        """Account for bytes as they are read; sleeps while they come too fast."""
        self._bytes.take(size_bytes)


@dataclass(frozen=True)
class Pauses:
    """Growing pauses: the first, then double, up to the longest."""

    first_seconds: float
    longest_seconds: float

    def after(self, failures: int) -> float:
        """Return the seconds to wait after that many failures in a row."""
        if failures <= 0:
            return 0.0
        return float(min(self.longest_seconds, self.first_seconds * 2.0 ** min(failures - 1, 60)))
