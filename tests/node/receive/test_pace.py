"""A sender may pause, but not trickle."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node.receive.pace import Pace

STEPS = st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 30)), max_size=50)


@given(STEPS)
def test_time_left_is_never_more_than_a_pause_may_take(steps: list[tuple[int, float]]) -> None:
    pace = Pace(20, 1000)
    for size, waited in steps:
        pace.came(size, waited)
        assert pace.left_seconds <= 20


@given(st.lists(st.floats(0, 15), max_size=50))
def test_who_is_quicker_than_the_least_rate_is_always_waited_for(waits: list[float]) -> None:
    pace = Pace(20, 1000)
    for waited in waits:
        pace.came(int(waited * 1000) + 1, waited)
        assert pace.left_seconds >= 5


def test_who_is_slower_for_the_whole_time_has_none_left() -> None:
    pace = Pace(20, 1000)
    for _ in range(40):
        pace.came(100, 1)  # a tenth of the least rate
    assert pace.left_seconds <= 0
    pace.renew()
    assert pace.left_seconds == 20
