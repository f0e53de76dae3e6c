"""A question in statistics: collect the sites' parts, merge them, answer."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from contract import wire_pb2 as wire
from contract.documents import StatisticsWork
from contract.errors import DocumentError, SignatureError
from contract.statistics import answers
from coordinator.jobs.active import ActiveJob
from coordinator.jobs.states import JobEvent, SiteState


class StatisticsJob(ActiveJob):
    """One round trip: every site that the gate lets answer sends its part."""

    async def run(self) -> None:
        """Offer, wait, merge in the roster's order, write the result."""
        self.offer_all()
        await self.wait_for_decisions(self.around.settings.statistics_seconds)
        if self.end_early():
            return
        answered = self.in_roster_order(SiteState.ANSWERED)
        if self.too_few(len(answered)):
            return
        work = self.job.work
        assert isinstance(work, StatisticsWork)
        payloads = {site: payload for site, payload, _ in self.around.store.replies(self.digest)}
        parts = {
            site: answers.decode(wire.StatisticsAnswer.FromString(payloads[site]))
            for site in answered
        }
        merged = answers.merge_answers(parts[site] for site in answered)
        result = wire.JobResult(answered=answered, statistics=answers.encode(merged))
        for number in range(len(work.ask)):
            held = [site for site in answered if parts[site][number].withheld]
            result.parts.add(
                answered=[site for site in answered if site not in held], withheld=held
            )
        self.move(JobEvent.RESULT, result=result.SerializeToString())

    async def replied(self, site: str, reply: wire.Reply) -> None:
        """Check a site's part against its receipt and the question, and keep it."""
        if self.sites.get(site) is SiteState.ANSWERED:
            return
        work = self.job.work
        assert isinstance(work, StatisticsWork)
        try:
            self.check_receipt(site, reply)
            parts = answers.decode(wire.StatisticsAnswer.FromString(reply.payload))
            if not answers.fits(parts, work.ask, self.project):
                raise DocumentError("An answer hasn't the form that was asked for.")
        except (DocumentError, SignatureError, DecodeError) as error:
            self.set_site(site, SiteState.FAILED, "malformed", str(error))
            return
        self.around.store.add_reply(self.digest, site, reply.task, reply.payload, reply.receipt)
        self.sites[site] = SiteState.ANSWERED
        self.event("site", site=site, text=SiteState.ANSWERED)
        self.changed.set()

    def failed(self, site: str, failed: wire.TaskFailed) -> None:
        """The site's work gave no answer."""
        self.set_site(site, SiteState.FAILED, failed.code, failed.location)
