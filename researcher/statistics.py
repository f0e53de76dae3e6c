"""A merged answer in statistics: tidy rows, a table for terminals and notebooks, receipts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.table import Table

from contract import wire_pb2 as wire
from contract.dictionary import Variable
from contract.documents import JOB_TYPE, Job, Project, printable
from contract.errors import DocumentError, SignatureError
from contract.receipts import Receipt
from contract.statistics import forms
from contract.statistics.answers import Noise, Part
from contract.statistics.noisy import estimate, estimate_comoments, estimate_shape
from contract.statistics.summaries import CoMoments, Counts, Moments, Shape
from contract.trust import TrustedDocuments
from contract.work import Statistic, StatisticsWork
from researcher.absent import absent_note, misses_too_much, part_notes
from researcher.receipts import check_answered, verify_receipts
from researcher.rendering import as_html, as_text

PLUS_MINUS = "With ±: noise is added; the truth is within it in 95 % of draws."


@dataclass(frozen=True)
class Row:
    """One figure of an answer. ``level`` is a category's level or a bin; ``group`` is of ``by``."""

    statistic: str
    variable: str
    group: str
    level: str
    value: float
    n: int
    lane: str = "exact"
    half_width: float = 0.0
    """With noise: the true value lies within so much of ``value`` in 95 % of draws. NaN when noise
    may be all there is, or when nothing is told."""


@dataclass(frozen=True)
class Missing:
    """A site that is not in the answer, or not in one statistic of it, and why."""

    site: str
    state: str
    sentence: str


@dataclass(frozen=True)
class Spent:
    """What a question cost at a site's privacy account, and what the project has left there."""

    site: str
    epsilon: float
    remaining: float


@dataclass(frozen=True)
class PartAnswer:
    """One statistic's merged answer, who is in it, and who withheld theirs."""

    statistic: Statistic
    part: Part
    answered: tuple[str, ...]
    withheld: tuple[str, ...]
    unnamed: int = 0
    """In a secure sum: how many of ``answered`` withheld theirs; nobody knows which."""
    missing_share: float = 0.0
    """Share of the sites' subjects, as listed, that sites withheld; of a secure sum, of sites."""
    secure: bool = False
    """Whether this is a secure sum, so that what is missing is told in sites."""
    partial: tuple[str, ...] = ()
    """Sites that are in some of the groups only, for their releases don't declare the others."""
    too_much_missing: bool = False
    """Whether there is no estimate since more is missing than the project allows."""
    too_much_missing_groups: tuple[str, ...] = ()
    """Groups that have no estimate for that reason, beside others that have one."""

    def moments(self, group: str = "") -> Moments:
        """Return a group's moments; ``KeyError`` when withheld or of another kind."""
        found = self.part.groups[group]
        if not isinstance(found, Moments):
            raise KeyError(group)
        return found

    def counts(self, group: str = "") -> Counts:
        """Return a group's counts; ``KeyError`` when withheld or of another kind."""
        found = self.part.groups[group]
        if not isinstance(found, Counts):
            raise KeyError(group)
        return found


@dataclass(frozen=True)
class StatisticsAnswer:
    """A whole answer: one ``PartAnswer`` for each statistic, in the order asked."""

    job: str
    parts: tuple[PartAnswer, ...]
    answered: tuple[str, ...]
    missing: tuple[Missing, ...]
    receipts: tuple[Receipt, ...]
    project: Project
    lane: str = "exact"
    """``exact``, ``dp``, or ``exact and dp``."""
    spent: tuple[Spent, ...] = ()
    """At each site that answered with noise."""
    absent_share: float = 0.0
    """Share of the subjects listed at all sites asked that are at sites in ``missing``."""

    @classmethod
    def from_result(
        cls, job: Job, project: Project, result: wire.JobResult, trusted: TrustedDocuments
    ) -> StatisticsAnswer:
        """Read a result, checking every receipt. ``SignatureError`` when one doesn't hold."""
        assert isinstance(job.work, StatisticsWork)
        if result.status.job != job.seal(JOB_TYPE).digest:
            raise SignatureError("The coordinator sent the result of another job.")
        receipts = verify_receipts(result.receipts, trusted)
        check_answered(receipts, result.answered, result.status.job)
        merged = forms.decode(result.statistics)
        if not len(merged) == len(result.parts) == len(job.work.ask):
            raise DocumentError("The coordinator's result has another length than the question.")
        return cls(
            job=result.status.job,
            parts=tuple(
                _part_answer(statistic, part, who, job.work.secure, project)
                for statistic, part, who in zip(job.work.ask, merged, result.parts, strict=True)
            ),
            answered=tuple(result.answered),
            missing=tuple(
                Missing(s.site, s.state, s.sentence)
                for s in result.status.sites
                if s.site not in result.answered
            ),
            receipts=tuple(receipts),
            project=project,
            lane=" and ".join(sorted({p.lane for p in merged if not p.withheld})) or "exact",
            spent=tuple(
                Spent(printable(s.site), s.account.spent, s.account.remaining)
                for s in result.accounts
            ),
            absent_share=result.absent_share,
        )

    def __getitem__(self, key: int | tuple[str, str]) -> PartAnswer:
        """Return a part by its place, or by (kind, variable)."""
        if isinstance(key, int):
            return self.parts[key]
        kind, variable = key
        for part in self.parts:
            if (part.statistic.kind, part.statistic.variable) == (kind, variable):
                return part
        raise KeyError(key)

    def rows(self) -> Iterator[Row]:
        """Yield every figure, tidy: one for each statistic, group and level."""
        for part in self.parts:
            yield from _rows(part, self.project)

    @property
    def notes(self) -> list[str]:
        """What is not in the answer, in sentences; empty when everybody is in everything."""
        said = [f"{m.site} is not in the answer ({m.sentence or m.state})." for m in self.missing]
        said += absent_note((m.state for m in self.missing), self.absent_share, "answer")
        for part in self.parts:
            said += part_notes(part, self.project)
        if "dp" in self.lane:
            said.append(PLUS_MINUS)
        for site in self.spent:
            said.append(
                f"{site.site}: epsilon {site.epsilon:.4g} spent; the project has "
                f"{site.remaining:.4g} left there."
            )
        return said

    def table(self) -> Table:
        """Return the answer as a table that fits 80 columns."""
        table = Table(title=f"{len(self.answered)} sites, lane {self.lane}")
        for column in ("variable", "statistic", "group", "level"):
            table.add_column(column, overflow="fold")
        table.add_column("value", justify="right")
        table.add_column("n", justify="right")
        for row in self.rows():
            table.add_row(
                row.variable, row.statistic, row.group, row.level, _value(row), str(row.n)
            )
        return table

    def __str__(self) -> str:
        return as_text(self.table(), *self.notes)

    def _repr_html_(self) -> str:
        return as_html(self.table(), *self.notes)


