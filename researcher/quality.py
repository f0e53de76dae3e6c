"""A report on data's quality and whom it represents, by the four domains of PROBAST.

Risk of bias of a prediction model is judged in the domains participants, predictors, outcome and
analysis (Wolff et al. 2019, Ann Intern Med 170:51). Figures can tell a part of that; each domain
says what they don't. Events per parameter: below 10 a model is likely to be overfitted, from 20 on
that is of little concern (Moons et al. 2019, Ann Intern Med 170:W1, 4.1).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Group
from rich.table import Table
from rich.text import Text

from contract.dictionary import Variable
from contract.documents import Project
from contract.errors import UsageError
from contract.statistics import balance, crosstabs, mean_tests
from contract.statistics.summaries import Counts, Moments
from contract.work import Statistic
from researcher.analyses.groups import counts_of, moments_of, remarks, variable_of
from researcher.findings import Cell, Finding, shown
from researcher.questions import histogram, levels, mean
from researcher.reference import Reference
from researcher.statistics import PartAnswer, StatisticsAnswer

Domain = Literal["participants", "predictors", "outcome", "analysis"]
DOMAINS: Mapping[Domain, str] = {
    "participants": "Not told by figures: who was eligible and why some weren't asked.",
    "predictors": "Not told by figures: whether they were measured alike, and before the outcome.",
    "outcome": "Not told by figures: how it was ascertained, and by whom who knew what.",
    "analysis": "Not told by figures: how predictors were chosen, and whether it was validated.",
}
SOME_MISSING, MUCH_MISSING = 0.05, 0.20
APART, FAR_APART = 0.1, 0.25
FEW_EVENTS, ENOUGH_EVENTS = 10.0, 20.0
BY_CHANCE = 0.05
"""A difference of sites is of concern where its p value, times the pairs of sites, is below."""
SMALL_EVENTS = 100
"""Events below which a model can't be validated with any precision (Collins 2016)."""
_MANY = 10**9
"""Of a reference population: so many that its own chance plays no part."""


@dataclass(frozen=True)
class Plan:
    """What is to be modelled: an outcome, of a category its last level being the event, and by how
    many parameters. None of them: one for each predictor, of a category one for each level but one.
    """

    outcome: str | None = None
    predictors: Sequence[str] = ()
    parameters: int | None = None


@dataclass(frozen=True)
class Mark:
    """One figure, in which domain, and what it means: "" is nothing to say."""

    domain: Domain
    what: str
    of: str
    value: float
    concern: Literal["", "some", "high", "not told"]
    sentence: str = ""


@dataclass(frozen=True)
class QualityReport(Finding):
    """The report: ``result`` are the marks, in the order of the domains."""

    def printed(self) -> Group:
        """Return it as one page: each domain with its figures and what they don't tell."""
        shown_: list[Table | Text] = [Text(self.title)]
        for domain, untold in DOMAINS.items():
            marks = [mark for mark in self.result if mark.domain == domain]
            worst = next((c for c in ("high", "some") if any(m.concern == c for m in marks)), "no")
            table = Table(
                title=f"{domain}: {worst} concern", title_justify="left", title_style="bold"
            )
            for name in ("figure", "of", "value", "concern"):
                table.add_column(name, justify="right" if name == "value" else "left")
            for mark in marks:
                said = ": ".join(filter(None, (mark.concern, mark.sentence)))
                table.add_row(mark.what, mark.of, _value(mark), said)
            shown_ += [table] if marks else [Text(f"{domain}: nothing was asked")]
            shown_.append(Text(untold))
        sites = len({site for answer in self.answers for site in answer.answered})
        shown_.append(Text(f"{sites} sites, lane {self.lane}"))
        return Group(*shown_, *(Text(note) for note in self.notes))


def _value(mark: Mark) -> str:
    if math.isnan(mark.value):
        return ""
    if mark.what.startswith(("share", "event rate")):
        return f"{mark.value:.1%}"
    return f"{mark.value:.3g}" if mark.value != int(mark.value) else shown(mark.value)


# ---- the question --------------------------------------------------------------------------------


