"""A model is led over sites that come and go; the answer says whose subjects it is of."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from google.protobuf.message import Message

from contract import wire_pb2 as wire
from contract.errors import DocumentError, Refused
from contract.statistics.steps import Step
from coordinator.jobs.states import SiteState
from coordinator.link.sessions import Session, Sessions
from coordinator.work.models import ModelJob
from coordinator.work.steps import SteppedJob
from foundation.transport import MAX_MESSAGE_BYTES, Peer
from tests.contract.world import SITES
from tests.node.work.walking import MODEL, Sites


class Led(ModelJob):
    """A model whose sites are in memory; some leave at a step, or say something else."""

    def __init__(self, sites: Sites, leaving: Mapping[str, str] | None = None) -> None:
        self.digest, self.job = sites.digest, sites.job
        self.project, self.roster = sites.world.project(), sites.world.roster()
        self.sites = dict.fromkeys(SITES, SiteState.ACCEPTED)
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.left: list[str] = []
        self.small: tuple[list[str], float] = ([], 0.0)
        self._members, self._leaving = sites, dict(leaving or {})
        self._left: set[str] = set()
        self._replies: dict[str, wire.Reply] = {}

    async def ask(self, step: str, told: Mapping[str, Message]) -> dict[str, wire.Reply]:
        """Let the sites take a step."""
        self.asked.append((step, tuple(told)))
        found = {}
        for site, message in told.items():
            if self._leaving.get(site) == step:
                continue
            walk, number = self._members.walks[site], Step.read(step)
            place = walk.at(number, message.SerializeToString(deterministic=True))
            assert isinstance(message, wire.ModelStep)
            part = self._members.part(site, place.beta, place.told, check=message.check)
            walk.answered(place, part)
            signed = self._members.signed(site, number, part)
            found[site] = wire.Reply(task=step, payload=part, receipt=signed.receipt)
        return found

    def say_left(self, site: str) -> None:
        """Note who left in the middle."""
        self.left.append(site)

    def missing(self, there: Sequence[str]) -> tuple[list[str], float]:
        """Say who is too small, as the store of jobs would."""
        return self.small

    def run_it(self) -> wire.JobResult:
        """Lead it."""
        return asyncio.run(self.lead(list(SITES)))


def pooled(sites: Sites, names: tuple[str, ...]) -> list[float]:
    x = np.vstack([sites.rows[s][0] for s in names])
    y = np.concatenate([sites.rows[s][1] for s in names])
    return list(sm.GLM(y, x, family=sm.families.Binomial()).fit(tol=1e-14).params)


def test_nobody_is_told_coefficients_and_the_fit_is_the_pooled_one() -> None:
    sites = Sites()
    led = Led(sites)
    result = led.run_it()
    assert list(result.fit.coefficients) == pytest.approx(pooled(sites, SITES), rel=1e-9)
    assert not {"beta"} & {f.name for f in wire.ModelStep.DESCRIPTOR.fields}
    assert set(led._replies) == set(SITES)


@pytest.mark.parametrize("step", ["step-1", "step-3"])
def test_a_site_that_leaves_in_the_middle_is_left_out_and_named(step: str) -> None:
    sites, last = Sites(), SITES[-1]
    led = Led(sites, {last: step})
    result = led.run_it()
    assert list(result.answered) == list(SITES[:-1])
    assert list(result.fit.coefficients) == pytest.approx(pooled(sites, SITES[:-1]), rel=1e-9)
    assert result.fit.n == sum(len(sites.rows[s][1]) for s in SITES[:-1])
    assert led.left == [last]
    begun = [task for task, _ in led.asked if task == "step-0"]
    assert begun == ["step-0"]  # what was said of the start holds for any sites


def test_sites_may_leave_one_after_the_other() -> None:
    sites = Sites()
    led = Led(sites, {SITES[3]: "step-1", SITES[2]: "step-2.1"})
    result = led.run_it()
    assert list(result.answered) == list(SITES[:2])
    assert list(result.fit.coefficients) == pytest.approx(pooled(sites, SITES[:2]), rel=1e-9)


def test_a_fit_with_robust_errors_ends_with_one_step_more() -> None:
    sites = Sites(model=MODEL.model_copy(update={"robust": "HC0"}))
    led = Led(sites)
    result = led.run_it()
    x = np.vstack([sites.rows[s][0] for s in SITES])
    y = np.concatenate([sites.rows[s][1] for s in SITES])
    expected = sm.GLM(y, x, family=sm.families.Binomial()).fit(tol=1e-14, cov_type="HC0")
    told = np.array(result.fit.robust).reshape(2, 2)
    assert told == pytest.approx(np.asarray(expected.cov_params()), rel=1e-8)
    # Who tells nothing there isn't left out: its residuals would choose who is in the estimate.
    silent = Led(Sites(model=sites.model), {SITES[1]: led.asked[-1][0]})
    with pytest.raises(DocumentError, match=f"{SITES[1]} gave no squared residuals"):
        silent.run_it()


def test_with_too_few_left_there_is_no_fit() -> None:
    led = Led(Sites(minimum=4), {SITES[3]: "step-2"})
    with pytest.raises(Refused, match="Too few sites are left"):
        led.run_it()


def test_a_fit_that_misses_too_many_is_withheld() -> None:
    led = Led(Sites())
    led.small = ([SITES[-1]], 0.04)
    assert led.run_it().fit.n  # the project allows 5 %
    led = Led(Sites())
    led.small = ([SITES[-1]], 0.06)
    with pytest.raises(Refused, match="Too much is missing"):
        led.run_it()


def test_a_site_that_never_began_is_missed_by_nobody() -> None:
    sites = Sites()
    led = Led(sites, {SITES[0]: "step-0"})
    result = led.run_it()
    assert list(result.answered) == list(SITES[1:])
    assert led.left == []
    assert all("." not in task for task, _ in led.asked)


def test_a_site_that_is_back_is_not_asked_again() -> None:
    led = Led(Sites(), {SITES[-1]: "step-1"})
    led.run_it()
    led.site_online(SITES[-1])  # it would be offered the job, for which there is no store here
    assert SITES[-1] not in led.asked[-1][1]


def test_a_part_of_another_form_is_no_part() -> None:
    sites = Sites()

    class Wrong(Led):
        def set_site(self, site: str, state: SiteState, code: str = "", sentence: str = "") -> None:
            self.sites[site] = state

        async def ask(self, step: str, told: Mapping[str, Message]) -> dict[str, wire.Reply]:
            found = await super().ask(step, told)
            if SITES[1] in found:
                found[SITES[1]].payload = b"\x08\x05"
            return found

    led = Wrong(sites)
    result = led.run_it()
    assert SITES[1] not in result.answered
    assert led.sites[SITES[1]] is SiteState.FAILED


def test_a_model_that_no_data_can_fit_says_why() -> None:
    sites = Sites()
    for x, _ in sites.rows.values():
        x[:, 1] = 50
    with pytest.raises(DocumentError):
        Led(sites).run_it()


class Sent(Led):
    """A job whose steps are sent, and which is ended before anybody answers."""

    def __init__(self, sites: Sites) -> None:
        super().__init__(sites)
        self.cancelled, self.changed = True, asyncio.Event()
        self.around: Any = SimpleNamespace(
            sessions=Sessions(),
            settings=SimpleNamespace(statistics_seconds=1.0, offline_grace_seconds=1.0),
        )
        for site in SITES:
            self.around.sessions.add(Session(Peer("node", site, "1", self.job.expires_at)))

    def send(self, told: Mapping[str, Message]) -> list[wire.ToNode]:
        """Return what each site was sent."""
        with pytest.raises(Refused, match="ended"):
            asyncio.run(SteppedJob.ask(self, "step-1", told))
        return [one.queue.get_nowait() for one in self.around.sessions.live.values()]


def test_a_step_is_one_message_however_many_sites_it_goes_to() -> None:
    told = wire.ModelStep(parts=[wire.SignedPart(payload=b"a part")])
    first, *others = Sent(Sites()).send(dict.fromkeys(SITES, told))
    assert first.task.payload == told.SerializeToString()
    assert len(others) == len(SITES) - 1
    assert all(one is first for one in others)
    own = {s: wire.ModelStep(parts=[wire.SignedPart(payload=s.encode())]) for s in SITES}
    sent = Sent(Sites()).send(own)
    assert [one.task.payload for one in sent] == [m.SerializeToString() for m in own.values()]


def test_a_step_that_no_message_holds_is_said_before_it_is_sent() -> None:
    told = wire.ModelStep(parts=[wire.SignedPart(payload=bytes(MAX_MESSAGE_BYTES))])
    sent = Sent(Sites())
    with pytest.raises(DocumentError, match="fewer coefficients"):
        asyncio.run(SteppedJob.ask(sent, "step-1", dict.fromkeys(SITES, told)))
    assert all(one.queue.empty() for one in sent.around.sessions.live.values())
