"""When the link sends an answer: the clock is the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

from foundation.transport import TransportIdentity
from node.config import LinkSettings
from node.gate.gate import Gate, Membership, Sealed
from node.link.client import ConsortiumLink
from node.work.desk import WorkDesk

PERIOD = 0.5


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time passes only when everything waits, or when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        scheduled, ready = cast(Any, self)._scheduled, cast(Any, self)._ready
        if not ready and scheduled:
            self.now = max(self.now, scheduled[0]._when)
        super()._run_once()  # type: ignore[misc]


class Desk:
    """Answers after as much time as the test wants."""

    def __init__(self, clock: Clock, took: float) -> None:
        self.clock, self.took = clock, took
        self.gate = self

    def offered(self, member: object, envelope: bytes) -> Sealed:
        self.clock.now += self.took
        return Gate.heartbeat(cast(Gate, self))

    def period_seconds(self, member: object, envelope: bytes) -> float:
        return PERIOD


def sent_after(took: float, tmp_path: Path) -> float:
    """Return when an answer left, in seconds after its question came."""
    clock = Clock()

    async def answer() -> float:
        with ThreadPoolExecutor(1) as pool:
            link = ConsortiumLink(
                cast(Membership, None), "", TransportIdentity(tmp_path),
                cast(WorkDesk, Desk(clock, took)), LinkSettings(), pool, pool,
            )  # fmt: skip
            sent: list[float] = []
            cast(Any, link)._send = lambda sealed: sent.append(clock.time())
            began = clock.time()
            await cast(Callable[[bytes], Any], cast(Any, link)._offer)(b"question")
        return sent[0] - began

    try:
        return clock.run_until_complete(answer())
    finally:
        clock.close()


def test_answers_leave_at_one_time_whatever_the_work_took(tmp_path: Path) -> None:
    assert {sent_after(took, tmp_path) for took in (0.0, 0.125, 0.25, 0.375)} == {PERIOD}


def test_work_that_overruns_leaves_after_whole_periods(tmp_path: Path) -> None:
    assert {sent_after(took, tmp_path) for took in (0.625, 0.75, 0.875)} == {2 * PERIOD}
