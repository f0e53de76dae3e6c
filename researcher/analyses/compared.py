"""Groups' numbers compared: t tests, analyses of variance, and tests of ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from contract.errors import DocumentError
from contract.statistics import balance, mean_tests, quantiles, rank_tests
from contract.statistics.estimates import CONFIDENCE, Estimate, HypothesisTest
from contract.work import Statistic
from researcher.analyses.groups import ALL, counts_of, moments_of, pair, remarks, variable_of
from researcher.analyses.numbers import QUARTILES, bars
from researcher.findings import Cell, Finding, interval, p_value
from researcher.plots import Forest
from researcher.questions import mean
from researcher.statistics import StatisticsAnswer

_PAIRS_SHOWN = 10


def ask_means(variable: str, by: str) -> list[Statistic]:
    """Return what t tests and analyses of variance are worked out from."""
    return [mean(variable, by)]


def means(
    answer: StatisticsAnswer,
    alternative: mean_tests.Alternative = "two-sided",
    null: float = 0.0,
    confidence: float = CONFIDENCE,
) -> Finding:
    """Return each group's mean with its interval, and its t test against ``null``."""
    part = answer.parts[0]
    groups = moments_of(part, answer.project)
    tests: dict[str, HypothesisTest] = {}
    rows: list[tuple[Cell, ...]] = []
    for group, m in groups.items():
        of = "" if group == ALL else group
        plain = mean_tests.one_sample_t(m, confidence=confidence)
        tests[of] = mean_tests.directed(plain, alternative, null, confidence)
        ends = _ends(tests[of].estimate)
        figures = (m.standard_deviation, tests[of].p_value)
        rows.append((of, m.mean, *ends, *figures, m.n, m.missing))
    name = part.statistic.variable
    return Finding(
        title=f"Mean of {name}, tested against {null:g}",
        columns=("group", "mean", "conf.low", "conf.high", "SD", "p.value", "n", "missing"),
        rows=tuple(rows),
        result=tests,
        answers=(answer,),
        about="Means have Student's intervals, and were compared with a value by one-sample t "
        "tests.",
        figure=_forest([(row[0] or name, *row[1:]) for row in rows], name),
        remarks=remarks(answer, *(test.note for test in tests.values())),
        figures=tuple(tests.items()),
        confidence=confidence,
    )


def t_test(
    answer: StatisticsAnswer,
    by: str,
    *,
    equal_variances: bool,
    alternative: mean_tests.Alternative = "two-sided",
    null: float = 0.0,
    confidence: float = CONFIDENCE,
) -> Finding:
    """Return a t test of two groups' means: Welch's, or Student's."""
    part = answer.parts[0]
    groups = moments_of(part, answer.project)
    first, second = pair(groups, by)
    make = mean_tests.student_t if equal_variances else mean_tests.welch_t
    plain = make(groups[first], groups[second], confidence)
    found = mean_tests.directed(plain, alternative, null, confidence)
    effects = [
        (f"{first} and {second}", measure(groups[first], groups[second], confidence))
        for measure in (balance.hedges_g, balance.of_numbers)
    ]
    name = part.statistic.variable
    rows: list[tuple[Cell, ...]] = [
        (f"mean {name}, {g}", m.mean, *_ends(mean_tests.mean_interval(m, confidence)), m.n)
        for g, m in groups.items()
    ]
    if found.estimate is not None:
        low, high = found.estimate.low, found.estimate.high
        n = sum(m.n for m in groups.values())
        rows.append((f"{first} less {second}", found.estimate.value, low, high, n))
    return Finding(
        title=f"{name} by {by}: {tested(found)}",
        columns=("figure", "value", "conf.low", "conf.high", "n"),
        rows=tuple(rows),
        result=found,
        answers=(answer,),
        about=f"Means were compared by {found.name}.",
        figure=_forest(rows, name),
        remarks=remarks(answer, found.note),
        figures=((by, found), *effects),
        confidence=confidence,
    )


def _ends(estimate: object) -> tuple[float, float]:
    return getattr(estimate, "low", math.nan), getattr(estimate, "high", math.nan)


def _forest(rows: Sequence[tuple[Cell, ...]], name: str) -> Forest:
    values, lows, highs = (tuple(float(row[i]) for row in rows) for i in (1, 2, 3))
    return Forest(tuple(str(row[0]) for row in rows), values, lows, highs, name)


