"""When an archive may be asked."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.hours import DAYS, Hours, time_zone

BERLIN = ZoneInfo("Europe/Berlin")
moments = st.datetimes(
    min_value=datetime(2025, 1, 1), max_value=datetime(2027, 12, 31), timezones=st.just(UTC)
)
minutes = st.integers(0, 1439).map(lambda n: f"{n // 60:02d}:{n % 60:02d}")
windows = st.builds(
    lambda day, start, end: f"{day} {start}-{end}", st.sampled_from(DAYS), minutes, minutes
)


@given(moments)
def test_without_hours_it_is_always_open(now: datetime) -> None:
    assert Hours.parse("").opens_in(now) == timedelta(0)


@pytest.mark.parametrize(
    ("now", "waits"),
    [
        ("2026-11-25 18:59", timedelta(minutes=1)),  # a Wednesday
        ("2026-11-25 19:00", timedelta(0)),
        ("2026-11-26 05:59", timedelta(0)),
        ("2026-11-26 06:00", timedelta(hours=13)),
        ("2026-11-28 05:00", timedelta(0)),  # Friday's window ends on Saturday
        ("2026-11-28 12:00", timedelta(0)),
        ("2026-11-29 23:59", timedelta(0)),
        ("2026-11-30 00:00", timedelta(hours=19)),  # Sunday's ends at midnight
    ],
)
def test_a_window_over_midnight_belongs_to_the_day_it_begins_on(now: str, waits: timedelta) -> None:
    hours = Hours.parse("mon-fri 19:00-06:00, sat-sun 00:00-24:00", BERLIN)
    assert hours.opens_in(datetime.fromisoformat(now).replace(tzinfo=BERLIN)) == waits


def test_days_may_wrap_around_the_week() -> None:
    hours = Hours.parse("sat-mon 10:00-11:00", UTC)
    open_days = [
        day
        for day in range(7)
        if not hours.opens_in(datetime(2026, 11, 23 + day, 10, 30, tzinfo=UTC))
    ]
    assert open_days == [0, 5, 6]


def test_hours_are_civil_time_when_clocks_change() -> None:
    hours = Hours.parse("19:00-06:00", BERLIN)
    # In the night of 2026-03-29 the clock goes from 02:00 to 03:00, on 2026-10-25 from 03:00 back.
    for day, length in (("2026-03-28", 10), ("2026-06-01", 11), ("2026-10-24", 12)):
        start = datetime.fromisoformat(f"{day} 19:00").replace(tzinfo=BERLIN).astimezone(UTC)
        assert hours.opens_in(start - timedelta(seconds=1)) == timedelta(seconds=1)
        end = start + timedelta(hours=length)
        assert hours.opens_in(end - timedelta(seconds=1)) == timedelta(0)
        assert hours.opens_in(end) == timedelta(hours=13)


@given(st.lists(windows, min_size=1, max_size=3).map(", ".join), moments)
def test_after_the_wait_it_is_open_and_not_before(text: str, now: datetime) -> None:
    hours = Hours.parse(text, BERLIN)
    wait = hours.opens_in(now)
    assert wait is not None
    assert wait <= timedelta(days=8)
    assert hours.opens_in(now + wait) == timedelta(0)
    if wait > timedelta(seconds=1):
        assert hours.opens_in(now + wait - timedelta(seconds=1)) == timedelta(seconds=1)


def test_without_a_zone_the_operating_systems_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        ours, theirs = Hours.parse("19:00-06:00"), Hours.parse("19:00-06:00", BERLIN)
        for hour in range(0, 24 * 400, 7):
            now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hour)
            assert ours.opens_in(now) == theirs.opens_in(now)
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text",
    ["19-06", "25:00-26:00", "19:60-20:00", "19:00-24:01", "24:00-06:00", "xyz 19:00-06:00", "x"],
)
def test_what_isnt_hours_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        Hours.parse(text)


@given(st.text(max_size=40))
def test_any_text_is_hours_or_refused(text: str) -> None:
    try:
        hours = Hours.parse(text, UTC)
    except ValueError:
        return
    assert hours.opens_in(datetime(2026, 1, 1, tzinfo=UTC)) is not None


def test_a_zone_is_known_or_refused() -> None:
    assert time_zone("") is None
    assert time_zone("Europe/Berlin") == BERLIN
    for name in ("Europe/Atlantis", "../../etc/passwd", "/etc/localtime"):
        with pytest.raises(ValueError, match="time_zone"):
            time_zone(name)