def ask_quality(
    project: Project, variables: Sequence[str], plan: Plan, by: str | None
) -> list[Statistic]:
    """Return one question: of each variable what it holds and misses, overall and by group."""
    names = list(dict.fromkeys((*variables, *plan.predictors)))
    if plan.outcome is not None and plan.outcome not in names:
        names.append(plan.outcome)
    found: list[Statistic] = []
    for name in names:
        variable = variable_of(project, name)
        if variable.kind == "category":
            found.append(levels(name))
        else:
            found += [mean(name), *([histogram(name)] if variable.bins else [])]
        if by is not None and name != by:
            found.append(levels(name, by) if variable.kind == "category" else mean(name, by))
    return found


# ---- the report ----------------------------------------------------------------------------------


def assess(
    answer: StatisticsAnswer,
    plan: Plan,
    reference: Reference,
    by: str | None = None,
    sizes: Mapping[str, int] | None = None,
    each: Mapping[str, StatisticsAnswer] | None = None,
) -> QualityReport:
    """Return the report on one answer.

    ``sizes``: how many subjects each site has, as listed. ``each``: the same question's answer of
    each site alone, where sites are to be compared.
    """
    marks = [
        *_participants(answer, sizes or {}),
        *_representation(answer, reference),
        *_between_sites(answer, plan, each or {}),
        *_variables(answer, plan, by),
        *_outcome(answer, plan, by),
        *_analysis(answer, plan),
    ]
    marks.sort(key=lambda mark: list(DOMAINS).index(mark.domain))
    rows: list[tuple[Cell, ...]] = [
        (m.domain, m.what, m.of, m.value, m.concern, m.sentence) for m in marks
    ]
    said = ""
    if "exact" in answer.lane:
        said = (
            "In exact answers whoever is left out to protect others counts as missing, and missing "
            "is told against the largest set of a release: a small share is not zero."
        )
    return QualityReport(
        title=f"Data quality and representativeness: {answer.project.title}",
        columns=("domain", "figure", "of", "value", "concern", "sentence"),
        rows=tuple(rows),
        result=tuple(marks),
        answers=(answer, *(each or {}).values()),
        about="Completeness, plausibility and representativeness were assessed by the domains of "
        "PROBAST. Differences from the reference population are standardised mean differences, of "
        "categories Mahalanobis distances.",
        remarks=remarks(answer, said),
    )


def _participants(answer: StatisticsAnswer, sizes: Mapping[str, int]) -> Iterator[Mark]:
    exact = [part for part in answer.parts if part.part.lane == "exact"]
    n = max((_total(part, answer.project) for part in exact or answer.parts), default=0)
    yield Mark("participants", "subjects", "all sites", n, "" if n else "high")
    there, gone = len(answer.answered), len(answer.missing)
    for site in answer.missing:
        yield Mark("participants", "site not there", site.site, math.nan, "some", site.state)
    yield Mark("participants", "sites", f"of {there + gone}", there, "some" if gone else "")
    if answer.missing and answer.absent_share:
        what, of = "share at sites not there", f"all {there + gone} sites"
        yield Mark("participants", what, of, answer.absent_share, _missing(answer.absent_share))
    held = max((part.missing_share for part in answer.parts), default=0.0)
    if held:
        yield Mark("participants", "share withheld", "worst variable", held, _missing(held))
    known = {site: size for site, size in sizes.items() if site in answer.answered}
    whole = sum(known.values())
    if len(known) > 1 and whole:
        largest = max(known, key=lambda site: known[site])
        share = known[largest] / whole
        concern: Literal["", "some"] = "some" if share > 0.5 else ""
        said = "one site is most of it" if concern else ""
        yield Mark("participants", "share of largest site", largest, share, concern, said)


def _representation(answer: StatisticsAnswer, reference: Reference) -> Iterator[Mark]:
    what = "SMD from reference"
    for name, (middle, spread) in reference.numbers.items():
        part = _part(answer, "moments", name)
        if part is None:
            yield Mark("participants", what, name, math.nan, "not told")
            continue
        population = Moments(_MANY, 0, middle, spread**2 * (_MANY - 1))
        found = balance.of_numbers(moments_of(part, answer.project)["all"], population).value
        yield Mark("participants", what, name, found, *_apart(found))
    for name, shares in reference.shares.items():
        part = _part(answer, "levels", name)
        if part is None:
            yield Mark("participants", what, name, math.nan, "not told")
            continue
        known = variable_of(answer.project, name).levels
        unknown = sorted(set(shares) - set(known))
        if unknown:
            raise UsageError(f"The reference has a level of {name} that the dictionary hasn't.")
        population_ = [shares.get(level, 0.0) / sum(shares.values()) * _MANY for level in known]
        found = balance.of_levels(counts_of(part)["all"].counts, population_).value
        yield Mark("participants", what, name, found, *_apart(found))


