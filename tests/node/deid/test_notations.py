"""Dates are found in every notation, and moved in it with every interval kept."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.deid.notations import find_dates, shifted
from tests.corpus.patients import MONTHS, date_notations

_DAYS = st.dates(date(1914, 1, 1), date(2049, 12, 31))
_MONTHS = {
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre "
    "diciembre",
    "it": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre "
    "dicembre",
    "nl": "januari februari maart april mei juni juli augustus september oktober november december",
    "pl": "stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października "
    "listopada grudnia",
    "ru": "января февраля марта апреля мая июня июля августа сентября октября ноября декабря",
}


def _notations(day: date) -> list[str]:
    english = MONTHS[day.month - 1]
    found = [
        *date_notations(day),
        f"{day:%Y}/{day:%m}/{day:%d}", f"{day:%Y.%m.%d}", f"{day:%Y_%m_%d}", f"{day:%d-%m-%Y}",
        f"{day:%d %m %Y}", f"{day:%d}{english[:3].upper()}{day.year}",
        f"{day.day}. {english} {day.year}",
        f"{english[:3]}. {day.day}, {day.year}", f"{day.year}-{english[:3]}-{day:%d}",
        f"{day.day} of {english} {day.year}", f"{day.year}年{day.month}月{day.day}日",
        f"{day.year}년 {day.month}월 {day.day}일", f"{day:%Y%m%d}",
        f"{day:%Y%m%d}134501", f"{day:%Y-%m-%d}T13:45:01",
    ]  # fmt: skip
    for months in _MONTHS.values():
        found.append(f"{day.day} {months.split()[day.month - 1]} {day.year}")
    return found


@given(_DAYS, st.integers(0, 1_400))
def test_a_date_is_found_and_moved_in_its_own_notation(day: date, days: int) -> None:
    moved = day - timedelta(days=days)
    for written in _notations(day):
        text = f"seen {written}, stable"
        (found,) = find_dates(text, {day})
        assert found.day == day, text
        assert text[found.start : found.end] in written
        new = shifted(found, days)
        assert new is not None, text
        if moved.year < 1900:
            continue
        (again,) = find_dates(f"seen {new}, stable", {moved})
        assert again.day == moved, (text, new)


@given(_DAYS, _DAYS, st.integers(1, 5_000))
def test_intervals_between_dates_of_a_text_are_kept(one: date, other: date, days: int) -> None:
    if min(one, other) - timedelta(days=days) < date(1900, 1, 1):
        return
    text = f"from {one:%d.%m.%Y} to {other:%Y-%m-%d}"
    for found in reversed(find_dates(text)):
        text = text[: found.start] + str(shifted(found, days)) + text[found.end :]
    first, second = find_dates(text)
    assert second.day - first.day == other - one


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("03/04/2021", date(2021, 3, 4)),
        ("03.04.2021", date(2021, 4, 3)),
        ("3/4/21", date(2021, 3, 4)),
        ("03.04.56", date(1956, 4, 3)),
        ("25/12/2020", date(2020, 12, 25)),
        ("12/25/2020", date(2020, 12, 25)),
        ("le 1er avril 2020", date(2020, 4, 1)),
        ("15 de marzo de 2020", date(2020, 3, 15)),
        ("dne 15. dubna 2020", date(2020, 4, 15)),
        ("Mar 2020", date(2020, 3, 1)),
        ("03/2020", date(2020, 3, 1)),
        ("2020年3月", date(2020, 3, 1)),
        ("令和2年3月15日", date(2020, 3, 15)),
        ("昭和45年1月2日", date(1970, 1, 2)),
        ("平成元年2月3日", date(1989, 2, 3)),
        ("民國109年3月15日", date(2020, 3, 15)),
    ],
)
def test_a_notation_is_read_as_its_readers_do(text: str, day: date) -> None:
    (found,) = find_dates(text)
    assert found.day == day


def test_a_date_of_the_record_decides_between_day_and_month() -> None:
    assert find_dates("03/04/2021", {date(2021, 4, 3)})[0].day == date(2021, 4, 3)
    assert find_dates("03.04.2021", {date(2021, 3, 4)})[0].day == date(2021, 3, 4)


def test_a_japanese_era_is_found_and_not_written() -> None:
    (found,) = find_dates("令和2年3月15日")
    assert shifted(found, 10) is None


def test_a_date_before_all_time_is_not_written() -> None:
    assert shifted(find_dates("2020-01-01")[0], 10**6) is None


@pytest.mark.parametrize(
    "text",
    [
        "10/20/30 mm", "12.10.08 cm", "1.2.840.20080101.1", "20081399", "99991231", "L4/5",
        "T 12:30",
        "Gleason 3+4=7", "1/2/3", "3 set 12", "2 years ago 12", "may 3", "march of 20",
        "120 kV 2000 ms",
        "Ser 4, Im 12/48", "46000x32914", "v11.2.1", "", "2020", "1/12", "5 10 15",
    ],
)  # fmt: skip
def test_what_is_no_date_is_not_found(text: str) -> None:
    assert find_dates(text) == []


@given(st.text(alphabet="0123456789-./ :年月日janfebmrt年", max_size=40))
def test_found_dates_are_in_order_and_apart(text: str) -> None:
    found = find_dates(text)
    assert all(one.end <= other.start for one, other in pairwise(found))


@pytest.mark.parametrize(
    ("text", "moved"),
    [("2021/3/14", "2020/2/8"), ("14.3.2021", "8.2.2020"), ("03/14/2021", "02/08/2020")],
)
def test_a_date_without_leading_zeros_gets_none(text: str, moved: str) -> None:
    (one,) = find_dates(text)
    assert shifted(one, 400) == moved
