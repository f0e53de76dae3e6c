"""Dates moved by whole days, so that a subject's intervals stay (PS3.15 section E.3.6)."""

from __future__ import annotations

import re
from datetime import date, timedelta

_DA = re.compile(r"(\d{4})(\d{2})(\d{2})")
_OLD_DA = re.compile(r"(\d{4})\.(\d{2})\.(\d{2})")
_DT = re.compile(r"(\d{8})((?:\d{2}){0,3}(?:\.\d{1,6})?(?:[+-]\d{4})?)")


def shift_date(value: str, days: int) -> str | None:
    """Return a DA (PS3.5 section 6.2; also the old YYYY.MM.DD) moved ``days`` into the past.

    None when it isn't a date: then there is nothing that could be kept.
    """
    found = _DA.fullmatch(value) or _OLD_DA.fullmatch(value)
    if found is None:
        return None
    try:
        moved = date(int(found[1]), int(found[2]), int(found[3])) - timedelta(days=days)
    except (ValueError, OverflowError):
        return None
    return f"{moved.year:04}{moved.month:02}{moved.day:02}"


def shift_datetime(value: str, days: int) -> str | None:
    """Return a DT moved ``days`` into the past, its time of day kept; None without a whole date."""
    found = _DT.fullmatch(value)
    moved = None if found is None else shift_date(found[1], days)
    return None if found is None or moved is None else moved + found[2]
