"""A question in statistics: collect the sites' parts, merge them, answer."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from contract import wire_pb2 as wire
from contract.documents import StatisticsWork
from contract.errors import DocumentError, SignatureError
from contract.statistics import answers
from coordinator.jobs.active import ActiveJob
from coordinator.jobs.states import JobEvent, SiteState


class StatisticsJob(ActiveJob):
    """One round trip: every site that the gate lets answer sends its part."""

    keeps_events = False

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._replies: dict[str, wire.Reply] = {}

    async def run(self) -> None:
        """Offer, wait, merge in the roster's order, write replies and result at once.

        Until then a reply is only in memory; a site keeps its own until the job is closed, and
        sends it again to a coordinator that restarted.
        """
        self.offer_all()
        await self.wait_for_decisions(self.around.settings.statistics_seconds)
        self.around.store.add_replies(self.digest, self._replies)
        answered = self.in_roster_order(SiteState.ANSWERED)
        # Stewards may take until the job's end: then those who answered are the answer.
        complete = self.is_enough(len(answered)) and not self.cancelled
        if not complete and self.end_early():
            return
        if self.too_few(len(answered)):
            return
        work = self.job.work
        assert isinstance(work, StatisticsWork)
        said = {
            site: wire.StatisticsAnswer.FromString(self._replies[site].payload) for site in answered
        }
        parts = {site: answers.decode(message) for site, message in said.items()}
        merged = answers.merge_answers(parts[site] for site in answered)
        result = wire.JobResult(answered=answered, statistics=answers.encode(merged))
        for site, message in said.items():
            if message.HasField("account"):
                result.accounts.add(site=site, account=message.account)
        for number in range(len(work.ask)):
            held = [site for site in answered if parts[site][number].withheld]
            result.parts.add(
                answered=[site for site in answered if site not in held], withheld=held
            )
        self.move(JobEvent.RESULT, result=result.SerializeToString())

    async def replied(self, site: str, reply: wire.Reply) -> bool:
        """Check a site's part against its receipt and the question, and hold it."""
        if self.sites.get(site) is SiteState.ANSWERED:
            return False
        work = self.job.work
        assert isinstance(work, StatisticsWork)
        try:
            self.check_receipt(site, reply)
            parts = answers.decode(wire.StatisticsAnswer.FromString(reply.payload))
            if not answers.fits(parts, work.ask, self.project):
                raise DocumentError("An answer hasn't the form that was asked for.")
        except (DocumentError, SignatureError, DecodeError) as error:
            self.set_site(site, SiteState.FAILED, "malformed", str(error))
            return False
        self._replies[site] = reply
        self.sites[site] = SiteState.ANSWERED
        self.changed.set()
        return False

    def tidy(self) -> None:
        """Do nothing: a question leaves nothing on disk."""

    def failed(self, site: str, failed: wire.TaskFailed) -> None:
        """The site's work gave no answer."""
        self.set_site(site, SiteState.FAILED, failed.code, failed.location)
