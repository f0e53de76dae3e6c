"""A model fitted over sites: tidy rows with intervals, a summary as R prints it, receipts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from contract import wire_pb2 as wire
from contract.documents import JOB_TYPE, Job, Project, printable
from contract.errors import DocumentError, SignatureError
from contract.models import Model
from contract.receipts import Receipt
from contract.statistics import models
from contract.statistics.design import Matrix
from contract.statistics.fit import Fit, Vector
from contract.statistics.meta import Method, Pooled, pool
from contract.trust import TrustedDocuments
from contract.work import StatisticsWork
from researcher import model_records, summaries
from researcher.absent import absent_note, misses_too_much, percent
from researcher.plots import Forest
from researcher.receipts import check_answered, verify_receipts
from researcher.rendering import as_html, as_text
from researcher.statistics import Missing

FEW_CLUSTERS = 40
"""Of fewer, standard errors by site are doubtful (Angrist and Pischke 2009, section 8.2.3)."""
EXPONENTIATED = {
    "logistic": "odds ratio",
    "poisson": "rate ratio",
    "gamma": "mean ratio",
    "cox": "hazard ratio",
}


@dataclass(frozen=True)
class Coefficient:
    """One coefficient: estimate, standard error, Wald's statistic, p and interval.

    ``standard_error`` is what the statistic and interval are by; ``naive_error`` that by the
    information, the same unless robust ones were asked.

    ``ratio`` and its bounds are exponentials, NaN for a model whose coefficients aren't logarithms.
    """

    name: str
    estimate: float
    standard_error: float
    low: float
    high: float
    p: float
    ratio: float
    ratio_low: float
    ratio_high: float
    statistic: float = math.nan
    """The estimate in standard errors: Student's t or a normal z."""
    naive_error: float = math.nan


@dataclass(frozen=True)
class ChiSquared:
    """A chi-squared statistic with its degrees of freedom and p."""

    name: str
    statistic: float
    degrees: int
    p: float