def _between_sites(
    answer: StatisticsAnswer, plan: Plan, each: Mapping[str, StatisticsAnswer]
) -> Iterator[Mark]:
    """Yield how far the two sites that differ most are apart, and who misses most, by variable."""
    for part in answer.parts:
        statistic = part.statistic
        name = statistic.variable
        if statistic.by is not None or statistic.kind == "histogram":
            continue
        parts = {site: _part(one, statistic.kind, name) for site, one in each.items()}
        there = {site: one for site, one in parts.items() if one is not None}
        if len(there) < 2:
            continue
        held = {site: _groups(one, answer.project)["all"] for site, one in there.items()}
        pairs = list(itertools.combinations(held, 2))
        apart = {(a, b): _difference(held[a], held[b]) for a, b in pairs}
        told = {pair: d for pair, d in apart.items() if not math.isnan(d[0])}
        if told:
            # Of many pairs of small sites some are far apart though none differs.
            differ = {pair: d for pair, d in told.items() if d[1] * len(pairs) < BY_CHANCE}
            of = differ if any(_apart(d[0])[0] for d in differ.values()) else told
            pair = max(of, key=lambda one: of[one][0])
            value = of[pair][0]
            concern, _ = _apart(value)
            said = f"{pair[0]}, {pair[1]}" if concern else ""
            if concern and pair not in differ:
                concern, said = "", f"within chance: {said}"
            yield Mark("participants", "SMD between sites", name, value, concern, said)
        shares = {site: _share_missing(one, answer.project) for site, one in there.items()}
        most = max(shares, key=lambda site: shares[site])
        if _missing(shares[most]):
            domain: Domain = "outcome" if name == plan.outcome else "predictors"
            share = shares[most]
            yield Mark(domain, f"share missing at {most}", name, share, _missing(share))


def _difference(a: Moments | Counts, b: Moments | Counts) -> tuple[float, float]:
    """Return how far two sites are apart, and the p value of Welch's or Pearson's test of it."""
    if isinstance(a, Moments) and isinstance(b, Moments):
        return abs(balance.of_numbers(a, b).value), mean_tests.welch_t(a, b).p_value
    if isinstance(a, Counts) and isinstance(b, Counts):
        test = crosstabs.chi_squared([a.counts, b.counts], continuity=False).test
        return abs(balance.of_levels(a.counts, b.counts).value), test.p_value
    return math.nan, math.nan


def _variables(answer: StatisticsAnswer, plan: Plan, by: str | None) -> Iterator[Mark]:
    for part in answer.parts:
        statistic = part.statistic
        name = statistic.variable
        if name == plan.outcome or statistic.by is not None:
            continue
        if part.part.withheld:
            yield Mark("predictors", statistic.kind, name, math.nan, "not told")
            continue
        if statistic.kind == "histogram":
            if part.part.lane != "exact":
                continue  # noise alone puts some out of range
            counts = counts_of(part)["all"]
            outside = max(counts.below, 0) + max(counts.above, 0)
            share = outside / counts.n if counts.n > 0 else math.nan
            if outside:
                concern: Literal["some", "high"] = "high" if share > 0.01 else "some"
                yield Mark("predictors", "share out of range", name, share, concern)
            continue
        share = _share_missing(part, answer.project)
        yield Mark("predictors", "share missing", name, share, _missing(share))
        yield from _between_groups(answer, "predictors", name, by)


def _between_groups(
    answer: StatisticsAnswer, domain: Domain, name: str, by: str | None
) -> Iterator[Mark]:
    """Yield how far groups are apart in what they miss: that biases comparisons of them."""
    part = None if by is None else _part(answer, None, name, by)
    if part is None:
        return
    shares = {
        group: held.missing / (held.n + held.missing)
        for group, held in _groups(part, answer.project).items()
        if held.n + held.missing > 0
    }
    if len(shares) > 1:
        gap = max(shares.values()) - min(shares.values())
        most = max(shares, key=lambda group: shares[group])
        if gap > SOME_MISSING:
            said = f"most in {most}"
            yield Mark(domain, f"share missing, gap by {by}", name, gap, _missing(gap), said)


