"""A model fitted over sites: their sums at each step, merged in the roster's order."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from contract import wire_pb2 as wire
from contract.documents import StatisticsWork
from contract.errors import DocumentError, Refused
from contract.statistics import models
from contract.statistics.models import Fitting
from contract.statistics.regression import Factor, Fit, Sums
from coordinator.jobs.states import SiteState
from coordinator.work.steps import SteppedJob


class ModelJob(SteppedJob):
    """One model. The sites of the first step are those of all: the fit is of their rows."""

    async def lead(self, accepted: list[str]) -> wire.JobResult:
        """Ask for sums at ever better coefficients until they stay."""
        work = self.job.work
        assert isinstance(work, StatisticsWork) and work.fit is not None
        columns = models.check(work, self.project)
        fitting = Fitting(work.fit, len(columns))
        sites = [m.name for m in self.roster.sites if m.name in accepted]
        fit: Fit | None = None
        for number in range(models.MOST_TASKS):
            step = wire.ModelStep(beta=fitting.beta)
            said = await self.ask(f"step-{number}", dict.fromkeys(sites, step))
            parts = self._parts(said, work, len(columns))
            if number == 0:
                sites = list(parts)
                if not self.is_enough(len(sites)):
                    raise Refused("too-few-sites", "Too few sites have a part in the model.")
                self._replies = {site: said[site] for site in sites}
            elif list(parts) != sites:
                raise Refused("too-few-sites", "A site left in the middle of the fit.")
            fit = fitting.take(list(parts.values()))
            if fit is not None:
                break
        if fit is None:
            raise DocumentError("The model's steps don't end.")
        return wire.JobResult(answered=sites, fit=models.encode_fit(fit, columns))

    def _parts(
        self, said: dict[str, wire.Reply], work: StatisticsWork, width: int
    ) -> dict[str, Sums | Factor]:
        """Return sites' parts; a site whose part isn't one is out."""
        assert work.fit is not None
        found: dict[str, Sums | Factor] = {}
        for site, reply in said.items():
            try:
                message = wire.ModelPart.FromString(reply.payload)
                found[site] = models.decode(message, work.fit, width)
            except (DocumentError, DecodeError) as error:
                self.set_site(site, SiteState.FAILED, "malformed", str(error))
        return found