@dataclass(frozen=True)
class ModelAnswer:
    """A fitted model, who is in it, and who isn't."""

    job: str
    model: Model
    fit: Fit
    columns: tuple[str, ...]
    answered: tuple[str, ...]
    missing: tuple[Missing, ...]
    receipts: tuple[Receipt, ...]
    project: Project
    sites: tuple[str, ...] = ()
    """The sites in the order of the fit's ``site_effects`` and ``each``."""
    missing_share: float = 0.0
    """Which share of the subjects, as listed, sites have that are too small for the model."""
    absent_share: float = 0.0
    """Share of the subjects listed at all sites asked that are at sites in ``missing``."""
    secure: bool = False
    """Whether the sites' parts of each step were summed so that nobody saw a site's own."""
    left_out: int = 0
    """How many others the releases tell of in the cohort who aren't in the analysis set, at least:
    they lack a value of its variables, or are left out so that none can be told apart."""
    analysis: str = ""
    """The analysis set."""

    @classmethod
    def from_result(
        cls, job: Job, project: Project, result: wire.JobResult, trusted: TrustedDocuments
    ) -> ModelAnswer:
        """Read a result, checking every receipt. ``SignatureError`` when one doesn't hold."""
        work = job.work
        assert isinstance(work, StatisticsWork) and work.fit is not None
        if result.status.job != job.seal(JOB_TYPE).digest:
            raise SignatureError("The coordinator sent the result of another job.")
        receipts = verify_receipts(result.receipts, trusted)
        check_answered(receipts, result.answered, result.status.job)
        columns = models.check(work, project)
        if set(result.fit.sites) != set(result.answered):
            raise DocumentError("The coordinator's fit is of other sites than those that answered.")
        missing_share = max((part.missing_share for part in result.parts), default=0.0)
        if misses_too_much(missing_share, 0, 0, project):
            raise DocumentError(
                "The coordinator's fit misses more subjects than the project allows: "
                f"{percent(missing_share)} of them are at sites with too few for the model."
            )
        return cls(
            job=result.status.job,
            model=work.fit,
            fit=models.decode_fit(result.fit, work.fit, columns),
            columns=tuple(column.name for column in columns),
            answered=tuple(result.answered),
            missing=tuple(
                Missing(s.site, s.state, s.sentence)
                for s in result.status.sites
                if s.site not in result.answered
            ),
            receipts=tuple(receipts),
            project=project,
            sites=tuple(result.fit.sites),
            missing_share=missing_share,
            absent_share=result.absent_share,
            secure=work.secure,
            left_out=result.fit.missing,
            analysis=work.analysis or "",
        )

    # ---- coefficients --------------------------------------------------------------------------

    @property
    def ratio(self) -> str | None:
        """What a coefficient's exponential is called; None where it is no ratio."""
        return EXPONENTIATED.get(self.model.family) if self.model.link == "log" else None

    @property
    def law(self) -> str:
        """By which law intervals and p values are: ``t`` where a variance is estimated, or ``z``.

        A random intercept's are by the normal, for no degrees of freedom are right for it. With
        standard errors by site, degrees are the sites less one.
        """
        if self.model.site == "each" or self.model.robust == "site":
            return "t"
        return "t" if self.model.family in ("linear", "gamma") and not self.is_mixed else "z"

    @property
    def degrees(self) -> int:
        """Student's degrees of freedom, 0 where the law is the normal one."""
        if self.fit.each:
            return sum(isinstance(one, Fit) and one.converged for one in self.fit.each) - 1
        return self._degrees(self.fit)

    def _degrees(self, fit: Fit) -> int:
        if fit.clusters:
            return fit.clusters - 1
        by_t = self.model.family in ("linear", "gamma") and not self.is_mixed
        return fit.residual_degrees if by_t else 0

    @property
    def is_mixed(self) -> bool:
        """Whether there is a random intercept."""
        return self.model.site == "random"

    def rows(self, confidence: float = 0.95) -> Iterator[Coefficient]:
        """Yield the coefficients; intervals are Wald's.

        By Student's t where the dispersion is estimated (linear, gamma), else by the normal. Of
        sites' own fits the coefficients are pooled by random effects (``meta``).
        """
        return self._rows(self.fit, confidence)

    def _rows(self, fit: Fit, confidence: float) -> Iterator[Coefficient]:
        from scipy.stats import norm, t

        if not 0 < confidence < 1:
            raise DocumentError("A confidence lies between 0 and 1.")
        degrees = self.degrees if fit is self.fit else self._degrees(fit)
        law = t(degrees) if degrees > 0 else norm()
        reach = float(law.ppf(0.5 + confidence / 2))
        both = zip(fit.errors, fit.standard_errors, strict=True)
        named = zip(self.columns, fit.coefficients, both, strict=True)
        for name, estimate, (error, naive) in named:
            low, high = float(estimate - reach * error), float(estimate + reach * error)
            statistic = float(estimate / error) if error > 0 else math.nan
            p = 2 * float(law.sf(abs(statistic))) if error > 0 else math.nan
            ratios = (math.nan,) * 3
            if self.ratio:
                ratios = _exponential(float(estimate)), _exponential(low), _exponential(high)
            yield Coefficient(
                name,
                float(estimate),
                float(error),
                low,
                high,
                p,
                *ratios,
                statistic,
                naive_error=float(naive),
            )

    def __getitem__(self, name: str) -> Coefficient:
        """Return a coefficient by its column's name; ``KeyError`` without one."""
        for row in self.rows():
            if row.name == name:
                return row
        raise KeyError(name)

    def confint(self, confidence: float = 0.95) -> dict[str, tuple[float, float]]:
        """Return the coefficients' intervals."""
        return {row.name: (row.low, row.high) for row in self.rows(confidence)}

    def ratios(self, confidence: float = 0.95) -> dict[str, tuple[float, float, float]]:
        """Return odds, rate, mean or hazard ratios with their intervals; none of a linear model."""
        return {
            row.name: (row.ratio, row.ratio_low, row.ratio_high)
            for row in self.rows(confidence)
            if self.ratio
        }

    def tidy(
        self, confidence: float = 0.95, *, exponentiate: bool = False
    ) -> list[dict[str, str | float]]:
        """Return one record for each coefficient, with the names that R's broom has.

        ``std.error`` is by the information, ``robust.se`` what the rest is by where it was asked.
        """
        found: list[dict[str, str | float]] = []
        for row in self.rows(confidence):
            shown = (row.estimate, row.low, row.high)
            if exponentiate:
                shown = (row.ratio, row.ratio_low, row.ratio_high)
            robust = {"robust.se": row.standard_error} if self.fit.robust is not None else {}
            found.append(
                {
                    "term": row.name,
                    "estimate": shown[0],
                    "std.error": row.naive_error,
                    **robust,
                    "statistic": row.statistic,
                    "p.value": row.p,
                    "conf.low": shown[1],
                    "conf.high": shown[2],
                }
            )
        return found

    def glance(self) -> dict[str, str | float]:
        """Return one record of how the model fits, with the names that R's broom has."""
        return model_records.glance(self)

    def records(self, confidence: float = 0.95) -> list[dict[str, str | float]]:
        """Return all that is known: coefficients, the fit, tests, sites; ``--json`` prints them."""
        return list(model_records.records(self, confidence))

    # ---- tests ---------------------------------------------------------------------------------

    def tests(self) -> list[ChiSquared]:
        """Return tests of a Cox model that all coefficients are zero."""
        if self.model.family != "cox" or self.fit.each:
            return []
        fit, degrees = self.fit, len(self.columns)
        return [
            _chi_squared("likelihood ratio", fit.null_deviance - fit.deviance, degrees),
            self._wald("Wald", list(range(degrees))),
            _chi_squared("score", fit.score_test, degrees),
        ]

    def wald(self) -> list[ChiSquared]:
        """Return a test of each term, that all of its coefficients are zero.

        Where a variance is estimated, p is that of F: the statistic over its degrees of freedom.
        """
        columns = models.columns_of(self.model, self.project)
        found = []
        for term in dict.fromkeys(column.term for column in columns if column.term):
            places = [place for place, column in enumerate(columns) if column.term == term]
            found.append(self._wald(term, places))
        return found

    def _wald(self, name: str, places: Sequence[int]) -> ChiSquared:
        import numpy as np
        from scipy.stats import f as f_law

        b, v = self.fit.coefficients[places], self.fit.vcov[np.ix_(places, places)]
        test = _chi_squared(name, _quadratic(b, v, self.fit.clusters), len(places))
        if self.law != "t" or self.fit.each:
            return test
        p = float(f_law(len(places), self.degrees).sf(test.statistic / len(places)))
        return replace(test, p=p)

    def proportionality(self) -> list[ChiSquared]:
        """Return Grambsch and Therneau's tests that hazards are proportional, last of all."""
        names = [*self.columns, "GLOBAL"]
        degrees = [1] * len(self.columns) + [len(self.columns)]
        return [
            _chi_squared(name, statistic, df)
            for name, statistic, df in zip(names, self.fit.proportionality, degrees, strict=False)
        ]

    # ---- sites ---------------------------------------------------------------------------------

    def site_effects(self) -> dict[str, float]:
        """Return sites' deviations from the common intercept; none of a model without them.

        Random ones are predicted (shrunk); fixed ones are from the first site's intercept.
        """
        return dict(zip(self.sites, self.fit.site_effects, strict=False))

    def own(self, site: str, confidence: float = 0.95) -> list[Coefficient]:
        """Return the coefficients of a site's own fit, of a model fitted ``by_site="each"``.

        ``DocumentError`` says why there is none.
        """
        fit = dict(zip(self.sites, self.fit.each, strict=False)).get(site)
        if fit is None:
            raise DocumentError(f"There is no fit of {site} alone: fit with by_site='each'.")
        if isinstance(fit, str):
            raise DocumentError(f"{site} alone has no fit. {printable(fit)}")
        return list(self._rows(fit, confidence))

    def meta(
        self,
        name: str,
        method: Method = "reml",
        *,
        hartung_knapp: bool = True,
        confidence: float = 0.95,
    ) -> Pooled:
        """Pool a coefficient of sites' own fits: ``fixed``, ``dl``, ``pm``, ``ml`` or ``reml``.

        DataSHIELD's and metafor's intervals are those without ``hartung_knapp``.
        """
        fits = [one for _, one in self._own_fits()]
        place = self._place(name)
        return pool(
            [float(one.coefficients[place]) for one in fits],
            [float(one.errors[place]) for one in fits],
            method,
            hartung_knapp=hartung_knapp,
            confidence=confidence,
        )

    def forest(self, name: str | None = None, confidence: float = 0.95) -> Forest:
        """Return what a forest plot shows: all coefficients, or one at each site and pooled."""
        if name is None:
            shown = [r for r in self.rows(confidence) if r.name != "(Intercept)"]
            labels = [row.name for row in shown]
        else:
            place = self._place(name)
            fits = self._own_fits()
            shown = [list(self._rows(one, confidence))[place] for _, one in fits]
            shown.append(list(self.rows(confidence))[place])
            labels = [*(site for site, _ in fits), "pooled"]
        ratio = self.ratio is not None
        return Forest(
            tuple(labels),
            tuple(r.ratio if ratio else r.estimate for r in shown),
            tuple(r.ratio_low if ratio else r.low for r in shown),
            tuple(r.ratio_high if ratio else r.high for r in shown),
            self.ratio or "coefficient",
            1.0 if ratio else 0.0,
            ratio,
        )

    def plot(self, name: str | None = None, axes: Any = None) -> Any:
        """Draw ``forest`` with Matplotlib; ``UsageError`` where it isn't installed."""
        from researcher.plots import draw

        return draw(self.forest(name), axes)

    def _own_fits(self) -> list[tuple[str, Fit]]:
        found = [
            (site, one)
            for site, one in zip(self.sites, self.fit.each, strict=False)
            if isinstance(one, Fit) and one.converged
        ]
        if not found:
            raise DocumentError("There are no fits of single sites: fit with by_site='each'.")
        return found

    def _place(self, name: str) -> int:
        if name not in self.columns:
            raise KeyError(name)
        return self.columns.index(name)

    # ---- shown ---------------------------------------------------------------------------------

    @property
    def formula(self) -> str:
        """The model as R would write it."""
        return summaries.formula(self.model)

    @property
    def notes(self) -> list[str]:
        """What a reader must know beside the figures, in sentences."""
        said = [f"{m.site} is not in the model ({m.sentence or m.state})." for m in self.missing]
        said += absent_note((m.state for m in self.missing), self.absent_share, "model")
        if self.missing_share:
            said.append(
                f"{percent(self.missing_share)} of the subjects are at hospitals with too few for "
                "this model; to leave them out may bias it."
            )
        if not self.fit.converged:
            said.append(
                "The fit did not converge: a level or a combination may tell the outcome apart "
                "perfectly. Its figures are not estimates."
            )
        if self.secure:
            said.append("By secure sums: nobody saw the sums of a single hospital.")
        if self.is_mixed and self.fit.site_variance == 0:
            said.append(
                "The variance between sites is estimated as zero: a pooled fit is the same."
            )
        if self.fit.clusters and self.fit.clusters < FEW_CLUSTERS:
            said.append(
                f"Standard errors by {self.fit.clusters} sites: of fewer than {FEW_CLUSTERS} they "
                "tend to be too small, though intervals have one degree of freedom less than sites."
            )
        if self.model.robust is not None and self.model.family == "cox" and not self.fit.each:
            said.append("The likelihood ratio and score tests aren't robust; Wald's are.")
        if self.model.family == "cox" and not self.fit.each:
            said.append("Stratified by site: each has a baseline hazard of its own.")
        said += summaries.spline_places(self)
        for site, one in zip(self.sites, self.fit.each, strict=False):
            if isinstance(one, str):
                said.append(f"{site} alone has no fit. {printable(one)}")
            elif not one.converged:
                said.append(f"{site} alone has no fit: it did not converge.")
        return said

    @property
    def methods(self) -> str:
        """A paragraph fit for a paper: what was fitted, to whom, how, and how it was protected."""
        return summaries.methods(self)

    def table(self, confidence: float = 0.95) -> Table:
        """Return the coefficients as a table that fits 80 columns."""
        return summaries.table(self, confidence)

    def printed(self, confidence: float = 0.95) -> Group:
        """Return all that is shown of it."""
        lines = [*summaries.lines(self), *self.notes]
        return Group(
            Text(self.formula),
            Text(""),
            self.table(confidence),
            Text(""),
            *(Text(line) for line in lines),
        )

    def text(self, confidence: float = 0.95) -> str:
        """Return all that is shown of it, for a terminal of 80 columns."""
        return as_text(self.printed(confidence))

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return as_html(self.printed())


def _exponential(value: float) -> float:
    return math.exp(min(value, 700.0))


def _quadratic(b: Vector, v: Matrix, clusters: int) -> float:
    """Return Wald's statistic; NaN where a covariance by few sites can't tell it."""
    import numpy as np

    if clusters and len(b) >= clusters:
        return math.nan
    return float(b @ np.linalg.solve(v, b))


def _chi_squared(name: str, statistic: float, degrees: int) -> ChiSquared:
    from scipy.stats import chi2

    return ChiSquared(name, statistic, degrees, float(chi2(degrees).sf(statistic)))