def _outcome(answer: StatisticsAnswer, plan: Plan, by: str | None) -> Iterator[Mark]:
    if plan.outcome is None:
        return
    variable = variable_of(answer.project, plan.outcome)
    kind = "levels" if variable.kind == "category" else "moments"
    part = _part(answer, kind, plan.outcome)
    if part is None:
        yield Mark("outcome", kind, plan.outcome, math.nan, "not told")
        return
    share = _share_missing(part, answer.project)
    yield Mark("outcome", "share missing", plan.outcome, share, _missing(share))
    yield from _between_groups(answer, "outcome", plan.outcome, by)
    if variable.kind == "category":
        events, n = _events(part)
        yield Mark("outcome", "events", variable.levels[-1], events, _few(events))
        if n:
            yield Mark("outcome", "event rate", variable.levels[-1], events / n, "")


def _analysis(answer: StatisticsAnswer, plan: Plan) -> Iterator[Mark]:
    known = [
        (part, _total(part, answer.project), _known(part, answer.project))
        for part in answer.parts
        if part.statistic.by is None and part.statistic.kind != "histogram"
        if not part.part.withheld
    ]
    if known:
        worst, whole, n = min(known, key=lambda one: one[2])
        lost = 1 - n / max(total for _, total, _ in known) if whole else math.nan
        name = worst.statistic.variable
        said = f"at least: {name} alone" if lost else ""
        yield Mark("analysis", "share of incomplete cases", "any", lost, _missing(lost), said)
    if plan.outcome is None or not (plan.predictors or plan.parameters):
        return
    variable = variable_of(answer.project, plan.outcome)
    kind = "levels" if variable.kind == "category" else "moments"
    part = _part(answer, kind, plan.outcome)
    if part is None:
        return
    number = plan.parameters or sum(
        _parameters(variable_of(answer.project, name)) for name in plan.predictors
    )
    if variable.kind == "category":
        events, n = _events(part)
        per = min(events, n - events) / number
        what = "events per parameter"
    else:
        per, what = _known(part, answer.project) / number, "subjects per parameter"
    concern, said = _enough(per)
    of = f"{number} parameter{'' if number == 1 else 's'}"
    yield Mark("analysis", what, of, per, concern, said)


def _parameters(variable: Variable) -> int:
    return max(len(variable.levels) - 1, 1)


# ---- figures -------------------------------------------------------------------------------------


def _part(
    answer: StatisticsAnswer, kind: str | None, name: str, by: str | None = None
) -> PartAnswer | None:
    """Return the part of a statistic; None where it wasn't asked or isn't told."""
    for part in answer.parts:
        asked = part.statistic
        if (asked.variable, asked.by) == (name, by) and kind in (None, asked.kind):
            return None if part.part.withheld else part
    return None


def _groups(part: PartAnswer, project: Project) -> Mapping[str, Moments | Counts]:
    if part.statistic.kind == "moments":
        return moments_of(part, project)
    return counts_of(part)


def _known(part: PartAnswer, project: Project) -> int:
    return sum(max(held.n, 0) for held in _groups(part, project).values())


def _total(part: PartAnswer, project: Project) -> int:
    if part.part.withheld:
        return 0
    held = _groups(part, project).values()
    return sum(max(one.n, 0) + max(one.missing, 0) for one in held)


def _share_missing(part: PartAnswer, project: Project) -> float:
    whole = _total(part, project)
    return 1 - _known(part, project) / whole if whole else math.nan


def _events(part: PartAnswer) -> tuple[int, int]:
    counts = [max(count, 0) for count in counts_of(part)["all"].counts]
    return counts[-1], sum(counts)


def _missing(share: float) -> Literal["", "some", "high"]:
    if math.isnan(share) or share <= SOME_MISSING:
        return ""
    return "some" if share <= MUCH_MISSING else "high"


def _apart(difference: float) -> tuple[Literal["", "some", "high"], str]:
    size = abs(difference)
    if math.isnan(size) or size <= APART:
        return "", ""
    return ("some", "") if size <= FAR_APART else ("high", "another population")


def _few(events: int) -> Literal["", "some"]:
    return "some" if events < SMALL_EVENTS else ""


def _enough(per: float) -> tuple[Literal["", "some", "high"], str]:
    if per < FEW_EVENTS:
        return "high", "below 10, likely overfitted"
    return ("some", "below 20") if per < ENOUGH_EVENTS else ("", "")
