"""How much of what a coordinator sends is written down, of what no researcher signed anew.

Guarantee: within any hour a consortium's coordinator has a node write down, and answer, at most
twice ``jobs.unsigned_per_hour`` messages, and that number an hour for long, besides what is paid
for: a signed job that is let in for the first time pays for its own steps or rounds (``BOUGHT``),
and keeps what it paid for. What comes beyond is dropped. Of that number, refusals of one
researcher's signed jobs take no more than ``SHARE``, filled by the hour too: who signs jobs without
end silences himself, and neither others nor the work that was let in. It depends on what was sent
and on policy alone. Assumptions: the clock doesn't leap; a restart, which begins anew, isn't the
coordinator's to cause.
Source: Turner 1986, New Directions in Communications (the leaky bucket).
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

log = logging.getLogger("wardgate.node")

BOUGHT: Mapping[str, int] = {
    "statistics": 100,
    "secure model": 500,
    "training": 2000,
    "secure training": 12_000,
}
"""How many messages a newly admitted job pays for, by its kind of work: a secure round has six, a
model's step five where it is summed securely."""
SHARE = 0.25
"""Of a consortium's number, what refusals of one researcher's signed jobs may take."""
MOST_KEPT = 4096
"""Jobs and researchers that are remembered; beyond it the ones that came longest ago are not."""
HOUR = timedelta(hours=1)


@dataclass
class _Bucket:
    """What is left for one consortium or researcher; what was dropped since that was last said."""

    left: float
    since: datetime
    dropped: int = 0
    said: datetime | None = None

    def fill(self, per_hour: float, now: datetime) -> None:
        """Add what time gives, which doesn't pile up beyond an hour's."""
        gained = per_hour * max(timedelta(), now - self.since) / HOUR
        self.since = now
        self.left = max(self.left, min(self.left + gained, float(per_hour)))


class FloodLimit:
    """A bucket for each consortium and for each researcher's refusals, and what jobs paid for."""

    def __init__(self) -> None:
        self._buckets: dict[str, _Bucket] = {}
        self._refused: OrderedDict[tuple[str, str], _Bucket] = OrderedDict()
        self._paid: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._lock = threading.Lock()

    def take(
        self, consortium: str, per_hour: int, now: datetime, job: str = "", researcher: str = ""
    ) -> bool:
        """Say whether one more message may be written down, and count it.

        ``job`` is the one that it is about: what that paid for is used first. ``researcher`` is
        whose signed job is refused.
        """
        with self._lock:
            if left := self._paid.get((consortium, job), 0):
                self._paid[consortium, job] = left - 1
                return True
            bucket = self._buckets.setdefault(consortium, _Bucket(per_hour, now))
            bucket.fill(per_hour, now)
            from_all = [bucket]
            if researcher:
                from_all.append(self._of(consortium, researcher, per_hour, now))
            may = all(each.left >= 1 for each in from_all)
            for each in from_all if may else ():
                each.left -= 1
            bucket.dropped += not may
            self._say(consortium, bucket, now)
            return may

    def pay(self, consortium: str, kind: str, job: str) -> None:
        """Keep what a newly admitted job of a kind of work pays for, for itself."""
        with self._lock:
            self._paid[consortium, job] = BOUGHT[kind]
            if len(self._paid) > MOST_KEPT:
                self._paid.popitem(last=False)

    def _of(self, consortium: str, researcher: str, per_hour: int, now: datetime) -> _Bucket:
        """Return a researcher's own bucket, filled."""
        share, key = per_hour * SHARE, (consortium, researcher)
        bucket = self._refused.setdefault(key, _Bucket(share, now))
        self._refused.move_to_end(key)
        if len(self._refused) > MOST_KEPT:
            self._refused.popitem(last=False)
        bucket.fill(share, now)
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
