"""``Study``: one project's subjects, sites and terms, and every analysis of them by one call."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from contract import wire_pb2 as wire
from contract.cohorts import Cohort
from contract.documents import Project
from contract.errors import DocumentError
from contract.statistics import quantiles
from contract.statistics.estimates import CONFIDENCE, adjusted, checked_confidence
from contract.statistics.mean_tests import Alternative
from contract.statistics.survival import Scale
from contract.work import Statistic
from researcher import imputed
from researcher.analyses import (
    acquisition,
    compared,
    competing,
    crosstabs,
    evaluation,
    imaging,
    numbers,
    rates,
    related,
    shares,
    spread,
    survival,
    table_one,
)
from researcher.analyses.groups import variable_of
from researcher.columns import Column
from researcher.findings import Finding
from researcher.quality import Plan, QualityReport, ask_quality, assess
from researcher.questions import Lane, histogram, mean
from researcher.reference import Reference
from researcher.statistics import StatisticsAnswer

if TYPE_CHECKING:
    from researcher.consortium import Consortium


@dataclass(frozen=True)
class Study:
    """Whom to ask about what, and on which terms: what all questions of a study share.

    ``cohort`` is of whom; ``analysis`` the releases' analysis set. ``lane``, ``epsilon``,
    ``secure``, ``small_sites``, ``minimum_sites`` and ``releases`` are those of
    ``Consortium.statistics``. Each analysis is one question, whatever it needs; it raises what
    ``Consortium.statistics`` raises.
    """

    consortium: Consortium
    project_name: str
    sites: Sequence[str] | None = None
    minimum_sites: int = 1
    cohort: Cohort | None = None
    analysis: str | None = None
    lane: Lane = "any"
    epsilon: float | None = None
    secure: bool = False
    small_sites: bool = False
    releases: Mapping[str, str] | None = None
    confidence: float = CONFIDENCE
    """Of all intervals: 0.9 for those of an equivalence trial."""
    waiting: Callable[[wire.JobStatus], None] | None = None

    def __post_init__(self) -> None:
        """Refuse a confidence that isn't one, before anything is asked."""
        checked_confidence(self.confidence)

    @property
    def project(self) -> Project:
        """The project, as its hospitals approved it."""
        return self.consortium.project(self.project_name)

    def __getitem__(self, name: str) -> Column:
        """Return a variable to be compared, with its codes; ``DocumentError`` for none."""
        return Column(name, variable_of(self.project, name))

    def of(self, cohort: Cohort) -> Study:
        """Return the same study of those of its subjects who are in ``cohort`` too."""
        both = cohort if self.cohort is None else self.cohort & cohort
        return dataclasses.replace(self, cohort=both)

    def ask(self, *statistics: Statistic) -> StatisticsAnswer:
        """Ask one question, however many statistics it is of."""
        return self.consortium.statistics(
            self.project_name,
            statistics,
            sites=self.sites,
            minimum_sites=self.minimum_sites,
            releases=self.releases,
            cohort=self.cohort,
            analysis=self.analysis,
            lane=self.lane,
            epsilon=self.epsilon,
            secure=self.secure,
            small_sites=self.small_sites,
            waiting=self.waiting,
        )

    # ---- described -----------------------------------------------------------------------------

    def describe(self, *variables: str, by: str | None = None) -> Finding:
        """Return n, missing, mean, SD, quartiles, skewness and kurtosis of numbers."""
        return numbers.describe(self.ask(*numbers.ask_description(self.project, variables, by)), by)

    def table_one(
        self,
        *variables: str,
        by: str | None = None,
        overall: bool = False,
        medians: Sequence[str] = (),
        adjust: str = "none",
    ) -> Finding:
        """Return a trial's table 1: numbers and categories by group, how the groups differ, p.

        Without ``by`` it is of everybody; ``overall`` puts a column of all groups together before
        them. ``medians`` are the numbers of it that are given as median and quartiles. p values are
        adjusted as ``anova`` has it, if at all.
        """
        adjusted([], adjust)
        answer = self.ask(*table_one.ask_table_one(self.project, variables, by, medians))
        return table_one.table_one(answer, by, self.confidence, overall=overall, adjust=adjust)

    def histogram(self, variable: str, by: str | None = None) -> Finding:
        """Return a number's counts on the dictionary's grid."""
        return numbers.histogram_of(self.ask(histogram(variable, by)))

    def quantiles(
        self,
        *variables: str,
        by: str | None = None,
        shares: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
        type: int = quantiles.TYPE,  # noqa: A002 - R's name
    ) -> Finding:
        """Return quantiles of all subjects together, each right within the width of a grid's cell.

        ``type`` is Hyndman and Fan's, as of R's ``quantile``: 7 by default, 1 for the inverse of
        the distribution function. However many numbers they are of, it is one question.
        """
        quantiles.checked_type(type)
        answer = self.ask(*numbers.ask_quantiles(self.project, variables, by))
        return numbers.quantile_table(answer, shares, by, self.confidence, type)

    def box_plots(self, *variables: str, by: str | None = None) -> Finding:
        """Return quartiles, and the 5th and 95th percentile, of each number; one question."""
        return spread.box_plots(self.ask(*spread.ask_boxes(self.project, variables, by)), by)

    def density(self, first: str, second: str) -> Finding:
        """Return counts of two numbers together on their grids: a heat map for a scatter plot."""
        return spread.density(self.ask(*spread.ask_density(self.project, first, second)))

    def quality(
        self,
        *variables: str,
        by: str | None = None,
        outcome: str | None = None,
        predictors: Sequence[str] = (),
        parameters: int | None = None,
        reference: Reference | None = None,
        each_site: bool = False,
    ) -> QualityReport:
        """Report on data's quality and whom it represents, by the four domains of PROBAST.

        ``outcome``, ``predictors`` and ``parameters`` are of a model that is planned; ``reference``
        is a population to compare with. ``each_site`` asks each site by itself too, so that sites
        can be compared; where there is noise, each of these questions spends.
        """
        plan = Plan(outcome, predictors, parameters)
        ask = ask_quality(self.project, variables, plan, by)
        answer = self.ask(*ask)
        sizes: dict[str, int] = {}
        for release in self.consortium.releases(self.project_name):
            sizes[release.site] = release.subjects
        each = {
            site: dataclasses.replace(self, sites=[site], minimum_sites=1).ask(*ask)
            for site in (answer.answered if each_site else ())
        }
        return assess(answer, plan, reference or Reference(), by, sizes, each)

    def intensities(self, name: str) -> Finding:
        """Return images' intensities over all subjects, and constants to normalise images by.

        ``name``: what the dictionary calls them, without ``.mean``, ``.sd`` and ``.b00``.
        """
        return imaging.intensities(self.ask(*imaging.ask_intensities(self.project, name)), name)

    def acquisition(self, modality: str | None = None) -> Finding:
        """Return how images were taken: the dictionary's parameters, by modality.

        Such as tube voltage, slice thickness, field strength, stain and magnification; one question
        for all, or for those of one ``modality``. ``DocumentError`` when the dictionary has none.
        """
        asked = acquisition.ask_acquisition(self.project, modality)
        return acquisition.acquisition(self.ask(*asked), modality)

    # ---- imputed -------------------------------------------------------------------------------

    def imputed_mean(self, name: str, by: str | None = None) -> Finding:
        """Return the mean of a variable of which the dictionary has imputations, pooled."""
        asked = imputed.ask_means(self.project, name, by)
        return imputed.pooled_means(self.ask(*asked), name, by, self.confidence)

    def imputed_model(
        self, formula: str, family: str, names: Sequence[str], **options: Any
    ) -> Finding:
        """Fit a model to each imputation and pool the coefficients by Rubin's rules.

        ``names`` are the imputed variables of the formula, without their draws' numbers;
        ``options`` those of ``Consortium.model``. ``DocumentError`` without an analysis set.
        """
        if self.analysis is None:
            raise DocumentError("A model is of an analysis set; name the study's.")
        drawn = {name: imputed.draws(self.project, name) for name in names}
        fits = [
            self.consortium.model(
                self.project_name,
                one,
                family,
                analysis=self.analysis,
                cohort=self.cohort,
                sites=self.sites,
                minimum_sites=self.minimum_sites,
                releases=self.releases,
                waiting=self.waiting,
                **options,
            )
            for one in imputed.formulas(formula, drawn)
        ]
        complete = math.inf
        if fits[0].law == "t":
            complete = max(fits[0].degrees, 1)
        rows = [list(fit.rows()) for fit in fits]
        pooled = imputed.pooled_coefficients(rows, drawn, complete)
        title = f"{formula} ({family}), {len(fits)} imputations"
        return imputed.table_of(pooled, title, fits, self.confidence)

    # ---- compared ------------------------------------------------------------------------------

    def mean(
        self,
        variable: str,
        by: str | None = None,
        *,
        alternative: Alternative = "two-sided",
        null: float = 0.0,
    ) -> Finding:
        """Return a number's mean with its interval, and a t test of whether it is ``null``."""
        answer = self.ask(mean(variable, by))
        return compared.means(answer, alternative, null, self.confidence)

    def proportion(self, variable: str, by: str | None = None) -> Finding:
        """Return the share of each level of a category: Wilson's and the exact interval."""
        asked = shares.ask_shares(self.project, variable, by)
        return shares.shares(self.ask(*asked), self.confidence)

    def t_test(
        self,
        variable: str,
        by: str,
        *,
        equal_variances: bool = False,
        alternative: Alternative = "two-sided",
        null: float = 0.0,
    ) -> Finding:
        """Compare two groups' means: Welch's t test, or Student's.

        ``alternative`` is ``less`` or ``greater`` for a one-sided test, of whether the first
        group's mean less the second's is; ``null`` the difference that it is tested against.
        """
        answer = self.ask(*compared.ask_means(variable, by))
        return compared.t_test(
            answer,
            by,
            equal_variances=equal_variances,
            alternative=alternative,
            null=null,
            confidence=self.confidence,
        )

    def anova(
        self, variable: str, by: str, *, equal_variances: bool = False, adjust: str = "holm"
    ) -> Finding:
        """Compare several groups' means: Welch's analysis of variance, or the classic one.

        p values of pairs are adjusted by ``holm``, ``bonferroni`` or ``benjamini-hochberg``, or
        ``none``.
        """
        adjusted([], adjust)
        answer = self.ask(*compared.ask_means(variable, by))
        return compared.anova(
            answer, by, equal_variances=equal_variances, adjust=adjust, confidence=self.confidence
        )

    def ranks(self, variable: str, by: str) -> Finding:
        """Compare groups by ranks on the grid: Mann and Whitney's test, or Kruskal and Wallis'."""
        return compared.ranks(self.ask(histogram(variable, by)), by, self.confidence)

    def crosstab(
        self, *variables: str, by: str | None = None, simulate: int | None = None
    ) -> Finding:
        """Cross two or three categories (or numbers on their grids), and test independence.

        ``simulate`` is a seed: where Fisher's exact test would take too long, its p is then of
        20,000 random tables with the same margins, as of R's ``simulate.p.value``.
        """
        if not 2 <= len(variables) <= 3:
            raise DocumentError("A crosstab is of two or three variables.")
        answer = self.ask(*crosstabs.ask_crosstab(variables, by))
        chance = None if simulate is None else np.random.default_rng(simulate)
        return crosstabs.crossed(answer, by, self.confidence, chance)

    def correlations(
        self,
        *variables: str,
        by: str | None = None,
        given: Sequence[str] = (),
        pairwise: bool = False,
        adjust: str = "none",
    ) -> Finding:
        """Return each pair's correlation, of subjects with all the values.

        Partial correlations, with the numbers ``given`` held fixed, are told beside them.
        ``pairwise`` is of the subjects who have both values of a pair, whatever else they lack.
        p values are adjusted as ``anova`` has it, if at all.
        """
        if len(variables) < 2:
            raise DocumentError("Correlations are of two numbers or more.")
        asked = related.ask_correlation(variables, by, given, pairwise=pairwise)
        adjusted([], adjust)
        return related.correlations(self.ask(*asked), given, self.confidence, adjust)

    def covariances(self, *variables: str, by: str | None = None) -> Finding:
        """Return the matrix of numbers' covariances, of subjects with all the values."""
        if len(variables) < 2:
            raise DocumentError("Covariances are of two numbers or more.")
        return related.covariances(self.ask(*related.ask_correlation(variables, by)))

    def paired_t_test(
        self,
        first: str,
        second: str,
        *,
        alternative: Alternative = "two-sided",
        null: float = 0.0,
    ) -> Finding:
        """Compare the means of two numbers of the same subjects."""
        answer = self.ask(*related.ask_pair(first, second))
        return related.paired_t_test(answer, alternative, null, self.confidence)

    def rank_correlation(self, first: str, second: str, by: str | None = None) -> Finding:
        """Return Spearman's, Kendall's and Goodman and Kruskal's measures of two orders.

        Of categories whose levels are ordered, or numbers on their grids.
        """
        asked = related.ask_order(self.project, first, second, by)
        return related.rank_correlation(self.ask(*asked), self.confidence)

    def rates(
        self, time: str, event: str, by: str | None = None, per: float = rates.PER
    ) -> Finding:
        """Return events per person-time at risk, with exact intervals, and groups compared.

        ``event`` is a category of two levels, the second the event; both are of the same subjects,
        those of the analysis set.
        """
        answer = self.ask(*rates.ask_rates(self.project, time, event, by))
        return rates.incidence(answer, per, self.confidence)

    def survival(
        self,
        time: str,
        event: str,
        by: str | None = None,
        *,
        stratum: str | None = None,
        at: Sequence[float] = (),
        until: float | None = None,
        rho: float = 0.0,
        gamma: float = 0.0,
        scale: Scale = "log-log",
    ) -> Finding:
        """Return Kaplan and Meier's curves on the time's grid, and the log-rank test of groups.

        Beside them are Nelson and Aalen's cumulative hazards with their intervals.
        ``event`` is a category of two levels, the second the event. ``stratum`` makes the test
        stratified by a category; ``at`` tells survival at times, ``until`` the mean time up to
        one; ``rho`` and ``gamma`` weigh the test as Fleming and Harrington do (``rho=1``: Peto's);
        ``scale`` is that of the curves' intervals, ``log`` in R unless told otherwise.
        """
        by_strata = by is not None and self._is_stratum(by)
        asked = survival.ask_survival(self.project, time, event, by, stratum, by_strata=by_strata)
        wanted = survival.Wanted(tuple(at), until, rho, gamma, scale)
        return survival.curves(self.ask(*asked), wanted, self.confidence)

    def cumulative_incidence(
        self,
        time: str,
        event: str,
        by: str | None = None,
        *,
        stratum: str | None = None,
        at: Sequence[float] = (),
        rho: float = 0.0,
        scale: Scale = "log-log",
    ) -> Finding:
        """Return the incidence of events that preclude one another, by Aalen and Johansen.

        ``event`` is a category of three levels or more, the first of those who had none of them;
        each other level has its curve. Groups are compared by Gray's test of each, whose weights
        are (1 - F)^``rho``, and by log-rank tests and hazard ratios of each cause. The other
        options are those of ``survival``.
        """
        by_strata = by is not None and self._is_stratum(by)
        asked = competing.ask_incidence(self.project, time, event, by, stratum, by_strata=by_strata)
        wanted = survival.Wanted(tuple(at), rho=rho, scale=scale)
        return competing.curves(self.ask(*asked), wanted, self.confidence)

    def _is_stratum(self, name: str) -> bool:
        """Say whether all releases that are asked can be asked by a category exactly."""
        releases = [
            release
            for release in self.consortium.releases(self.project_name)
            if (self.sites is None or release.site in self.sites)
            and (self.releases is None or release.digest in self.releases.values())
        ]
        return bool(releases) and all(name in release.strata for release in releases)

    # ---- evaluated -----------------------------------------------------------------------------

    def roc(self, score: str, outcome: str, by: str | None = None) -> Finding:
        """Return the ROC curve of a score for an outcome of two levels, the second the event."""
        asked = evaluation.ask_scores(self.project, score, outcome, by)
        return evaluation.roc(self.ask(*asked), self.confidence)

    def accuracy(self, test: str, outcome: str, by: str | None = None) -> Finding:
        """Return what a yes-or-no test is worth: sensitivity, specificity, predictive values.

        Both are categories of two levels, the second the positive one. Of two with the same three
        levels or more each level's precision, recall and F1 are told.
        """
        asked = shares.ask_accuracy(self.project, test, outcome, by)
        return shares.accuracy(self.ask(*asked), self.confidence)

    def calibration(self, probability: str, outcome: str) -> Finding:
        """Compare predicted probabilities with what happened."""
        asked = evaluation.ask_scores(self.project, probability, outcome, None)
        return evaluation.calibrated(self.ask(*asked), self.confidence)

    def agreement(
        self, *raters: str, ratings: str | None = None, scores: Sequence[float] = ()
    ) -> Finding:
        """Return kappas and Krippendorff's alpha of raters of one category.

        Where not every rater rated every subject, ``ratings`` names a category with how many did
        (levels "2", "3" and so on, derived by ``known`` and ``bins``). ``scores`` are the levels'
        numbers, in order: weighted kappas go by them, and alpha's interval and ratio scale.
        """
        asked = evaluation.ask_agreement(self.project, raters, ratings)
        return evaluation.agreed(self.ask(*asked), raters, ratings, self.confidence, scores)

    def icc(self, *raters: str) -> Finding:
        """Return the intraclass correlations of raters of one number."""
        answer = self.ask(*evaluation.ask_ratings(raters))
        return evaluation.intraclass(answer, self.confidence)

    def bland_altman(self, first: str, second: str) -> Finding:
        """Return bias and limits of agreement of two methods that measure one number."""
        answer = self.ask(*evaluation.ask_ratings((first, second)))
        return evaluation.limits_of_agreement(answer, self.confidence)
