"""A question whose parts are summed securely: five steps with the sites that accepted it.

The coordinator learns the total, and which sites are in it. A site that drops out of a step is left
out of it, as long as the threshold is kept; a job of which a step fails for too many ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from contract import wire_pb2 as wire
from contract.documents import StatisticsWork
from contract.errors import DocumentError, Refused, SignatureError
from contract.secure_aggregation import Server, Terms, encoding
from contract.secure_aggregation.encoding import Answer
from contract.secure_aggregation.messages import (
    Advertisement,
    Confirmation,
    MaskedVector,
    Revealed,
    smallest_threshold,
)
from contract.statistics import answers, sums, words
from coordinator.jobs.active import POLL_SECONDS
from coordinator.jobs.states import JobEvent, SiteState
from coordinator.work.statistics import StatisticsJob

VECTOR_STEP = "3"
"""The step whose reply and receipt stand for the site's part."""


class SecureSumJob(StatisticsJob):
    """One secure sum. Its state is in memory: after a restart the job ends, and is asked again."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._step = ""
        self._asked: dict[str, wire.Task] = {}
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
            total, counted = await self._sum(accepted)
        except Refused as refusal:
            if not self.end_early():
                self.move(JobEvent.TOO_FEW, str(refusal))
            return
        except DocumentError as error:
            self.move(JobEvent.ERROR, str(error))
            return
        self._finish(total, counted)

    async def _sum(self, accepted: list[str]) -> tuple[Any, list[str]]:
        minimum = max(self.minimum_sites, smallest_threshold(len(accepted)), 2)
        if len(accepted) < minimum:
            raise Refused("too-few-sites", "Too few sites accepted the secure sum.")
        terms = sums.terms(self.digest, self.job, self.project, self.roster, accepted, minimum)
        server = Server(terms)
        names = [p.name for p in terms.participants]
        place = {name: number for number, name in enumerate(names)}
        begin = wire.SumStep(terms=wire.SumTerms(sites=names, minimum=minimum))
        said = await self._ask("1", dict.fromkeys(names, begin))
        self._take(terms, said, place, Advertisement, lambda _, a: server.advertised(a))
        told = server.introductions()
        said = await self._ask(
            "2", {names[i]: encoding.encode_introduction(told[i]) for i in sorted(told)}
        )
        self._take(terms, said, place, tuple, server.shared)
        deliveries = server.deliveries()
        said = await self._ask(
            VECTOR_STEP,
            {
                names[i]: wire.SumStep(shares=encoding.encode_shares(deliveries[i]))
                for i in sorted(deliveries)
            },
        )
        came = self._take(terms, said, place, MaskedVector, lambda _, a: server.masked(a))
        self._replies = {site: said[site] for site in came}
        survivors = server.survivors()
        said = await self._ask(
            "4", {names[i]: encoding.encode_survivors(survivors[i]) for i in sorted(survivors)}
        )
        confirmed = self._take(terms, said, place, Confirmation, lambda _, a: server.confirmed(a))
        everyone = encoding.encode_confirmations(server.confirmations())
        said = await self._ask("5", dict.fromkeys(confirmed, everyone))
        self._take(terms, said, place, Revealed, lambda _, a: server.revealed(a))
        return server.total(), came

    def _take(
        self,
        terms: Terms,
        said: Mapping[str, wire.Reply],
        place: Mapping[str, int],
        kind: type,
        take: Callable[[int, Any], object],
    ) -> list[str]:
        """Give the server what sites said; return those whose answer was as it should be."""
        good = []
        for site, reply in said.items():
            try:
                answer: Answer = encoding.answer(reply.payload, place[site], terms.word)
                if not isinstance(answer, kind):
                    raise DocumentError("A site answered another step.")
                take(place[site], answer)
            except (DocumentError, SignatureError) as error:
                self.set_site(site, SiteState.FAILED, "malformed", str(error))
                continue
            good.append(site)
        return good

    async def _ask(self, step: str, told: Mapping[str, wire.SumStep]) -> dict[str, wire.Reply]:
        """Send a step to sites; return what those said that answered in time, in roster order."""
        self._step = step
        self._said = {}
        self._asked = {
            site: wire.Task(
                job=self.digest,
                task=step,
                message_type="sum",
                payload=message.SerializeToString(deterministic=True),
            )
            for site, message in told.items()
        }
        for site in told:
            self._send(site)
        deadline = time.monotonic() + self.around.settings.statistics_seconds
        grace = self.around.settings.offline_grace_seconds
        while not (self.cancelled or self.expired):
            self.changed.clear()
            open_sites = [
                s for s in told
                if s not in self._said and self.sites.get(s) is SiteState.ACCEPTED
            ]  # fmt: skip
            late = time.monotonic() >= deadline
            for site in open_sites:
                if late or self.around.sessions.offline_seconds(site) > grace:
                    self.set_site(site, SiteState.ABSENT, "absent", "The site did not answer.")
            if late or not open_sites:
                break
            try:
                await asyncio.wait_for(
                    self.changed.wait(),
                    max(0.0, min(POLL_SECONDS, deadline - time.monotonic())),
                )
            except TimeoutError:
                continue
        if self.cancelled or self.expired:
            raise Refused("cancelled", "The job was ended.")
        return {s: self._said[s] for s in told if s in self._said}

    def _send(self, site: str) -> None:
        self.around.sessions.send(site, wire.ToNode(task=self._asked[site]))

    def _finish(self, total: Any, counted: list[str]) -> None:
        work = self.job.work
        assert isinstance(work, StatisticsWork)
        for site in counted:
            self.sites[site] = SiteState.ANSWERED
        self.around.store.add_replies(self.digest, self._replies)
        answered = self.in_roster_order(SiteState.ANSWERED)
        merged, absent = words.decode(total, work.ask, self.project, len(counted))
        result = wire.JobResult(answered=answered, statistics=answers.encode(merged))
        for number in range(len(work.ask)):
            result.parts.add(answered=answered, unnamed=absent[number])
        self.move(JobEvent.RESULT, result=result.SerializeToString())

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
        self.changed.set()
        return False
