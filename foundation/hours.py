"""The hours of a week in which something may happen: ``mon-fri 19:00-06:00, sat-sun 00:00-24:00``.

A window belongs to the day on which it begins; one that ends at or before its beginning ends on
the next day. Hours are civil time of a zone, so a change of daylight saving time moves nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW = re.compile(
    r"^(?:([a-z]{3})(?:-([a-z]{3}))? +)?(\d\d):(\d\d) *- *(\d\d):(\d\d)$", re.ASCII
)


def time_zone(name: str) -> tzinfo | None:
    """Return the zone called ``name``; None, the operating system's own, for an empty name.

    ``ValueError`` for a zone that isn't known.
    """
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("time_zone is no zone's name, such as Europe/Berlin") from None


@dataclass(frozen=True)
class Window:
    """On these days (0 is Monday), from a minute of the day to another, perhaps of the next."""

    days: frozenset[int]
    start_minute: int
    end_minute: int
    """Past 1440 on the next day."""


@dataclass(frozen=True)
class Hours:
    """Windows of a week; none at all means always."""

    windows: tuple[Window, ...] = ()
    zone: tzinfo | None = None
    """None: the operating system's."""

    @classmethod
    def parse(cls, text: str, zone: tzinfo | None = None) -> Hours:
        """Return the hours that ``text`` says; ``ValueError`` with one line when it says none."""
        parts = [part.strip() for part in text.lower().split(",") if part.strip()]
        return cls(tuple(_window(part) for part in parts), zone)

    def opens_in(self, now: datetime) -> timedelta | None:
        """Return how long to wait at ``now`` (aware) until a window is open: zero inside one.

        None never occurs with windows: each day of the week comes within eight days.
        """
        if not self.windows:
            return timedelta(0)
        now = now.astimezone(UTC)
        today = now.astimezone(self.zone).date()
        waits: list[timedelta] = []
        for offset in range(-1, 9):
            day = today + timedelta(days=offset)
            for window in self.windows:
                if day.weekday() not in window.days:
                    continue
                start = self._instant(day, window.start_minute)
                end = self._instant(day, window.end_minute)
                if start <= now < end:
                    return timedelta(0)
                if now < start < end:
                    waits.append(start - now)
        return min(waits, default=None)

    def _instant(self, day: date, minute: int) -> datetime:
        civil = datetime.combine(day + timedelta(days=minute // 1440), time())
        civil = civil.replace(hour=minute % 1440 // 60, minute=minute % 60)
        # In UTC: between two times of one zone, Python counts civil hours, not elapsed ones.
        local = civil.astimezone() if self.zone is None else civil.replace(tzinfo=self.zone)
        return local.astimezone(UTC)


def _window(text: str) -> Window:
    found = _WINDOW.match(text)
    if found is None:
        raise ValueError("hours are written as `mon-fri 19:00-06:00, sat-sun 00:00-24:00`")
    first, last, *numbers = found.groups()
    start_hour, start_minute, end_hour, end_minute = map(int, numbers)
    start, end = start_hour * 60 + start_minute, end_hour * 60 + end_minute
    if start_minute > 59 or end_minute > 59 or start >= 1440 or end > 1440:
        raise ValueError("hours go from 00:00 to 24:00")
    return Window(_days(first, last), start, end if end > start else end + 1440)


def _days(first: str | None, last: str | None) -> frozenset[int]:
    if first is None:
        return frozenset(range(7))
    if first not in DAYS or (last is not None and last not in DAYS):
        raise ValueError(f"days are {', '.join(DAYS)}")
    start = DAYS.index(first)
    end = DAYS.index(last) if last is not None else start
    return frozenset((start + offset) % 7 for offset in range((end - start) % 7 + 1))
