"""FHIR's dates (R4, section 2.24.0.1: date, dateTime, instant), which may be parts of one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from node.intake.clinical import Person

_DATE_TIME = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.\d{1,12})?)?"
    r"(?:Z|[+-]\d\d:\d\d)?)?)?)?"
)


@dataclass(frozen=True, slots=True)
class PartialDate:
    """A date as written: a year, a month of it, or a whole day, which may have a time."""

    time: datetime
    """As the clock at the hospital showed it; of a year or month, its middle."""
    is_whole: bool
    earliest: date
    """The day, or the first day of the year or month."""

    @property
    def day(self) -> date:
        """The day, or the middle day."""
        return self.time.date()


def parse(value: object) -> PartialDate | None:
    """Return a date, None for what is none. A leap second is the second before."""
    found = _DATE_TIME.fullmatch(value) if isinstance(value, str) and len(value) < 48 else None
    if found is None:
        return None
    year, month, day, hour, minute, second = (
        int(part) if part else None for part in found.groups()
    )
    if year is None:
        return None
    try:
        if month is None:
            return PartialDate(datetime(year, 7, 2), False, date(year, 1, 1))
        if day is None:
            return PartialDate(datetime(year, month, 15), False, date(year, month, 1))
        time = datetime(year, month, day, hour or 0, minute or 0, min(second or 0, 59))
        return PartialDate(time, True, time.date())
    except ValueError:
        return None


def moved(value: object, person: Person) -> tuple[datetime | None, str]:
    """Return a date's time, moved, and "", or None and the rule by which it is left out.

    A year or a month isn't kept: as a time it would be wrong by months.
    """
    if value is None:
        return None, ""
    parsed = parse(value)
    if parsed is None:
        return None, "date-unreadable"
    rule = person.refuses(parsed.day)
    if rule:
        return None, rule
    if not parsed.is_whole:
        return None, "date-partial"
    return parsed.time - timedelta(days=person.days), ""
