"""Questions of a consortium: statistics and models, asked at once and answered when they can be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from contract import wire_pb2 as wire
from contract.cohorts import Cohort
from contract.documents import Job
from contract.envelope import Envelope
from contract.errors import JobFailed, UsageError
from contract.statistics.models import marginals
from contract.work import Statistic, StatisticsWork
from researcher import formulas, splines_at_quantiles
from researcher.checking import check, variable_of
from researcher.connection import Connection
from researcher.models import ModelAnswer
from researcher.questions import Lane, histogram, question
from researcher.splines_at_quantiles import Knots
from researcher.statistics import StatisticsAnswer


class Asking(Connection):
    """What a consortium can be asked."""

    def statistics(
        self,
        project: str,
        ask: Sequence[Statistic],
        *,
        sites: Sequence[str] | None = None,
        minimum_sites: int = 1,
        releases: Mapping[str, str] | None = None,
        cohort: Cohort | None = None,
        analysis: str | None = None,
        lane: Lane = "any",
        epsilon: float | None = None,
        secure: bool = False,
        small_sites: bool = False,
        waiting: Callable[[wire.JobStatus], None] | None = None,
    ) -> StatisticsAnswer:
        """Ask for statistics across the sites and wait for the merged answer.

        One round trip, however many statistics. ``releases`` (site to digest) names what is asked;
        without it each site's newest release of the project is. Raises ``JobFailed`` when fewer
        than ``minimum_sites`` are in the answer; who is not in it, and why, is in the answer.

        ``cohort`` is of whom; ``analysis`` the releases' analysis set. What the releases declare is
        answered exactly, all else with noise, unless ``lane`` wants one of both. ``epsilon`` is
        what the question would spend on noise at each site; what it spent is in the answer.

        ``secure`` sums the sites' parts so that nobody sees a site's own, the coordinator included:
        it needs five sites (or what their policies say) and takes five round trips. ``small_sites``
        does so over releases that are made for such sums alone: of one ``analysis`` set, of
        everybody in it, or by one category.

        Where a site's steward is to decide first, this waits until the job's end; ``waiting`` is
        told as soon as that is so, and ``answer`` reads the answer later.
        """
        work = question(
            ask,
            cohort=cohort,
            analysis=analysis,
            lane=lane,
            epsilon=epsilon,
            secure=secure,
            small_sites=small_sites,
        )
        check(work, self.project(project))
        job, result = self._asked(project, work, sites, minimum_sites, releases, waiting)
        return StatisticsAnswer.from_result(job, self.project(project), result, self._roster())

    def model(
        self,
        project: str,
        formula: str,
        family: str,
        *,
        analysis: str,
        weights: str | None = None,
        ties: str = "efron",
        link: str | None = None,
        by_site: str | None = None,
        method: str = "reml",
        time_scale: str = "identity",
        robust: str | bool | None = None,
        knots: Knots = "even",
        secure: bool = False,
        cohort: Cohort | None = None,
        sites: Sequence[str] | None = None,
        minimum_sites: int = 1,
        releases: Mapping[str, str] | None = None,
        waiting: Callable[[wire.JobStatus], None] | None = None,
    ) -> ModelAnswer:
        """Fit a model across the sites and wait for it.

        ``formula`` is as R writes it: ``"outcome ~ age + arm:sex"``; ``family`` one of linear,
        logistic, poisson, gamma, and cox, whose left side is ``Surv(time, event)`` and which is
        stratified by site. ``analysis`` names the releases' analysis set: the fit is of subjects
        with a value of all its variables. Estimates are those of the pooled rows.

        ``weights`` names a variable (prior weights). ``by_site`` says what differs between sites:
        ``fixed`` effects, a ``random`` intercept (of linear, logistic and Poisson models over three
        sites or more; ``(1 | site)`` says the same, and a linear one's ``method`` is reml or ml),
        or ``each``: every site's own fit, pooled by random effects.
        ``ties`` (efron, breslow) and ``time_scale`` (identity, log: against what proportionality is
        tested) are a Cox model's, ``link`` (log, inverse) a gamma model's.

        ``robust`` gives robust (sandwich) standard errors: ``HC0`` (True says the same) by each
        subject's score, ``HC1`` times n / (n - p), which a Cox model hasn't got, or ``site`` by
        each site's, of three sites or more. Intervals and tests are then by these.

        ``knots`` says where a spline's lie that the formula leaves open: ``even`` over the
        dictionary's range, or at all subjects' ``quantiles``, as R has them; either at the nearest
        edges of the number's grid. Quantiles are asked for first, as one question.

        ``secure`` sums the sites' parts of each step so that nobody sees a site's own, neither the
        coordinator nor another site: of a model that is the same at all sites (no ``by_site``),
        over five sites or what their policies say, in five round trips a step. A site that leaves
        once the first step is summed ends the fit.
        """
        fit = formulas.parse(
            formula,
            family,
            weights=weights,
            ties=ties,
            link=link,
            by_site=by_site,
            method=method,
            time_scale=time_scale,
            robust=robust,
            numbers={v.name for v in self.project(project).variables if v.kind == "number"},
        )
        for name in fit.variables:
            if name != "site":
                variable_of(self.project(project), name)
        if secure and fit.shows_sites:
            raise UsageError(
                "What differs between sites, and errors by site, show their own sums: leave out "
                "secure."
            )
        if knots == "quantiles" and (names := splines_at_quantiles.names(fit)):
            try:
                counted = self.statistics(
                    project,
                    [histogram(name) for name in names],
                    sites=sites,
                    minimum_sites=minimum_sites,
                    releases=releases,
                    cohort=cohort,
                    analysis=analysis,
                    lane="exact",
                    secure=secure,
                    waiting=waiting,
                )
            except JobFailed as error:
                raise JobFailed(
                    f"Knots at quantiles need counts of {' and '.join(names)} on the grid in "
                    f"{analysis}, as splines do: "
                    f"{splines_at_quantiles.how(names, analysis)} {error}"
                ) from None
            fit = splines_at_quantiles.placed(fit, counted)
        work = StatisticsWork(
            ask=marginals(fit, self.project(project)),
            cohort=cohort,
            analysis=analysis,
            lane="exact",
            secure=secure,
            fit=fit,
        )
        check(work, self.project(project))
        job, result = self._asked(project, work, sites, minimum_sites, releases, waiting)
        return ModelAnswer.from_result(job, self.project(project), result, self._roster())

    def answer(
        self, digest: str, waiting: Callable[[wire.JobStatus], None] | None = None
    ) -> StatisticsAnswer | ModelAnswer:
        """Return what a question that had to wait for a steward gave, once it is there."""
        job = Job.read(Envelope.parse(self._home.kept_job(digest)).body)
        result = self._wait(digest, waiting)
        asked = isinstance(job.work, StatisticsWork) and job.work.fit is not None
        kind: type[StatisticsAnswer] | type[ModelAnswer] = (
            ModelAnswer if asked else StatisticsAnswer
        )
        return kind.from_result(job, self.project(job.project), result, self._roster())

    def _asked(
        self,
        project: str,
        work: StatisticsWork,
        sites: Sequence[str] | None,
        minimum_sites: int,
        releases: Mapping[str, str] | None,
        waiting: Callable[[wire.JobStatus], None] | None,
    ) -> tuple[Job, wire.JobResult]:
        """Send a question and wait; it is kept for later once it has to wait for a steward."""
        job, envelope = self.sign(project, work, sites, minimum_sites, releases)
        digest = self._submit(envelope)

        def held(status: wire.JobStatus) -> None:
            self._home.keep_job(digest, envelope)
            if waiting is not None:
                waiting(status)

        return job, self._wait(digest, held)
