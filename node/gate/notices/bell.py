"""When a steward is told: at most every so often, again after a failure, and beside all work."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from contract.errors import WardgateError
from node.catalog.inbox import Inbox
from node.gate.ledger import Ledger
from node.gate.notices.message import Waiting, count
from node.gate.notices.sending import send
from node.gate.notices.settings import NoticeSettings

log = logging.getLogger("wardgate.node")

LONGEST_PAUSE = timedelta(hours=1)


@dataclass
class Bell:
    """Tells of what waits and nobody was told of. A failure is logged once and tried again."""

    inbox: Inbox
    ledger: Ledger
    settings: NoticeSettings
    clock: Callable[[], datetime]
    tell: Callable[[Waiting, NoticeSettings, datetime], None] = send
    _next: datetime | None = None
    _failures: int = 0

    def ring(self) -> bool:
        """Tell if it is time and something is new; say whether somebody was told. Blocks."""
        now = self.clock()
        if not self.settings.wanted or (self._next is not None and now < self._next):
            return False
        rows = self.inbox.untold()
        if not rows:
            return False
        try:
            self.tell(count(rows), self.settings, now)
        except WardgateError as problem:
            self._failures += 1
            if self._failures == 1:
                log.warning("the steward can't be told what waits: %s Trying again.", problem)
            pause = timedelta(seconds=self.settings.every_seconds * 2 ** min(self._failures, 10))
            self._next = now + min(pause, LONGEST_PAUSE)
            return False
        self._failures = 0
        self._next = now + timedelta(seconds=self.settings.every_seconds)
        self.ledger.append(
            "steward-told",
            {"number": len(rows), "jobs": sorted({row.job for row in rows})},
            now,
        )
        self.inbox.told(rows, now)
        return True
