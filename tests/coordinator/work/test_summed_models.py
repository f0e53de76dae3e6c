"""A model is led by secure sums over sites that leave, at first or in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import statsmodels.api as sm
from google.protobuf.message import Message

from contract import wire_pb2 as wire
from contract.errors import DocumentError, Refused
from contract.statistics import summed_steps
from contract.statistics.summed_steps import SumTask
from coordinator.jobs.states import SiteState
from coordinator.work import summed_models
from coordinator.work.summed_models import SummedModelJob
from tests.contract.world import SITES
from tests.node.work.summing import LOGISTIC, Summed

COX = ("Surv(days, ill) ~ age + arm", "cox")


class Led(SummedModelJob):
    """A model whose sites are in memory; some are silent from a task on, or say something else."""

    def __init__(self, sites: Summed, silent: Mapping[str, str] | None = None) -> None:
        self.digest, self.job = sites.digest, sites.job
        self.project, self.roster = sites.project, sites.world.roster()
        self.sites = dict.fromkeys(SITES, SiteState.ACCEPTED)
        self.asked: list[str] = []
        self.failed_sites: dict[str, str] = {}
        self.records: list[bytes] = []
        self.cancelled = False
        self._members, self._silent = sites, dict(silent or {})
        self._left: set[str] = set()
        self._replies: dict[str, wire.Reply] = {}

    @property
    def expired(self) -> bool:
        """It has all the time that it needs."""
        return False

    async def ask(self, step: str, told: Mapping[str, Message]) -> dict[str, wire.Reply]:
        """Let the sites take a phase."""
        self.asked.append(step)
        found = {}
        for site, message in told.items():
            if step == self._silent.get(site) or site in self.failed_sites:
                self.failed_sites[site] = "absent"
                continue
            assert isinstance(message, wire.SumStep)
            self.records.append(message.terms.before.SerializeToString())
            try:
                said = self._members.tell(site, SumTask.read(step), message)
            except (DocumentError, Refused) as error:
                self.failed_sites[site] = str(error)
                continue
            receipt = self._members.signed(site, step, said).receipt
            found[site] = wire.Reply(task=step, payload=said, receipt=receipt)
        return found

    def set_site(self, site: str, state: SiteState, code: str = "", sentence: str = "") -> None:
        """Note who said what isn't sound."""
        self.failed_sites[site] = sentence

    def missing(self, there: Sequence[str]) -> tuple[list[str], float]:
        """Nobody is too small."""
        return [], 0.0

    def run_it(self) -> wire.JobResult:
        """Lead it."""
        return asyncio.run(self.lead(list(SITES)))


def pooled(sites: Summed, names: Sequence[str]) -> list[float]:
    rows = [sites.rows[name] for name in names]
    x = np.vstack([np.column_stack([np.ones(len(r["age"])), r["age"], r["arm"]]) for r in rows])
    y = np.concatenate([r["ill"] for r in rows])
    return list(sm.GLM(y, x, family=sm.families.Binomial()).fit(tol=1e-14).params)


def test_the_fit_is_the_pooled_one_and_stands_on_each_sites_masked_vector() -> None:
    sites = Summed(LOGISTIC)
    led = Led(sites)
    result = led.run_it()
    assert list(result.fit.coefficients) == pytest.approx(pooled(sites, SITES), rel=1e-9)
    assert list(result.answered) == list(SITES)
    assert {wire.SumReply.FromString(r.payload).WhichOneof("step") for r in
            led._replies.values()} == {"words"}  # fmt: skip
    assert set(led._replies) == set(SITES)


@pytest.mark.parametrize("phase", [1, 2, 3])
def test_who_leaves_the_first_sum_is_left_out(phase: int) -> None:
    sites = Summed(LOGISTIC)
    led = Led(sites, {SITES[2]: f"sum-0.0.{phase}"})
    result = led.run_it()
    others = [site for site in SITES if site != SITES[2]]
    assert list(result.fit.coefficients) == pytest.approx(pooled(sites, others), rel=1e-9)
    assert list(result.answered) == others
    assert "sum-1.1.1" in led.asked and "sum-1.0.1" not in led.asked


@pytest.mark.parametrize("task", ["sum-0.0.4", "sum-0.0.5", "sum-1.0.1", "sum-2.0.3"])
def test_who_leaves_later_ends_the_fit_by_name(task: str) -> None:
    with pytest.raises(Refused, match=f"{SITES[1]} left in the middle.*ask again") as found:
        Led(Summed(LOGISTIC), {SITES[1]: task}).run_it()
    assert found.value.code == "too-few-sites"


def test_who_leaves_before_the_checks_costs_the_checks_alone() -> None:
    sites = Summed(COX)
    whole = Led(sites)
    result = whole.run_it()
    assert len(result.fit.proportionality) == 3
    last = whole.asked[-5]
    again = Led(Summed(COX, world=sites.world), {SITES[0]: last}).run_it()
    assert again.fit.coefficients == pytest.approx(list(result.fit.coefficients), rel=1e-12)
    assert not again.fit.proportionality


def test_a_fit_with_too_few_sites_left_has_none() -> None:
    with pytest.raises(Refused):
        Led(Summed(LOGISTIC, minimum=4), {SITES[0]: "sum-0.0.1"}).run_it()


def test_what_the_link_does_not_carry_is_said_before_anything_is_summed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    led = Led(Summed(LOGISTIC))
    largest = summed_steps.most_record_bytes(led._members.model, 3, len(SITES))
    led.run_it()
    told = max(len(record) for record in led.records)
    assert told < largest
    monkeypatch.setattr(summed_models, "MAX_MESSAGE_BYTES", largest - 1)
    again = Led(Summed(LOGISTIC))
    with pytest.raises(DocumentError, match="larger than the link carries"):
        again.run_it()
    assert not again.asked
