"""A question in statistics: collect the sites' parts, merge them, answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from google.protobuf.message import DecodeError

from contract import wire_pb2 as wire
from contract.errors import DocumentError, SignatureError
from contract.statistics import answers, forms
from contract.statistics.answers import Part
from contract.work import StatisticsWork
from coordinator.jobs.active import ActiveJob
from coordinator.jobs.states import JobEvent, SiteState
from coordinator.registry.members import Members

SUPPRESSED = ("not-declared", "cohort-too-small")
"""Codes of refusals that rest on how few subjects there are."""


def settle(
    parts: Mapping[str, Sequence[Part]],
    suppressed: Sequence[str],
    listed: Mapping[str, int],
    most_missing_share: float,
) -> tuple[list[Part], list[wire.SitesOfPart]]:
    """Return the merged parts, and of each who is in it and which share of subjects is not.

    ``suppressed`` are sites that gave no part at all since too few subjects are behind it;
    ``listed`` is how many subjects each site's release is listed with, rounded. A group's estimate
    that misses more than ``most_missing_share`` of them is withheld, be it that sites gave no part
    or that they don't declare the group: dropping small sites biases it.
    """
    estimates, who = [], []
    for number, part in enumerate(answers.merge_answers(parts.values())):
        held = [site for site, own in parts.items() if own[number].withheld]
        there = [site for site in parts if site not in held]
        shares = {}
        for group in part.groups:
            lacking = [site for site in there if group not in parts[site][number].groups]
            shares[group] = share_of([*held, *suppressed, *lacking], listed)
        share = share_of([*held, *suppressed], listed)
        estimate, dropped = drop_groups(part, shares, most_missing_share)
        too_much = estimate.withheld and not part.withheld
        if too_much:
            share = min(shares.values())
        estimates.append(estimate)
        partial = [s for s in there if parts[s][number].groups.keys() != part.groups.keys()]
        who.append(
            wire.SitesOfPart(
                answered=there,
                withheld=held,
                missing_share=share,
                partial=partial,
                too_much_missing=too_much,
                too_much_missing_groups=[] if too_much else dropped,
            )
        )
    return estimates, who


def drop_groups(
    part: Part, shares: Mapping[str, float], most_missing_share: float
) -> tuple[Part, list[str]]:
    """Return a merged part without the groups of which too much is missing, and these groups.

    A part of which no group is left is withheld.
    """
    dropped = [group for group in part.groups if shares[group] > most_missing_share]
    if not dropped:
        return part, []
    groups = {group: of for group, of in part.groups.items() if group not in dropped}
    return (replace(part, groups=groups) if groups else Part({}, withheld=True)), dropped


def share_of(without: Sequence[str], listed: Mapping[str, int]) -> float:
    """Return which share of the listed subjects some sites have; by sites, if none is listed."""
    if not any(listed.values()):
        return len(without) / max(len(listed), 1)
    return sum(listed[site] for site in without) / sum(listed.values())


def absent_share(answered: Sequence[str], listed: Mapping[str, int]) -> float:
    """Return which share of all listed subjects is at sites that are not in the answer.

    They are away, too late, refuse or failed: nothing about their subjects is why, so nothing is
    withheld for it, but the estimate is of the others' subjects. 0 if no site is listed.
    """
    gone = [site for site in listed if site not in answered]
    return share_of(gone, listed) if any(listed.values()) else 0.0


class StatisticsJob(ActiveJob):
    """One round trip: every site that the gate lets answer sends its part."""

    keeps_events = False

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._replies: dict[str, wire.Reply] = {}
        self._decoded: dict[str, tuple[list[Part], wire.StatisticsAnswer]] = {}

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
        parts = {site: self._decoded[site][0] for site in answered}
        suppressed = self._suppressed()
        listed = self._listed([*answered, *suppressed])
        estimates, who = settle(parts, suppressed, listed, self.project.most_missing_share)
        result = wire.JobResult(answered=answered, statistics=forms.encode(estimates), parts=who)
        for site in answered:
            message = self._decoded[site][1]
            if message.HasField("account"):
                result.accounts.add(site=site, account=message.account)
        self.say_absent(result)
        self.move(JobEvent.RESULT, result=result.SerializeToString())

    def say_absent(self, result: wire.JobResult) -> None:
        """Say in a result which share of the subjects is at sites that are not in it."""
        result.absent_share = absent_share(result.answered, self._listed(list(self.job.releases)))

    def _suppressed(self) -> list[str]:
        """Return the sites that gave no part at all because of how few their subjects are."""
        return [row.site for row in self.around.store.sites(self.digest) if row.code in SUPPRESSED]

    def _listed(self, sites: Sequence[str]) -> dict[str, int]:
        """Return how many subjects the release of each site is listed with; 0 if it isn't."""
        listed = dict.fromkeys(sites, 0)
        for site, said in Members(self.around.store.engine).releases().items():
            if site in listed:
                wanted = self.job.releases[site]
                for release in wire.Releases.FromString(said).releases:
                    if release.digest == wanted:
                        listed[site] = release.subjects
        return listed

    async def replied(self, site: str, reply: wire.Reply) -> bool:
        """Check a site's part against its receipt and the question, and hold it."""
        if self.sites.get(site) is SiteState.ANSWERED:
            return False
        work = self.job.work
        assert isinstance(work, StatisticsWork)
        try:
            self.check_receipt(site, reply)
            message = wire.StatisticsAnswer.FromString(reply.payload)
            parts = forms.decode(message)
            if not forms.fits(parts, work.ask, self.project):
                raise DocumentError("An answer hasn't the form that was asked for.")
        except (DocumentError, SignatureError, DecodeError) as error:
            self.set_site(site, SiteState.FAILED, "malformed", str(error))
            return False
        self._replies[site], self._decoded[site] = reply, (parts, message)
        self.sites[site] = SiteState.ANSWERED
        if SiteState.WAITING not in self.sites.values():  # else it needn't look at them all
            self.changed.set()
        return False

    def tidy(self) -> None:
        """Do nothing: a question leaves nothing on disk."""

    def failed(self, site: str, failed: wire.TaskFailed) -> None:
        """The site's work gave no answer."""
        self.set_site(site, SiteState.FAILED, failed.code, failed.location)
