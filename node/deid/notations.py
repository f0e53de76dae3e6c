"""Dates as people write them in text, found and moved in the notation that they had.

DICOM's own (DA, DT), ISO 8601, HL7 timestamps, day-month-year and month-day-year with points,
slashes or hyphens, months by name in a dozen languages, and the Chinese, Japanese and Korean form;
years of a Japanese era and of the Republic of China are found, not written. A date that can be read
in two ways is read as a date known from the record, if one fits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date, timedelta

_LANGUAGES = tuple(
    tuple(row.split())
    for row in (
        "january february march april may june july august september october november december",
        "januar februar märz april mai juni juli august september oktober november dezember",
        "jänner feber maerz april mai juni juli august september oktober november dezember",
        "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
        "janvier fevrier mars avril mai juin juillet aout septembre octobre novembre decembre",
        "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
        "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre "
        "dicembre",
        "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
        "januari februari maart april mei juni juli augustus september oktober november december",
        "januari februari mars april maj juni juli augusti september oktober november december",
        "stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października "
        "listopada grudnia",
        "styczeń luty marzec kwiecień maj czerwiec lipiec sierpień wrzesień październik listopad "
        "grudzień",
        "ledna února března dubna května června července srpna září října listopadu prosince",
        "января февраля марта апреля мая июня июля августа сентября октября ноября декабря",
        "январь февраль март апрель май июнь июль август сентябрь октябрь ноябрь декабрь",
        "jan feb mar apr may jun jul aug sep oct nov dec",
        "jan feb mar apr may jun jul aug sept oct nov dec",
        "jan feb mrz apr mai jun jul aug sep okt nov dez",
        "janv févr mars avr mai juin juil août sept oct nov déc",
        "ene feb mar abr may jun jul ago sep oct nov dic",
        "янв фев мар апр мая июн июл авг сен окт ноя дек",
    )
)
"""The months of English, German, French, Spanish, Italian, Portuguese, Dutch, Swedish, Polish,
Czech and Russian, and as they are abbreviated; a name that several have is the first one's."""
_ALIKE = {"may": 15}
"""What is a name in full and an abbreviation is taken for an abbreviation."""
_NOT_READ = frozenset({"ago"})
"""An English word."""
_MONTHS: dict[str, tuple[int, int]] = {}
for _row, _names in enumerate(_LANGUAGES):
    for _number, _name in enumerate(_names, 1):
        if _name in _NOT_READ:
            continue
        _MONTHS.setdefault(_name, (_ALIKE.get(_name, _row), _number))
_NAMED = "|".join(sorted(map(re.escape, _MONTHS), key=len, reverse=True))
_ERAS = "明治|大正|昭和|平成|令和|民國|民国"