def _part_answer(
    statistic: Statistic, part: Part, who: wire.SitesOfPart, secure: bool, project: Project
) -> PartAnswer:
    """Return a part as read; without an estimate where the coordinator's own figures forbid one."""
    too_much = who.too_much_missing
    if not part.withheld and misses_too_much(
        who.missing_share, who.unnamed, len(who.answered), project
    ):
        part, too_much = Part({}, withheld=True), True
    return PartAnswer(
        statistic=statistic,
        part=part,
        answered=tuple(who.answered),
        withheld=tuple(who.withheld),
        unnamed=who.unnamed,
        missing_share=who.missing_share,
        secure=secure,
        partial=tuple(who.partial),
        too_much_missing=too_much,
        too_much_missing_groups=tuple(map(printable, who.too_much_missing_groups)),
    )


def _rows(part: PartAnswer, project: Project) -> Iterator[Row]:
    statistic = part.statistic
    variable = project.variable(statistic.variable)
    if part.part.withheld or variable is None:
        yield Row("withheld", statistic.variable, "", "", math.nan, 0)
        return
    if part.part.noise is not None:
        yield from _noisy_rows(part, part.part.noise, variable, project)
        return
    for group, summary in part.part.groups.items():
        name = " x ".join(statistic.variables)
        missing = Row("missing", name, group, "", summary.missing, summary.n)
        if isinstance(summary, Moments | Shape):
            for what, value in _moments(summary):
                yield Row(what, variable.name, group, "", value, summary.n)
            yield missing
            continue
        if isinstance(summary, CoMoments):
            yield from _comoments(statistic, group, summary)
            yield missing
            continue
        if statistic.kind == "count":
            yield Row("count", variable.name, group, "", summary.n, summary.n)
        elif statistic.kind == "crosstab":
            yield from _crossed(statistic, project, group, summary)
        elif statistic.kind == "levels":
            for level, counted in zip(variable.levels, summary.counts, strict=True):
                yield Row("count", variable.name, group, level, counted, summary.n)
        else:
            assert variable.minimum is not None
            assert variable.maximum is not None
            names = bins(variable.minimum, variable.maximum, len(summary.counts))
            outside = (
                (f"below {variable.minimum:g}", summary.below),
                (f"above {variable.maximum:g}", summary.above),
            )
            for level, counted in zip(names, summary.counts, strict=True):
                yield Row("count", variable.name, group, level, counted, summary.n)
            for level, counted in outside:
                if counted:
                    yield Row("count", variable.name, group, level, counted, summary.n)
        yield missing


def _moments(summary: Moments | Shape) -> Iterator[tuple[str, float]]:
    held = summary.moments if isinstance(summary, Shape) else summary
    yield "mean", held.mean
    yield "variance", held.variance
    yield "standard deviation", held.standard_deviation
    if isinstance(summary, Shape):
        yield "skewness", summary.skewness
        yield "excess kurtosis", summary.kurtosis


