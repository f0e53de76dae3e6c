"""Dates as people write them in text, found and moved in the notation that they had.

DICOM's own (DA, DT), ISO 8601, HL7 timestamps, day-month-year and month-day-year with points,
slashes or hyphens, months by name, and the Chinese and Japanese form. A date that can be read in
two ways is read as a date known from the record, if one fits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date, timedelta

_ENGLISH = (
    *("january", "february", "march", "april", "may", "june", "july", "august", "september"),
    *("october", "november", "december"),
)
# German, French, Spanish, Italian, Portuguese, Dutch, Polish and Russian; read, not written.
_OTHER: dict[str, int] = {}
for _number, _names in enumerate(
    (
        "januar jänner janvier enero gennaio janeiro januari styczeń stycznia января",
        "februar février fevrier febrero febbraio fevereiro februari luty lutego февраля",
        "märz maerz mars marzo março maart marzec marca марта",
        "avril abril aprile april kwiecień kwietnia апреля",
        "mai mayo maggio maio mei maj maja мая",
        "juni juin junio giugno junho czerwiec czerwca июня",
        "juli juillet julio luglio julho lipiec lipca июля",
        "august août aout agosto augustus sierpień sierpnia августа",
        "september septembre septiembre settembre setembro wrzesień września сентября",
        "oktober octobre octubre ottobre outubro październik października октября",
        "november novembre noviembre novembro listopad listopada ноября",
        "dezember décembre decembre diciembre dicembre dezembro december grudzień grudnia декабря",
    ),
    1,
):
    for _name in _names.split():
        _OTHER[_name] = _number
_MONTHS = {name: i for i, name in enumerate(_ENGLISH, 1)}
_MONTHS |= {name[:3]: i for i, name in enumerate(_ENGLISH, 1)}
_MONTHS |= {"sept": 9, **{k: v for k, v in _OTHER.items() if k not in _MONTHS}}
_MONTHS |= {"mrz": 3, "okt": 10, "dez": 12, "mai": 5}
_NAMED = "|".join(sorted(map(re.escape, _MONTHS), key=len, reverse=True))

_YEAR = r"(?P<y>(?:19|20)\d\d)"
_TIME = r"(?P<rest>(?:[01]\d|2[0-3])[0-5]\d(?:[0-5]\d(?:\.\d{1,6})?)?(?:[+-]\d{4})?)?"
_PATTERNS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?<![\d.]){_YEAR}(?P<m>0[1-9]|1[0-2])(?P<d>0[1-9]|[12]\d|3[01]){_TIME}(?!\d|\.\d)",
        rf"(?<!\d){_YEAR}(?P<s>[-/._ ])(?P<m>1[0-2]|0?[1-9])(?P=s)"
        r"(?P<d>3[01]|[12]\d|0?[1-9])(?!\d)",
        rf"(?<![\d.])(?P<a>3[01]|[12]\d|0?[1-9])(?P<s>\s?[-/._]\s?|\s)"
        rf"(?P<b>3[01]|[12]\d|0?[1-9])(?P=s){_YEAR}(?!\d)",
        r"(?<![\d.,/-])(?P<a>3[01]|[12]\d|0?[1-9])(?P<s>/)(?P<b>3[01]|[12]\d|0?[1-9])/"
        r"(?P<yy>\d\d)(?![\d/]|[.,-]\d)",
        r"(?<![\d.,/-])(?P<a>3[01]|[12]\d|0[1-9])(?P<s>[.-])(?P<b>3[01]|[12]\d|0[1-9])(?P=s)"
        r"(?P<yy>\d\d)(?![\d/]|[.,-]\d)",
        rf"(?<![\d])(?P<d>3[01]|[12]\d|0?[1-9])(?:st|nd|rd|th)?\.?[\s_/-]*(?:of\s+|de\s+)?"
        rf"(?P<name>{_NAMED})\.?,?[\s_/-]*(?:de\s+)?(?:{_YEAR}|'?(?P<yy>\d\d))(?!\d)",
        rf"(?<!\w)(?P<name>{_NAMED})\.?[\s_/-]*(?P<d>3[01]|[12]\d|0?[1-9])(?:st|nd|rd|th)?"
        rf"(?:,\s*|[\s_/-]+){_YEAR}(?!\d)",
        rf"(?<!\d){_YEAR}[\s_/-]?(?P<name>{_NAMED})\.?[\s_/-]?(?P<d>3[01]|[12]\d|0?[1-9])(?!\d)",
        rf"(?<!\d){_YEAR}\s*[年년]\s*(?P<m>1[0-2]|0?[1-9])\s*[月월]\s*(?P<d>3[01]|[12]\d|0?[1-9])"
        r"\s*[日일号]?",
        rf"(?<![\w])(?P<name>{_NAMED})\.?,?[\s_/-]+{_YEAR}(?!\d|[-/.]\d)",
        rf"(?<!\d)(?P<m>0[1-9]|1[0-2])/{_YEAR}(?!\d|/)",
    )
)
_MAY_HOLD_DATE = re.compile(r"\d\d")


@dataclass(frozen=True)
class FoundDate:
    """A date in a text: where it stands, and which day it is."""

    start: int
    end: int
    day: date
    write: Callable[[date], str | None]
    """Write another day in the same notation; None where that can't be done."""


