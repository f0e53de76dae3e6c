"""A question whose parts are summed securely: five steps with the sites that accepted it.

The coordinator learns the total, and which sites are in it. A site that drops out of a step is left
out of it, as long as the threshold is kept; a job of which a step fails for too many ends.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from contract import wire_pb2 as wire
from contract.errors import DocumentError, Refused, SignatureError
from contract.secure_aggregation import Server, Terms, encoding
from contract.secure_aggregation.leading import VECTORS, Step, steps
from contract.secure_aggregation.messages import smallest_threshold
from contract.statistics import forms, sums, words
from contract.statistics.answers import Part
from contract.work import StatisticsWork
from coordinator.jobs.states import SiteState
from coordinator.work.statistics import drop_groups
from coordinator.work.steps import SteppedJob

log = logging.getLogger("wardgate.coordinator")


class SecureSumJob(SteppedJob):
    """One secure sum."""

    async def lead(self, accepted: list[str]) -> wire.JobResult:
        """Take the five steps and unmask the total."""
        minimum = max(self.minimum_sites, smallest_threshold(len(accepted)), 2)
        if self._with_small_sites:
            minimum = len(self.job.releases)
        if len(accepted) < minimum:
            raise Refused("too-few-sites", "Too few sites accepted the secure sum.")
        terms = sums.terms(self.digest, self.job, self.project, self.roster, accepted, minimum)
        server = Server(terms)
        names = [p.name for p in terms.participants]
        counted: list[str] = []
        for number, step in enumerate(steps(server), 1):
            said = await self.ask(f"{number}", {names[i]: one for i, one in step.told.items()})
            self._take(terms, step, said)
            if step.name == VECTORS:
                # The step whose reply and receipt stand for the site's part.
                counted = [names[i] for i in step.good]
                self._replies = {site: said[site] for site in counted}
        result = self._result(server, counted)
        for sender, owner in server.wrong_shares():
            log.warning("job %s: a wrong share by %s or %s", self.digest[:12], sender, owner)
        return result

    @property
    def _with_small_sites(self) -> bool:
        return isinstance(self.job.work, StatisticsWork) and self.job.work.small_sites

    def _take(self, terms: Terms, step: Step, said: Mapping[str, wire.Reply]) -> None:
        """Give a step what sites said; who said what isn't sound has failed."""
        place = {p.name: number for number, p in enumerate(terms.participants)}
        for site, reply in said.items():
            try:
                step.take(place[site], encoding.answer(reply.payload, place[site], terms.word))
            except (DocumentError, SignatureError) as error:
                why = f"In the step of the {step.name}: {error}"
                self.set_site(site, SiteState.FAILED, "malformed", why)

    def _result(self, server: Server, counted: list[str]) -> wire.JobResult:
        work = self.job.work
        assert isinstance(work, StatisticsWork)
        merged, absent = words.decode(
            server.total().astype(np.uint64),
            work.ask,
            self.project,
            len(counted),
            by_all=work.small_sites,
        )
        answered = [m.name for m in self.roster.sites if m.name in counted]
        most = self.project.most_missing_share
        estimates, who = settle(merged, absent, answered, self._suppressed(), most)
        result = wire.JobResult(answered=answered, statistics=forms.encode(estimates))
        result.parts.extend(who)
        return result


def settle(
    merged: Sequence[Part],
    absent: Sequence[Mapping[str, int]],
    answered: Sequence[str],
    suppressed: Sequence[str],
    most_missing_share: float,
) -> tuple[list[Part], list[wire.SitesOfPart]]:
    """Return a sum's parts without groups that too many sites lack, and of each who is in it.

    Nobody knows which sites lack a group, so each counts alike: a group is dropped when more than
    ``most_missing_share`` of the sites lack it. ``suppressed`` are sites that are not in the sum
    since too few subjects are behind them.
    """
    estimates, who = [], []
    sites = len(answered) + len(suppressed)
    for part, missing in zip(merged, absent, strict=True):
        shares = {group: (n + len(suppressed)) / sites for group, n in missing.items()}
        estimate, dropped = drop_groups(part, shares, most_missing_share)
        too_much = estimate.withheld and not part.withheld
        estimates.append(estimate)
        who.append(
            wire.SitesOfPart(
                answered=answered,
                unnamed=min(missing.values()),
                missing_share=min(shares.values()),
                too_much_missing=too_much,
                too_much_missing_groups=[] if too_much else dropped,
            )
        )
    return estimates, who