def _comoments(statistic: Statistic, group: str, summary: CoMoments) -> Iterator[Row]:
    """Yield each mean and variance, and the covariance and correlation of each pair."""
    products = summary.matrix
    names = statistic.variables
    degrees = summary.n - 1
    for i, name in enumerate(names):
        yield Row("mean", name, group, "", summary.means[i], summary.n)
    for i, j in itertools.combinations_with_replacement(range(len(names)), 2):
        value = float(products[i, j]) / degrees if degrees > 0 else math.nan
        what, with_ = ("covariance", names[j]) if i != j else ("variance", "")
        yield Row(what, names[i], group, with_, value, summary.n)
    for i, j in itertools.combinations(range(len(names)), 2):
        scale = math.sqrt(max(products[i, i] * products[j, j], 0.0))
        value = products[i, j] / scale if scale else math.nan
        yield Row("correlation", names[i], group, names[j], float(value), summary.n)


def _crossed(statistic: Statistic, project: Project, group: str, summary: Counts) -> Iterator[Row]:
    """Yield the count of each combination that anybody has."""
    variables = [v for n in statistic.variables if (v := project.variable(n)) is not None]
    name = " x ".join(statistic.variables)
    for levels, counted in zip(
        itertools.product(*map(place_names, variables)), summary.counts, strict=True
    ):
        if counted:
            yield Row("count", name, group, " / ".join(levels), counted, summary.n)


def place_names(variable: Variable) -> Sequence[str]:
    """Return the names of a variable's places in a crosstab."""
    if variable.kind == "category":
        return variable.levels
    if variable.minimum is None or variable.maximum is None or variable.bins is None:
        raise DocumentError(f"The dictionary gives {variable.name} no grid.")
    low, high = variable.minimum, variable.maximum
    return [*bins(low, high, variable.bins), f"below {low:g}", f"above {high:g}"]


def _noisy_rows(
    part: PartAnswer, noise: Noise, variable: Variable, project: Project
) -> Iterator[Row]:
    """Yield the figures of a part with noise, each with its half width."""
    widths = {term.figure: term.half_width for term in noise.terms}
    within = widths.get("counts", math.nan)
    names: Sequence[str] = [""]
    if part.statistic.kind == "levels":
        names = variable.levels
    elif part.statistic.kind == "histogram":
        names = place_names(variable)
    elif part.statistic.kind == "crosstab":
        crossed = [v for n in part.statistic.variables if (v := project.variable(n)) is not None]
        names = [" / ".join(levels) for levels in itertools.product(*map(place_names, crossed))]
    name = " x ".join(part.statistic.variables)
    for group, summary in part.part.groups.items():
        if isinstance(summary, Moments | Shape):
            for what, value, width in _noisy_moments(summary, noise, *_bounds(variable)):
                yield Row(what, variable.name, group, "", value, summary.n, "dp", width)
            continue
        if isinstance(summary, CoMoments):
            yield from _noisy_correlations(part.statistic, project, group, summary, noise)
            continue
        counts = [*summary.counts, summary.below, summary.above]
        for level, counted in zip(names, counts, strict=False):
            yield Row("count", name, group, level, counted, summary.n, "dp", within)


def _bounds(variable: Variable | None) -> tuple[float, float]:
    if variable is None or variable.minimum is None or variable.maximum is None:
        raise DocumentError("Noise on a variable that has no bounds.")
    return variable.minimum, variable.maximum


def _noisy_moments(
    summary: Moments | Shape, noise: Noise, low: float, high: float
) -> Iterator[tuple[str, float, float]]:
    """Yield what each figure is called, what it is, and its half width."""
    said = estimate(summary if isinstance(summary, Moments) else summary.moments, noise, low, high)
    yield "mean", said.mean, said.mean_half_width
    yield "standard deviation", said.standard_deviation, said.standard_deviation_half_width
    if isinstance(summary, Shape):
        shape = estimate_shape(summary, noise, low, high)
        yield "skewness", shape.skewness, shape.skewness_half_width
        yield "excess kurtosis", shape.kurtosis, shape.kurtosis_half_width


def _noisy_correlations(
    statistic: Statistic, project: Project, group: str, summary: CoMoments, noise: Noise
) -> Iterator[Row]:
    names = statistic.variables
    said = estimate_comoments(summary, noise, [_bounds(project.variable(n)) for n in names])
    for i, j in itertools.combinations(range(len(names)), 2):
        value, width = said.correlation[i, j], said.correlation_half_width[i, j]
        yield Row(
            "correlation", names[i], group, names[j], float(value), summary.n, "dp", float(width)
        )


def bins(low: float, high: float, number: int) -> Sequence[str]:
    """Return the names of ``number`` equal bins from ``low`` to ``high``."""
    width = (high - low) / number
    return [f"{low + i * width:g} to {low + (i + 1) * width:g}" for i in range(number)]


def _value(row: Row) -> str:
    if row.lane == "exact" or math.isnan(row.value):
        return _number(row.value)
    return f"{_number(row.value)} ± {row.half_width:.3g}"


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "undefined" if math.isnan(value) else str(value)
    return str(int(value)) if value == int(value) else f"{value:.6g}"