def tested(found: HypothesisTest) -> str:
    """Return a test in a line, as "Welch's t test: t = 2.1, 88.4 degrees, p = 0.039"."""
    if math.isnan(found.statistic):
        return f"{found.name}: {found.note or 'undefined'}"
    degrees = " and ".join(f"{d:.5g}" for d in found.degrees)
    degrees = f", {degrees} degrees of freedom" if degrees else ""
    p = p_value(found.p_value)
    return f"{found.name}: {found.statistic:.4g}{degrees}, p {p if p[0] == '<' else '= ' + p}"


def anova(
    answer: StatisticsAnswer,
    by: str,
    *,
    equal_variances: bool,
    adjust: str = "holm",
    confidence: float = CONFIDENCE,
) -> Finding:
    """Return a one-way analysis of variance, Welch's unless variances are held to be equal.

    Pairs of groups are compared, p adjusted as ``estimates.adjusted`` has it.
    """
    part = answer.parts[0]
    groups = moments_of(part, answer.project)
    held = list(groups.values())
    classic = mean_tests.anova(held)
    found = classic.test if equal_variances else mean_tests.welch_anova(held)
    kind: Literal["student", "welch"] = "student" if equal_variances else "welch"
    pairs = mean_tests.pairwise(held, kind, adjust, confidence)
    by_whom = "" if adjust == "none" else f" by {method_named(adjust)}"
    names = list(groups)
    compared = [(f"{names[p.first]} less {names[p.second]}", p.test, p.adjusted_p) for p in pairs]
    said = [
        f"{of}: {interval(e.value, e.low, e.high)}, p{by_whom} {p_value(p)}"
        for of, t, p in compared[:_PAIRS_SHOWN]
        if (e := t.estimate) is not None and len(held) > 2
    ]
    of_pairs = f", p values of pairs of groups adjusted{by_whom}" if said and by_whom else ""
    name = part.statistic.variable
    rows = tuple(
        (group, m.mean, *_ends(mean_tests.mean_interval(m, confidence)), m.standard_deviation, m.n)
        for group, m in groups.items()
    )
    return Finding(
        title=f"{name} by {by}: {tested(found)}",
        columns=("group", "mean", "conf.low", "conf.high", "SD", "n"),
        rows=rows,
        result=classic if equal_variances else found,
        answers=(answer,),
        about=f"Means were compared by {found.name}{of_pairs}.",
        figure=_forest(rows, name),
        remarks=remarks(answer, found.note, f"eta squared {classic.eta_squared:.3g}", *said),
        figures=(
            (by, found),
            (by, Estimate("eta squared", classic.eta_squared)),
            (by, mean_tests.bartlett(held)),
            *(
                (of, replace(t, name=f"{t.name}, p{by_whom}" if by_whom else t.name, p_value=p))
                for of, t, p in compared
            ),
        ),
        confidence=confidence,
    )


def method_named(adjust: str) -> str:
    """Return a method of ``estimates.adjusted`` as its authors are called."""
    return adjust.title().replace("-", " and ")


def ranks(answer: StatisticsAnswer, by: str, confidence: float = CONFIDENCE) -> Finding:
    """Return Mann and Whitney's test of two groups, or Kruskal and Wallis' of more, on bins."""
    part = answer.parts[0]
    groups = counts_of(part)
    if len(groups) < 2:
        raise DocumentError(f"Two groups of {by} or more are compared.")
    ordered = [rank_tests.ordered(counts) for counts in groups.values()]
    if len(ordered) == 2:
        found = rank_tests.mann_whitney(ordered[0], ordered[1], confidence=confidence)
    else:
        found = rank_tests.kruskal_wallis(ordered)
    variable = variable_of(answer.project, part.statistic.variable)
    rows: list[tuple[Cell, ...]] = []
    for group, counts in groups.items():
        held = quantiles.of_counts(counts, variable, QUARTILES)
        rows.append((group, *(q.value for q in held), counts.n))
    said = [f"By bins: on the values themselves p lies between {found.least_p:.3g} and "
            f"{found.most_p:.3g}."]  # fmt: skip
    if found.test.estimate is not None:
        e = found.test.estimate
        said.append(f"{e.name}: {e.value:.3g} ({e.low:.3g} to {e.high:.3g})")
    return Finding(
        title=f"{variable.name} by {by}: {tested(found.test)}",
        columns=("group", "Q1", "median", "Q3", "n"),
        rows=tuple(rows),
        result=found,
        answers=(answer,),
        about=f"Groups were compared by {found.test.name} on the dictionary's grid.",
        figure=bars(answer, part),
        remarks=remarks(answer, *said, found.test.note),
        figures=((by, found.test),),
        confidence=confidence,
    )
