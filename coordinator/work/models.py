"""A model fitted over sites: their parts of each step go back to all of them, and are merged here.

The coordinator works out the same coefficients as the sites do, to know when the fit has ended; it
tells them to nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.message import DecodeError

from contract import wire_pb2 as wire
from contract.errors import DocumentError, Refused
from contract.models import Model
from contract.statistics import ending, models, steps
from contract.statistics.ending import Ending
from contract.statistics.fit import Fit
from contract.statistics.fitting import Fitting
from contract.statistics.least_squares import Factor
from contract.statistics.regression import Sums
from contract.statistics.steps import Step
from contract.work import StatisticsWork
from coordinator.jobs.states import SiteState
from coordinator.work.statistics import SUPPRESSED, share_of
from coordinator.work.steps import SteppedJob

TOO_SMALL = (*SUPPRESSED, "not-declared-together", "too-many-coefficients", "small-cell")
"""Codes of refusals and failures that rest on how few subjects there are."""
LEFT = "It left in the middle of the fit, which was begun again without its subjects."


def no_scores(sites: Sequence[str]) -> DocumentError:
    """Return why a fit has no robust standard errors: these sites told nothing at its end."""
    return DocumentError(
        f"{' and '.join(sites)} gave no squared residuals for robust standard errors: a site gives "
        "none that are those of too few subjects. Ask without them, or without the site."
    )


class ModelJob(SteppedJob):
    """One model. A site that leaves in the middle is left out: the fit begins again without it."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._left: set[str] = set()

    async def lead(self, accepted: list[str]) -> wire.JobResult:
        """Take the steps until the coefficients stay, or sites leave too often."""
        work = self.job.work
        assert isinstance(work, StatisticsWork) and work.fit is not None
        columns = models.check(work, self.project)
        width = len(columns)
        first = await self._ask(Step(0), accepted, {}, work, width)
        for attempt in range(steps.MOST_RESTARTS + 1):
            first = {site: reply for site, reply in first.items() if site not in self._left}
            if not first or not self.is_enough(len(first)):
                raise Refused("too-few-sites", self._too_few())
            self._check_missing(list(first))
            fit = await self._fit(attempt, first, work, width)
            if fit is not None:
                answered = [site for site in self._named() if site in self._replies]
                sites = sorted(answered)
                found = wire.JobResult(answered=answered)
                found.fit.CopyFrom(models.encode_fit(fit, columns, sites))
                found.fit.missing = sum(
                    wire.ModelPart.FromString(self._replies[site].payload).missing
                    for site in answered
                )
                return found
        raise Refused("too-few-sites", "Sites left in the middle of the fit again and again.")

    async def _fit(
        self, attempt: int, first: Mapping[str, wire.Reply], work: StatisticsWork, width: int
    ) -> Fit | None:
        """Fit to the sites of a first step; None when one leaves on the way."""
        assert work.fit is not None
        columns = models.check(work, self.project)
        back = models.way_back(work.fit, columns)
        fitting = Fitting(work.fit, width, [column.name for column in columns], back)
        said = dict(first)
        for number in range(1, models.MOST_TASKS + 1):
            fit = fitting.take([self._part(said[site], work, width) for site in sorted(said)])
            if fit is not None:
                self._replies = said
                if work.fit.has_ending:
                    return await self._ended(fitting, fit, Step(number, attempt), said, work.fit)
                return fit
            for place in range(len(said)):
                # Sites would refuse them, and not say why.
                models.check_coefficients(work.fit, columns, fitting.beta_of(place))
            step = Step(number, attempt)
            before = said
            said = await self._ask(step, list(before), before, work, width)
            gone = before.keys() - said.keys()
            if gone:
                for site in sorted(gone):
                    self.say_left(site)
                return None
        raise models.ENDLESS

    async def _ended(
        self, fitting: Fitting, fit: Fit, step: Step, before: Mapping[str, wire.Reply], model: Model
    ) -> Fit:
        """Return the fit with what sites tell at its end; without checks when a site gives none.

        ``DocumentError`` when one gives no scores for robust standard errors.
        """
        told = steps.encode([before[site] for site in sorted(before)], check=True)
        said = await self.ask(step.task, dict.fromkeys(before, told))
        parts: list[Ending | None] = []
        for site in sorted(before):
            try:
                message = wire.ModelPart.FromString(said[site].payload)
                parts.append(ending.decode(message, model, len(fit.coefficients)))
            except (KeyError, DocumentError, DecodeError):
                parts.append(None)
        silent = [site for site, part in zip(sorted(before), parts, strict=True) if part is None]
        if silent and model.robust is not None and model.site != "each":
            raise no_scores(silent)
        return ending.ended(fitting, parts)

    async def _ask(
        self,
        step: Step,
        sites: list[str],
        before: Mapping[str, wire.Reply],
        work: StatisticsWork,
        width: int,
    ) -> dict[str, wire.Reply]:
        """Take a step with sites; return what those said that have a part in it."""
        told = steps.encode([before[site] for site in sorted(before)])
        said = await self.ask(step.task, dict.fromkeys(sites, told))
        found = {}
        for site, reply in said.items():
            try:
                self._part(reply, work, width)
            except (DocumentError, DecodeError) as error:
                self.set_site(site, SiteState.FAILED, "malformed", str(error))
                continue
            found[site] = reply
        self._left |= set(sites) - found.keys()
        return found

    def _part(self, reply: wire.Reply, work: StatisticsWork, width: int) -> Sums | Factor:
        assert work.fit is not None
        return models.decode(wire.ModelPart.FromString(reply.payload), work.fit, width)

    def _named(self) -> list[str]:
        return [member.name for member in self.roster.sites]

    def say_left(self, site: str) -> None:
        """Say of a site, beside why it left, what that means."""
        rows = self.around.store.sites(self.digest)
        code = next((row.code for row in rows if row.site == site), "")
        self.note(site, code or "left", LEFT)

    def _too_few(self) -> str:
        if self._left:
            return "Too few sites are left in the model."
        return "Too few sites have a part in the model."

    def _check_missing(self, there: list[str]) -> None:
        """Raise ``Refused`` when more is at sites too small than the project lets be missing."""
        _, share = self.missing(there)
        most = self.project.most_missing_share
        if share > most:
            raise Refused(
                "too-much-missing",
                f"Too much is missing: the project allows {most:.0%} of subjects to be at sites "
                f"with too few for the model, and {share:.0%} are.",
            )

    def missing(self, there: Sequence[str]) -> tuple[list[str], float]:
        """Return the sites too small for the model, and their share of the listed subjects."""
        rows = self.around.store.sites(self.digest)
        small = [row.site for row in rows if row.code in TOO_SMALL and row.site not in there]
        return small, share_of(small, self._listed([*there, *small]))

    def complete(self, result: wire.JobResult) -> None:
        """Say which share of the listed subjects sites have that are too small for the model."""
        small, share = self.missing(result.answered)
        result.parts.add(answered=result.answered, withheld=small, missing_share=share)

    # ---- what the link calls -------------------------------------------------------------------

    def site_online(self, site: str) -> None:
        """A site that left stays out: its answer would be to a fit that is over."""
        if site not in self._left:
            super().site_online(site)

    def failed(self, site: str, failed: wire.TaskFailed) -> None:
        """A site's step gave no answer. Of one that left it was said already what that means."""
        if site not in self._left:
            super().failed(site, failed)