_YEAR = r"(?P<y>(?:19|20)\d\d)"
_MONTH, _DAY = r"(?:1[0-2]|0?[1-9])", r"(?:3[01]|[12]\d|0?[1-9])"
_TIME = r"(?P<rest>(?:[01]\d|2[0-3])[0-5]\d(?:[0-5]\d(?:\.\d{1,6})?)?(?:[+-]\d{4})?)?"
_NO_MEASURE = r"(?![\d/]|[.,-]\d|\s?(?:mm|cm|ml|mg|°|deg|%))"
_PATTERNS = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        (
            "year",
            rf"(?<![\d.]){_YEAR}(?P<m>0[1-9]|1[0-2])(?P<d>0[1-9]|[12]\d|3[01]){_TIME}(?!\d|\.\d)",
        ),
        ("year", rf"(?<!\d){_YEAR}(?P<s>[-/._ ])(?P<m>{_MONTH})(?P=s)(?P<d>{_DAY})(?!\d)"),
        (
            "year",
            rf"(?<![\d.])(?P<a>{_DAY})(?P<s>\s?[-/._]\s?|\s)(?P<b>{_DAY})(?P=s){_YEAR}(?!\d)",
        ),
        (
            "short",
            rf"(?<![\d.,/-])(?P<a>{_DAY})(?P<s>/)(?P<b>{_DAY})/(?P<yy>\d\d){_NO_MEASURE}",
        ),
        (
            "short",
            r"(?<![\d.,/-])(?P<a>3[01]|[12]\d|0[1-9])(?P<s>[.-])(?P<b>3[01]|[12]\d|0[1-9])(?P=s)"
            rf"(?P<yy>\d\d){_NO_MEASURE}",
        ),
        (
            "name",
            rf"(?<!\d)(?P<d>{_DAY})(?:st|nd|rd|th|er)?\.?[\s_/-]*(?:of\s+|de\s+)?"
            rf"(?P<name>{_NAMED})\.?,?[\s_/-]*(?:de\s+)?(?:{_YEAR}|'?(?P<yy>\d\d))(?!\d)",
        ),
        (
            "name",
            rf"(?<![^\W_])(?P<name>{_NAMED})\.?[\s_/-]*(?P<d>{_DAY})(?:st|nd|rd|th)?"
            rf"(?:,\s*|[\s_/-]+){_YEAR}(?!\d)",
        ),
        (
            "name",
            rf"(?<!\d){_YEAR}[\s_/-]?(?P<name>{_NAMED})\.?[\s_/-]?(?P<d>{_DAY})(?!\d)",
        ),
        (
            "sign",
            rf"(?<!\d){_YEAR}\s*[年년]\s*(?P<m>{_MONTH})\s*[月월](?:\s*(?P<d>{_DAY})\s*[日일号號]?)?",
        ),
        (
            "sign",
            rf"(?P<era>{_ERAS})\s?(?P<n>\d{{1,3}}|元)年\s?(?P<m>{_MONTH})月(?:\s?(?P<d>{_DAY})日)?",
        ),
        ("name", rf"(?<![^\W_])(?P<name>{_NAMED})\.?,?[\s_/-]+{_YEAR}(?!\d|[-/.]\d)"),
        ("year", rf"(?<!\d)(?P<m>0[1-9]|1[0-2])/{_YEAR}(?!\d|/)"),
        ("year", rf"(?<![\d.-]){_YEAR}-(?P<m>0[1-9]|1[0-2])(?![\d-]|\.\d)"),
    )
)
_ERA_BEGINS = {
    **{"明治": 1868, "大正": 1912, "昭和": 1926, "平成": 1989, "令和": 2019},
    **dict.fromkeys(("民國", "民国"), 1912),
}
_HAS_YEAR = re.compile(r"(?:19|20)\d\d")
_HAS_SHORT = re.compile(r"\d[-./]\d\d?[-./]\d\d")
_COMPACT_YEARS = range(1910, 2050)
"""Eight digits of another year are a code: 20721001 is a disease in SNOMED CT."""
_HAS_DIGIT = re.compile(r"\d")
_LETTERS = re.compile(r"[^\W\d_]{3,}")


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
    kinds = _kinds(text)
    if not kinds:
        return []
    found: list[FoundDate] = []
    taken = bytearray(len(text))
    for kind, pattern in _PATTERNS:
        if kind not in kinds:
            continue
        for match in pattern.finditer(text):
            start, end = match.span()
            if any(taken[start:end]):
                continue
            one = _read(match, known)
            if one is not None:
                found.append(one)
                taken[start:end] = b"\1" * (end - start)
    return sorted(found, key=lambda one: one.start)


def _kinds(text: str) -> set[str]:
    """Return which kinds of patterns can match at all; nearly always none can."""
    kinds: set[str] = set()
    if not _HAS_DIGIT.search(text):
        return kinds
    if _HAS_YEAR.search(text):
        kinds.add("year")
    if _HAS_SHORT.search(text):
        kinds.add("short")
    if any(word in _MONTHS for word in _LETTERS.findall(text.lower())):
        kinds.add("name")
    if not text.isascii() and ("年" in text or "년" in text):
        kinds.add("sign")
    return kinds


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
    elif groups.get("era"):
        number = 1 if groups["n"] == "元" else int(groups["n"])
        year = _ERA_BEGINS[groups["era"]] + number - 1
    else:
        short = int(groups["yy"])
        year = short + (2000 if short < 40 else 1900)
    if "rest" in groups and year not in _COMPACT_YEARS:
        return None
    order = {}
    if groups.get("a"):
        order = _order(match, year, known)
        month, day = int(groups[order["m"]]), int(groups[order["d"]])
    else:
        name = groups.get("name")
        month = _MONTHS[name.lower()][1] if name else int(groups["m"])
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
    if groups.get("era"):
        return None
    if groups.get("y"):
        texts["y"] = f"{new.year:04}"
    else:
        texts["yy"] = f"{new.year % 100:02}"
    # 2021/3/14 has no leading zeros, though a day of two digits doesn't show it.
    numbers = [groups.get(order.get(part, part)) or "" for part in "md"]
    width = 1 if any(len(number) == 1 for number in numbers) else 2
    for part, number in (("m", new.month), ("d", new.day)):
        group = order.get(part, part)
        old = groups.get(group)
        if old:
            texts[group] = f"{number:0{min(len(old), width)}}"
    if name := groups.get("name"):
        word = _LANGUAGES[_MONTHS[name.lower()][0]][new.month - 1]
        texts["name"] = word.upper() if name.isupper() else word.title() if name.istitle() else word
    pieces, position, text = [], match.start(), match.string
    for group in sorted(texts, key=match.start):
        pieces += [text[position : match.start(group)], texts[group]]
        position = match.end(group)
    return "".join([*pieces, text[position : match.end()]])
