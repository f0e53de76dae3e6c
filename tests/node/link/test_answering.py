"""When the link sends an answer: the clock is the test's own."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from contract import wire_pb2 as wire
from contract.errors import ConfigurationError
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
    """Answers after as much time as the test wants, or fails after it."""

    def __init__(self, clock: Clock, took: float, *, fails: bool = False) -> None:
        self.clock, self.took, self.fails = clock, took, fails
        self.gate = self.steps = self
        self.sessions = {"job"}

    def offered(self, member: object, envelope: bytes) -> Sealed:
        self.clock.now += self.took
        if self.fails:
            raise RuntimeError
        return Gate.heartbeat(cast(Gate, self))

    def task(self, member: object, task: object, fetch: object) -> Sealed:
        return self.offered(member, b"")

    def decision(self, *_: object) -> Sealed:
        return Gate.heartbeat(cast(Gate, self))

    failure = decision

    def period_seconds(self, *_: object) -> float:
        return PERIOD


class Untimed(Desk):
    """Can't tell when an answer leaves, as where the policy can't be read."""

    def period_seconds(self, *_: object) -> float:
        raise ConfigurationError("The policy can't be read.")

    def offered(self, member: object, envelope: bytes) -> Sealed:
        raise AssertionError("decided")

    def decision(self, *_: object) -> Sealed:
        raise AssertionError("decided")


def sent_after(
    took: float,
    tmp_path: Path,
    *,
    fails: bool = False,
    what: str = "_offer",
    sent: object = b"q",
    kind: type[Desk] = Desk,
) -> float:
    """Return when an answer left, in seconds after its question or task came."""
    clock = Clock()

    async def answer() -> float:
        with ThreadPoolExecutor(1) as pool:
            link = ConsortiumLink(
                cast(Membership, None), "", TransportIdentity(tmp_path),
                cast(WorkDesk, kind(clock, took, fails=fails)), LinkSettings(), pool, pool,
            )  # fmt: skip
            times: list[float] = []
            cast(Any, link)._member = SimpleNamespace(consortium="opt")
            cast(Any, link)._send = lambda sealed: times.append(clock.time())
            began = clock.time()
            await getattr(link, what)(sent)
        return times[0] - began

    try:
        return clock.run_until_complete(answer())
    finally:
        clock.close()


def test_answers_leave_at_one_time_whatever_the_work_took(tmp_path: Path) -> None:
    assert {sent_after(took, tmp_path) for took in (0.0, 0.125, 0.25, 0.375)} == {PERIOD}


def test_nothing_is_decided_of_which_the_time_of_leaving_cannot_be_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        sent_after(0.0, tmp_path, kind=Untimed)


def test_work_that_overruns_leaves_after_whole_periods(tmp_path: Path) -> None:
    assert {sent_after(took, tmp_path) for took in (0.625, 0.75, 0.875)} == {2 * PERIOD}


@pytest.mark.parametrize(
    ("what", "sent"), [("_offer", b"q"), ("_task", wire.Task(job="job", task="1"))]
)
def test_what_fails_unexpectedly_leaves_at_the_same_time(
    tmp_path: Path, what: str, sent: object
) -> None:
    for fails in (False, True):
        for took, periods in ((0.0, 1), (0.375, 1), (0.625, 2)):
            after = sent_after(took, tmp_path, fails=fails, what=what, sent=sent)
            assert after == periods * PERIOD
