"""Shares of categories' levels with intervals, and what a yes-or-no test is worth."""

from __future__ import annotations

import math

import numpy as np

from contract.documents import Project
from contract.errors import DocumentError
from contract.statistics import evaluation, proportions
from contract.statistics.estimates import CONFIDENCE, Estimate, HypothesisTest
from contract.work import Statistic
from researcher.analyses.crosstabs import shaped
from researcher.analyses.groups import ALL, counts_of, remarks, two_levels, variable_of
from researcher.findings import Cell, Finding, interval
from researcher.plots import Heat
from researcher.questions import crosstab, levels
from researcher.statistics import StatisticsAnswer


def ask_shares(project: Project, variable: str, by: str | None) -> list[Statistic]:
    """Return what shares are worked out from."""
    if variable_of(project, variable).kind != "category":
        raise DocumentError(f"{variable} isn't a category; derive one by bins for a share.")
    return [levels(variable, by)]


def shares(answer: StatisticsAnswer, confidence: float = CONFIDENCE) -> Finding:
    """Return each level's share, of each group, with Wilson's and the exact interval."""
    part = answer.parts[0]
    variable = variable_of(answer.project, part.statistic.variable)
    found: dict[tuple[str, str], Estimate] = {}
    rows: list[tuple[Cell, ...]] = []
    missing = []
    for group, counts in counts_of(part).items():
        of = "" if group == ALL else group
        n = sum(max(count, 0) for count in counts.counts)
        for level, count in zip(variable.levels, counts.counts, strict=True):
            one = proportions.wilson(count, n, confidence)
            exact = proportions.clopper_pearson(count, n, confidence)
            found[group, level] = one
            ends = (one.low, one.high, exact.low, exact.high)
            rows.append((of, level, count, n, one.value, *ends))
        if counts.missing:
            missing.append(f"{f'{of}: ' if of else ''}{counts.missing} lack {variable.name}.")
    return Finding(
        title=f"Shares of {variable.name}",
        columns=(
            *("group", "level", "count", "n", "share"),
            *("conf.low", "conf.high", "exact.low", "exact.high"),
        ),
        rows=tuple(rows),
        result=found,
        answers=(answer,),
        about="Shares have Wilson's score intervals, and exact ones after Clopper and Pearson.",
        remarks=remarks(answer, *missing),
        confidence=confidence,
    )


def ask_accuracy(project: Project, test: str, outcome: str, by: str | None) -> list[Statistic]:
    """Return what a test's accuracy is worked out from: its crosstab with the truth.

    Both have two levels, or the same ones.
    """
    held = variable_of(project, test), variable_of(project, outcome)
    if len(held[0].levels) < 3 or held[0].levels != held[1].levels:
        held = two_levels(project, test), two_levels(project, outcome)
    return [crosstab(held[0].name, held[1].name, by=by)]


def accuracy(answer: StatisticsAnswer, confidence: float = CONFIDENCE) -> Finding:
    """Return sensitivity, specificity, predictive values and likelihood ratios, of each group.

    A test is positive, and an outcome is there, where it has its category's second level. Of more
    levels each is a class that is told, or not: see ``classes``.
    """
    part = answer.parts[0]
    test, outcome = (variable_of(answer.project, name) for name in part.statistic.variables)
    if len(outcome.levels) > 2:
        return classes(answer, confidence)
    rows: list[tuple[Cell, ...]] = []
    results: dict[str, evaluation.Accuracy] = {}
    figures: list[tuple[str, Estimate | HypothesisTest]] = []
    for group in counts_of(part):
        table = shaped(part, answer.project, group)[::-1, ::-1]
        found = evaluation.accuracy(table, confidence)
        results[group] = found
        of = "" if group == ALL else group
        told = [
            found.sensitivity,
            found.specificity,
            found.positive_predictive_value,
            found.negative_predictive_value,
            found.accuracy,
            found.prevalence,
            found.positive_likelihood_ratio,
            found.negative_likelihood_ratio,
            Estimate("balanced accuracy", found.balanced_accuracy),
            Estimate("F1", found.f1),
            Estimate("Youden's J", found.youden),
            Estimate("Matthews' correlation", found.matthews),
        ]
        rows += [(of, e.name, e.value, e.low, e.high, float(table.sum())) for e in told]
        figures += [(of, e) for e in told]
    first = shaped(part, answer.project, next(iter(results)))
    return Finding(
        title=f"{test.name} = {test.levels[1]} for {outcome.name} = {outcome.levels[1]}",
        columns=("group", "figure", "value", "conf.low", "conf.high", "n"),
        rows=tuple(rows),
        result=results,
        answers=(answer,),
        about="Proportions have Wilson's score intervals, likelihood ratios those of Simel, Samsa "
        "and Matchar; predictive values hold at this prevalence.",
        figure=Heat(test.levels, outcome.levels, tuple(map(tuple, first.tolist()))),
        remarks=remarks(answer, *(e.note for _, e in figures if isinstance(e, Estimate))),
        figures=tuple(figures),
        confidence=confidence,
    )


def classes(answer: StatisticsAnswer, confidence: float = CONFIDENCE) -> Finding:
    """Return how well each class is told: precision, recall and F1, and their means; accuracy."""
    part = answer.parts[0]
    called, truth = (variable_of(answer.project, name) for name in part.statistic.variables)
    rows: list[tuple[Cell, ...]] = []
    results: dict[str, evaluation.Confusion] = {}
    figures: list[tuple[str, Estimate | HypothesisTest]] = []
    for group in counts_of(part):
        found = evaluation.confusion(shaped(part, answer.project, group).T, confidence)
        results[group] = found
        of = "" if group == ALL else group
        reports = [*found.classes, found.macro, found.weighted]
        for name, one in zip((*truth.levels, "mean", "weighted mean"), reports, strict=True):
            rows.append((of, name, one.precision, one.recall, one.f1, one.support))
        figures.append((of, found.accuracy))
    first = shaped(part, answer.project, next(iter(results)))
    said = [
        f"{f'{of}: ' if of else ''}accuracy {interval(one.value, one.low, one.high)}"
        for of, one in figures
        if isinstance(one, Estimate)
    ]
    return Finding(
        title=f"{called.name} for {truth.name}",
        columns=("group", "class", "precision", "recall", "F1", "n"),
        rows=tuple(rows),
        result=results,
        answers=(answer,),
        about="Each class was compared with all others: precision is the share of those called it "
        "who are it, recall the share of those who are it that are called it. Accuracy has "
        "Wilson's interval.",
        figure=Heat(called.levels, truth.levels, tuple(map(tuple, first.tolist()))),
        remarks=remarks(answer, *said),
        figures=tuple(figures),
        confidence=confidence,
    )


def youden(found: evaluation.Roc) -> tuple[float, float, float]:
    """Return the threshold at which sensitivity + specificity is greatest, and these two."""
    rise = np.array(found.curve.y) - np.array(found.curve.x)
    if np.isnan(rise).all():
        return (math.nan,) * 3
    best = int(np.nanargmax(rise))
    return found.curve.thresholds[best], found.curve.y[best], 1 - found.curve.x[best]
