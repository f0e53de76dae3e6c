"""A model whose steps are summed securely: the coordinator learns each step's total, and no part.

A step is one secure sum over all sites of the fit. With the next one each site is sent the record
of it, from which it works out the total and its coefficients itself. Until sites are asked to
confirm a sum, who leaves is left out; from then on the sites are always the same, so that no two
totals can be subtracted, and who leaves ends the fit.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from contract import wire_pb2 as wire
from contract.errors import DocumentError, Refused, SignatureError
from contract.models import Model
from contract.secure_aggregation import Server, encoding
from contract.secure_aggregation.leading import SURVIVORS
from contract.secure_aggregation.leading import Step as Phase
from contract.secure_aggregation.leading import steps as phases
from contract.secure_aggregation.masking import Words
from contract.statistics import ending, model_words, models, summed_steps
from contract.statistics.design import Column
from contract.statistics.fit import Fit
from contract.statistics.fitting import Fitting
from contract.statistics.steps import MOST_RESTARTS, Terms
from contract.statistics.summed_steps import VECTORS, SumTask
from contract.work import StatisticsWork
from coordinator.jobs.states import SiteState
from coordinator.work.models import ModelJob, no_scores
from foundation.transport import MAX_MESSAGE_BYTES

log = logging.getLogger("wardgate.coordinator")


@dataclass(frozen=True)
class Learned:
    """A step's total, its record for the sites, and the digest that the next step names."""

    total: Words
    record: wire.SumRecord
    follows: bytes


class SummedModelJob(ModelJob):
    """One model by secure sums."""

    _settled = False
    """Whether sites were asked to confirm a sum: they then take part in none over others."""

    async def lead(self, accepted: list[str]) -> wire.JobResult:
        """Sum the first step, over fewer sites if some leave; then take the others over these."""
        work = self.job.work
        assert isinstance(work, StatisticsWork) and work.fit is not None
        columns = models.check(work, self.project)
        sites = sorted(accepted)
        size = summed_steps.most_record_bytes(work.fit, len(columns), len(sites))
        if size > MAX_MESSAGE_BYTES:
            raise DocumentError(
                f"By secure sums a model of {len(columns)} coefficients over {len(sites)} sites "
                "needs messages larger than the link carries: fit it with fewer coefficients or "
                "sites, or in clear."
            )
        for attempt in range(MOST_RESTARTS + 1):
            sites = [site for site in sites if site not in self._left]
            if not self.is_enough(len(sites)) or len(sites) < 2:
                raise Refused("too-few-sites", self._too_few())
            self._check_missing(sites)
            learned = await self._sum(SumTask(0, attempt), sites, work.fit, len(columns))
            if learned is not None:
                fit = await self._fit_over(sites, attempt, learned, work.fit, columns)
                answered = [site for site in self._named() if site in sites]
                found = wire.JobResult(answered=answered)
                found.fit.CopyFrom(models.encode_fit(fit, columns, sites))
                found.fit.missing = model_words.missing(learned.total)
                return found
            if self._settled:
                raise Refused("too-few-sites", self._who_ended_it(sites))
        raise Refused("too-few-sites", "Sites left in the first sum of the fit again and again.")

    async def _fit_over(
        self,
        sites: list[str],
        attempt: int,
        learned: Learned,
        model: Model,
        columns: Sequence[Column],
    ) -> Fit:
        """Return the fit, step by step from the first one's total."""
        width = len(columns)
        back = models.way_back(model, columns)
        powers = model_words.exponents(model, columns, self.project)
        fitting = Fitting(model, width, [column.name for column in columns], back)
        for number in range(1, models.MOST_TASKS):
            fit = fitting.take([model_words.decode(learned.total, model, width, powers)])
            task = SumTask(number, attempt)
            if fit is not None and model.has_ending:
                said = self._replies
                last = await self._sum(task, sites, model, width, learned, check=True)
                self._replies = said
                if last is None and model.robust is None:
                    return fit
                if last is None:
                    raise no_scores([s for s in sites if s in self._left] or ["A site"])
                part = model_words.decode_ending(last.total, model, width, powers)
                return ending.ended(fitting, [part])
            if fit is not None:
                return fit
            models.check_coefficients(model, columns, fitting.beta)
            following = await self._sum(task, sites, model, width, learned)
            if following is None:
                raise Refused("too-few-sites", self._who_ended_it(sites))
            learned = following
        raise models.ENDLESS

    async def _sum(
        self,
        task: SumTask,
        sites: list[str],
        model: Model,
        width: int,
        before: Learned | None = None,
        *,
        check: bool = False,
    ) -> Learned | None:
        """Return the total of a step over sites; None when one of them leaves on the way."""
        fit = Terms(self.digest, self.job, self.project, self.roster)
        follows = before.follows if before is not None else b""
        terms = summed_steps.terms(fit, model, width, task, sites, follows, check=check)
        server = Server(terms)
        vectors: dict[str, wire.Reply] = {}
        try:
            for number, phase in enumerate(phases(server), 1):
                told = {sites[place]: step for place, step in phase.told.items()}
                if number == 1:
                    told = dict.fromkeys(told, _opening(phase, before, check=check))
                self._settled |= phase.name == SURVIVORS
                said = await self.ask(task.at(number).name, told)
                self._take(phase, sites, said, terms.word)
                if number < summed_steps.UNMASKING:
                    self._left |= {sites[p] for p in phase.told if p not in phase.good}
                if number == VECTORS:
                    vectors = {site: said[site] for site in sites if site in said}
            total, seeds = server.total(), server.seeds()
        except Refused as refusal:
            if self.cancelled or self.expired:
                raise
            log.info("job %s: %s came to nothing: %s", self.digest[:12], task.name, refusal)
            return None
        finally:
            for sender, owner in server.wrong_shares():
                log.warning("job %s: a wrong share by %s or %s", self.digest[:12], sender, owner)
        self._replies = vectors
        record = wire.SumRecord(
            vectors=[
                wire.SignedPart(payload=vectors[s].payload, receipt=vectors[s].receipt)
                for s in sites
            ],
            seeds=seeds,
        )
        return Learned(total, record, summed_steps.digest_of(total, follows))

    def _take(
        self, phase: Phase, sites: list[str], said: Mapping[str, wire.Reply], word: int
    ) -> None:
        """Give a phase what sites said; who said what isn't sound has failed."""
        for place, site in enumerate(sites):
            if site not in said:
                continue
            try:
                phase.take(place, encoding.answer(said[site].payload, place, word))
            except (DocumentError, SignatureError) as error:
                why = f"In the step of the {phase.name}: {error}"
                self.set_site(site, SiteState.FAILED, "malformed", why)

    def _who_ended_it(self, sites: list[str]) -> str:
        gone = [site for site in sites if site in self._left]
        who = f"{' and '.join(gone)} left" if gone else "A site left"
        return (
            f"{who} in the middle of the fit. Its sums are over one set of sites, so that no two "
            "can be subtracted: ask again, without who is gone."
        )


def _opening(phase: Phase, before: Learned | None, *, check: bool) -> wire.SumStep:
    """Return what a sum begins with, for all sites alike."""
    found = wire.SumStep()
    found.CopyFrom(next(iter(phase.told.values())))
    if before is not None:
        found.terms.before.CopyFrom(before.record)
    found.terms.check = check
    return found
