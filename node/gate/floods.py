"""How much of what a coordinator sends is written down, of what no researcher signed anew.

Guarantee: within any hour a consortium's coordinator has a node write down, and answer, at most
twice ``jobs.unsigned_per_hour`` messages, and that number an hour for long, besides what is paid
for: a signed job that is let in for the first time pays for its own steps or rounds (``BOUGHT``).
What comes beyond is dropped. It depends on what was sent and on policy alone. Assumptions: the
clock doesn't leap; a restart, which begins anew, isn't the coordinator's to cause.
Source: Turner 1986, New Directions in Communications (the leaky bucket).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

log = logging.getLogger("wardgate.node")

BOUGHT: Mapping[str, int] = {"statistics": 100, "training": 2000}
"""How many messages a newly admitted job pays for, by its kind of work."""
HOUR = timedelta(hours=1)


@dataclass
class _Bucket:
    """What is left for one consortium, and what was dropped since that was last said."""

    left: float
    since: datetime
    dropped: int = 0
    said: datetime | None = None


class FloodLimit:
    """A bucket for each consortium, in memory: it fills by the hour and by jobs that are let in."""

    def __init__(self) -> None:
        self._buckets: dict[str, _Bucket] = {}
        self._lock = threading.Lock()

    def take(self, consortium: str, per_hour: int, now: datetime) -> bool:
        """Say whether one more message may be written down, and count it."""
        with self._lock:
            bucket = self._filled(consortium, per_hour, now)
            may = bucket.left >= 1
            if may:
                bucket.left -= 1
            else:
                bucket.dropped += 1
            self._say(consortium, bucket, now)
            return may

    def pay(self, consortium: str, kind: str, per_hour: int, now: datetime) -> None:
        """Add what a newly admitted job of a kind of work pays for."""
        with self._lock:
            self._filled(consortium, per_hour, now).left += BOUGHT[kind]

    def _filled(self, consortium: str, per_hour: int, now: datetime) -> _Bucket:
        bucket = self._buckets.setdefault(consortium, _Bucket(per_hour, now))
        gained = per_hour * max(timedelta(), now - bucket.since) / HOUR
        bucket.since = now
        # What jobs paid for stays; what time gives doesn't pile up beyond an hour's.
        bucket.left = max(bucket.left, min(bucket.left + gained, float(per_hour)))
        return bucket

    def _say(self, consortium: str, bucket: _Bucket, now: datetime) -> None:
        if bucket.dropped and (bucket.said is None or now - bucket.said >= HOUR):
            log.warning(
                "%s: the coordinator sends more than is written down here (policy key "
                "jobs.unsigned_per_hour); messages dropped: %d.",
                consortium,
                bucket.dropped,
            )
            bucket.dropped, bucket.said = 0, now
