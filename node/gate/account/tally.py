"""What was spent, counted in memory, so that a spend's cost doesn't grow with those before it.

Rows are only ever added to the table. So their number, read under the lock that a spender holds,
says whether what was counted is all; otherwise all is counted anew.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from sqlalchemy import Connection, func, select

from foundation.database import aware
from node.catalog import schema
from node.gate.account import events
from node.gate.account.events import Event

YEAR = timedelta(days=365)


@dataclass(frozen=True)
class Payer:
    """The project that spends, in its consortium."""

    consortium: str
    project: str


class Tally:
    """How often each event was spent on a pool: by each payer ever, and by all within a year."""

    def __init__(self, pool: str) -> None:
        self._pool = pool
        self._forget()

    def _forget(self) -> None:
        self._rows = 0
        self._times: list[datetime] = []
        self._events: list[Event] = []
        self._ever: defaultdict[Payer, Counter[Event]] = defaultdict(Counter)
        self._releases: set[str] = set()
        self._year: Counter[Event] = Counter()
        self._begin = 0
        """The first of ``_events`` that ``_year`` counts."""

    def read_on(self, connection: Connection) -> None:
        """Count what the table holds, unless that is counted already."""
        table = schema.privacy_spends
        held = select(func.count()).where(table.c.pool == self._pool)
        if int(connection.execute(held).scalar_one()) == self._rows:
            return
        self._forget()
        query = (
            select(
                table.c.consortium, table.c.project, table.c.release, table.c.event,
                table.c.spent_at,
            ).where(table.c.pool == self._pool).order_by(table.c.spent_at)
        )  # fmt: skip
        for row in connection.execute(query):
            event = _parsed(row.event)
            self._rows += 1
            self._times.append(aware(row.spent_at))
            self._events.append(event)
            self._ever[Payer(row.consortium, row.project)][event] += 1
            self._releases.add(row.release)
        self._year = Counter(self._events)

    def add(self, payer: Payer, release: str, spent: Iterable[Event], now: datetime) -> None:
        """Count what was committed just now."""
        for event in spent:
            place = bisect_right(self._times, now)
            self._times.insert(place, now)
            self._events.insert(place, event)
            self._rows += 1
            self._ever[payer][event] += 1
            if place >= self._begin:
                self._year[event] += 1
            else:
                self._begin += 1
        self._releases.add(release)

    def ever(self, payer: Payer) -> Mapping[Event, int]:
        """Return what a project spent."""
        return self._ever.get(payer, {})

    def within_a_year(self, now: datetime) -> Mapping[Event, int]:
        """Return what all projects spent within the 365 days before ``now``."""
        begin = bisect_right(self._times, now - YEAR)
        for event in self._events[self._begin : begin]:
            self._year[event] -= 1
        for event in self._events[begin : self._begin]:
            self._year[event] += 1  # the clock went back
        self._begin = begin
        return self._year

    @property
    def releases(self) -> frozenset[str]:
        """The releases that were spent on."""
        return frozenset(self._releases)


@lru_cache(maxsize=4096)
def _parsed(written: str) -> Event:
    return events.parse(written)
