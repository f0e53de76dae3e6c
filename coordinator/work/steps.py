"""A question that takes several steps: each is sent to its sites, and waited for."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message

from contract import wire_pb2 as wire
from contract.errors import DocumentError, Refused, SignatureError
from coordinator.jobs.active import POLL_SECONDS
from coordinator.jobs.states import JobEvent, SiteState
from coordinator.work.statistics import StatisticsJob
from foundation.transport import MAX_MESSAGE_BYTES


class SteppedJob(StatisticsJob):
    """A question led through steps. Its state is in memory: after a restart the job ends."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._step = ""
        self._asked: dict[str, wire.ToNode] = {}
        self._said: dict[str, wire.Reply] = {}

    async def run(self) -> None:
        """Offer, wait for the decisions, then lead the sites that accepted through the steps."""
        self.offer_all()
        await self.wait_for_decisions(self.around.settings.statistics_seconds)
        if self.end_early():
            return
        accepted = sorted(self.in_roster_order(SiteState.ACCEPTED))
        if self.too_few(len(accepted)):
            return
        try:
            result = await self.lead(accepted)
        except Refused as refusal:
            if not self.end_early():
                self.move(JobEvent.TOO_FEW, str(refusal))
            return
        except DocumentError as error:
            self.move(JobEvent.ERROR, str(error))
            return
        self.complete(result)
        self.say_absent(result)
        self.around.store.add_replies(self.digest, self._replies)
        self.move(JobEvent.RESULT, result=result.SerializeToString())

    @abstractmethod
    async def lead(self, accepted: list[str]) -> wire.JobResult:
        """Lead the sites through the steps; return the result. ``Refused`` when too few are left.

        ``_replies`` are then those of the sites that are in the result.
        """

    def complete(self, result: wire.JobResult) -> None:
        """Add to a result what the sites' states tell."""

    async def ask(self, step: str, told: Mapping[str, Message]) -> dict[str, wire.Reply]:
        """Send a step to sites; return what those said that answered in time, in order.

        Sites that are told the same share one message: each is as large as all their parts.
        ``DocumentError`` for one that is larger than the link takes.
        """
        self._step = step
        self._said = {}
        made = {
            id(message): wire.ToNode(
                task=wire.Task(
                    job=self.digest,
                    task=step,
                    message_type="step",
                    payload=message.SerializeToString(deterministic=True),
                )
            )
            for message in {id(one): one for one in told.values()}.values()
        }
        for message in made.values():
            _check_size(message, len(told))
        self._asked = {site: made[id(message)] for site, message in told.items()}
        for site in told:
            self._send(site)
        deadline = time.monotonic() + self.around.settings.statistics_seconds
        grace = self.around.settings.offline_grace_seconds
        while not (self.cancelled or self.expired):
            self.changed.clear()
            waiting = [
                s for s in told
                if s not in self._said and self.sites.get(s) is SiteState.ACCEPTED
            ]  # fmt: skip
            # A steward who is to release a site's step has until the job's end.
            held = [s for s in told if s not in self._said and self.sites.get(s) is SiteState.HELD]
            late = time.monotonic() >= deadline
            for site in waiting:
                if late or self.around.sessions.offline_seconds(site) > grace:
                    self.set_site(site, SiteState.ABSENT, "absent", "The site did not answer.")
            if (late or not waiting) and not held:
                return {s: self._said[s] for s in told if s in self._said}
            try:
                left = POLL_SECONDS if late else min(POLL_SECONDS, deadline - time.monotonic())
                await asyncio.wait_for(self.changed.wait(), max(0.0, left))
            except TimeoutError:
                continue
        raise Refused("cancelled", "The job was ended.")

    def _send(self, site: str) -> None:
        self.around.sessions.send(site, self._asked[site])

    # ---- what the link calls -------------------------------------------------------------------

    def site_online(self, site: str) -> None:
        """A site came back: it is asked again what it hasn't answered."""
        super().site_online(site)
        if site in self._asked and site not in self._said:
            self._send(site)

    async def replied(self, site: str, reply: wire.Reply) -> bool:
        """Take a site's answer to the step that is under way."""
        if reply.task != self._step or site not in self._asked or site in self._said:
            return False
        try:
            self.check_receipt(site, reply)
        except (DocumentError, SignatureError) as error:
            self.set_site(site, SiteState.FAILED, "malformed", str(error))
            return False
        self._said[site] = reply
        if self.sites.get(site) is SiteState.HELD:
            self.set_site(site, SiteState.ACCEPTED)
        self.changed.set()
        return False


def _check_size(message: wire.ToNode, sites: int) -> None:
    if message.ByteSize() > MAX_MESSAGE_BYTES:
        raise DocumentError(
            f"A step over {sites} sites has {message.ByteSize() / 1e6:.0f} MB, and a message at "
            f"most {MAX_MESSAGE_BYTES / 1e6:.0f}: ask for fewer coefficients, or fit some of the "
            "sites at once and pool the fits as a meta-analysis does."
        )