def find_dates(text: str, known: Collection[date] = ()) -> list[FoundDate]:
    """Return the dates in ``text``, in order, none within another.

    ``known`` are dates of the record, to decide between day-month and month-day.
    """
    if not _MAY_HOLD_DATE.search(text):
        return []
    found: list[FoundDate] = []
    taken: list[tuple[int, int]] = []
    for pattern in _PATTERNS:
        for match in pattern.finditer(text):
            start, end = match.span()
            if any(start < other_end and other < end for other, other_end in taken):
                continue
            one = _read(match, known)
            if one is not None:
                found.append(one)
                taken.append((start, end))
    return sorted(found, key=lambda one: one.start)


def shifted(found: FoundDate, days: int) -> str | None:
    """Return the date moved ``days`` into the past, as it was written; None if it can't be."""
    try:
        return found.write(found.day - timedelta(days=days))
    except OverflowError:
        return None


def _read(match: re.Match[str], known: Collection[date]) -> FoundDate | None:
    groups = match.groupdict()
    if groups.get("y"):
        year = int(groups["y"])
    else:
        short = int(groups["yy"])
        year = short + (2000 if short < 40 else 1900)
    order = {}
    if groups.get("a"):
        order = _order(match, year, known)
        month, day = int(groups[order["m"]]), int(groups[order["d"]])
    else:
        name = groups.get("name")
        month = _MONTHS[name.lower()] if name else int(groups["m"])
        day = int(groups.get("d") or 1)
    try:
        when = date(year, month, day)
    except ValueError:
        return None
    return FoundDate(match.start(), match.end(), when, lambda new: _write(match, order, new))


def _order(match: re.Match[str], year: int, known: Collection[date]) -> dict[str, str]:
    day_first, month_first = {"d": "a", "m": "b"}, {"m": "a", "d": "b"}
    a, b = int(match["a"]), int(match["b"])
    if a > 12:
        return day_first
    if b > 12:
        return month_first
    for order in (day_first, month_first):
        month, day = int(match[order["m"]]), int(match[order["d"]])
        if any((when.year, when.month, when.day) == (year, month, day) for when in known):
            return order
    return month_first if "/" in match["s"] else day_first


def _write(match: re.Match[str], order: dict[str, str], new: date) -> str | None:
    texts: dict[str, str] = {}
    groups = match.groupdict()
    if groups.get("y"):
        texts["y"] = f"{new.year:04}"
    else:
        texts["yy"] = f"{new.year % 100:02}"
    for part, number in (("m", new.month), ("d", new.day)):
        group = order.get(part, part)
        old = groups.get(group)
        if old:
            texts[group] = f"{number:0{len(old)}}"
    if name := groups.get("name"):
        english = _ENGLISH[new.month - 1]
        if _MONTHS[name.lower()] and name.lower() not in _ENGLISH and len(name) > 4:
            return None
        word = english if name.lower() in _ENGLISH and len(name) > 3 else english[:3]
        texts["name"] = word.upper() if name.isupper() else word.title() if name.istitle() else word
    pieces, position, text = [], match.start(), match.string
    for group in sorted(texts, key=match.start):
        pieces += [text[position : match.start(group)], texts[group]]
        position = match.end(group)
    return "".join([*pieces, text[position : match.end()]])
