"""How fast an archive is asked, by a clock of the test's own."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from node.pull.throttle import Pauses, Throttle, TokenBucket


class Clock:
    """Time that passes only while somebody sleeps or works."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds


rates = st.floats(0.1, 1000)
requests = st.lists(st.tuples(st.floats(0, 5), st.floats(0, 500)), min_size=1, max_size=40)


@given(rates, st.floats(0, 100), requests)
def test_no_more_passes_than_the_rate_and_one_burst(
    rate: float, burst: float, asked: list[tuple[float, float]]
) -> None:
    clock = Clock()
    bucket = TokenBucket(rate, clock, clock.sleep, burst)
    passed = 0.0
    for works, tokens in asked:
        clock.now += works
        bucket.take(tokens)
        passed += tokens
        # When `take` returns, what it took is paid off.
        assert passed <= burst + rate * clock.now * (1 + 1e-9) + 1e-6


@given(rates, requests)
def test_it_waits_no_longer_than_needed(rate: float, asked: list[tuple[float, float]]) -> None:
    clock = Clock()
    bucket = TokenBucket(rate, clock, clock.sleep, 0.0)
    for works, tokens in asked:
        clock.now += works
        bucket.take(tokens)
    assert clock.slept <= sum(tokens for _, tokens in asked) / rate * (1 + 1e-9) + 1e-6


def test_no_limit_never_sleeps() -> None:
    clock = Clock()
    bucket = TokenBucket(0, clock, clock.sleep)
    assert bucket.take(1e12) == 0
    assert clock.slept == 0


def test_a_throttle_holds_instances_and_bytes_apart() -> None:
    clock = Clock()
    throttle = Throttle(2, 1000, clock, clock.sleep)
    for _ in range(12):
        throttle.instance()
    assert clock.slept == 5  # twelve, two of them at once
    throttle.received(1000)
    assert clock.slept == 5
    throttle.received(3000)
    assert clock.slept == 8


def test_threads_share_a_bucket() -> None:
    lock = threading.Lock()
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        with lock:
            slept.append(seconds)

    bucket = TokenBucket(10, lambda: 0.0, sleep, 0.0)
    threads = [threading.Thread(target=lambda: bucket.take(10)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # The clock stands still, so the last of them waits for all.
    assert sorted(slept) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]


@given(st.floats(0.01, 10), st.floats(0.01, 1000), st.integers(0, 10_000))
def test_pauses_grow_up_to_the_longest(first: float, longest: float, failures: int) -> None:
    pauses = Pauses(first, longest)
    assert pauses.after(0) == 0
    assert pauses.after(failures) <= pauses.after(failures + 1) <= longest
    assert pauses.after(1) == min(first, longest)
    assert pauses.after(2) == min(2 * first, longest)
