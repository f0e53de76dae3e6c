"""How good predictions are, and how well raters agree."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from contract.dictionary import Variable
from contract.documents import Project
from contract.errors import DocumentError, UsageError
from contract.statistics import agreement, calibration, crosstabs, evaluation, reliability
from contract.statistics.estimates import CONFIDENCE, Estimate, HypothesisTest
from contract.work import Statistic
from researcher.analyses import shares
from researcher.analyses.compared import tested
from researcher.analyses.crosstabs import shaped
from researcher.analyses.groups import (
    ALL,
    comoments_of,
    counts_of,
    remarks,
    two_levels,
    variable_of,
)
from researcher.findings import Cell, Finding, interval
from researcher.plots import Curve, Curves, Heat
from researcher.questions import comoments, crosstab
from researcher.statistics import PartAnswer, StatisticsAnswer

FIGURES = ("figure", "value", "conf.low", "conf.high")


def line(estimate: Estimate) -> tuple[Cell, ...]:
    """Return an estimate as a row of ``FIGURES``."""
    return (estimate.name, estimate.value, estimate.low, estimate.high)


# ---- predictions ---------------------------------------------------------------------------------


def ask_scores(project: Project, score: str, outcome: str, by: str | None) -> list[Statistic]:
    """Return what is worked out of a score and what happened: counts on the score's grid."""
    two_levels(project, outcome)
    if variable_of(project, score).kind != "number":
        raise DocumentError(f"{score} isn't a number.")
    return [crosstab(score, outcome, by=by)]


def _grid(variable: Variable) -> NDArray[np.float64]:
    if variable.minimum is None or variable.maximum is None or variable.bins is None:
        raise DocumentError(f"The dictionary gives {variable.name} no grid.")
    return np.linspace(variable.minimum, variable.maximum, variable.bins + 1)


def _ordered(part: PartAnswer, project: Project, group: str) -> NDArray[np.float64]:
    """Return counts of a score by outcome, from low to high, what is outside the grid included."""
    table = shaped(part, project, group)
    return np.vstack([table[-2], table[:-2], table[-1]])


def roc(answer: StatisticsAnswer, confidence: float = CONFIDENCE) -> Finding:
    """Return the ROC curve and its area, of each group, with the error that the bins can make."""
    part = answer.parts[0]
    score, outcome = part.statistic.variables
    edges = _grid(variable_of(answer.project, score))
    rows: list[tuple[Cell, ...]] = []
    found: dict[str, evaluation.Roc] = {}
    figures: list[tuple[str, Estimate | HypothesisTest]] = []
    said = []
    for group in counts_of(part):
        table = _ordered(part, answer.project, group)
        one = evaluation.roc(edges, table[:, 1], table[:, 0], confidence=confidence)
        found[group] = one
        label = "" if group == ALL else group
        rows.append((label, one.auc.value, one.auc.low, one.auc.high, one.least, one.most,
                     float(table[:, 1].sum()), float(table[:, 0].sum())))  # fmt: skip
        said.append(one.auc.note)
        at, sensitivity, specificity = shares.youden(one)
        figures += [
            (label, one.auc),
            (label, Estimate("threshold by Youden's J", at)),
            (label, Estimate("sensitivity there", sensitivity)),
            (label, Estimate("specificity there", specificity)),
            (label, Estimate("average precision", _precision(edges, table))),
        ]
    positive, negative = two_levels(answer.project, outcome).levels[::-1]
    return Finding(
        title=f"ROC of {score} for {outcome} = {positive}",
        columns=(
            *("group", "AUC", "conf.low", "conf.high", "bins.low", "bins.high"),
            *(positive, negative),
        ),
        rows=tuple(rows),
        result=found,
        answers=(answer,),
        about="The area under the ROC curve is of counts on the score's grid; it lies within the "
        "bounds given on the scores themselves. Intervals by DeLong's standard error, on the logit "
        "scale.",
        figure=Curves(
            tuple(
                Curve("" if g == ALL else g, one.curve.x, one.curve.y) for g, one in found.items()
            ),
            "1 - specificity",
            "sensitivity",
            diagonal=True,
            unit_square=True,
        ),
        remarks=remarks(answer, *said),
        figures=tuple(figures),
        confidence=confidence,
    )


def _precision(edges: NDArray[np.float64], table: NDArray[np.float64]) -> float:
    return evaluation.precision_recall(edges, table[:, 1], table[:, 0]).average_precision


def calibrated(answer: StatisticsAnswer, confidence: float = CONFIDENCE) -> Finding:
    """Return what was predicted and what happened, bin by bin, and the figures that sum it up."""
    part = answer.parts[0]
    score, outcome = part.statistic.variables
    edges = _grid(variable_of(answer.project, score))
    table = shaped(part, answer.project)
    outside = float(table[-2:].sum())
    found = calibration.calibration(
        edges, table[:-2, 1], table[:-2, 0], fitted=False, confidence=confidence
    )
    brier = calibration.brier_of_bins(edges, table[:-2, 1], table[:-2, 0])
    rows = tuple(
        (f"{b.low:g} to {b.high:g}", b.n, b.predicted, b.observed.value, b.observed.low,
         b.observed.high)
        for b in found.bins
    )  # fmt: skip
    said = [
        f"{e.name}: {e.value:.3g} ({e.low:.3g} to {e.high:.3g})"
        for e in (found.ratio, found.intercept, found.slope)
    ]
    said.append(f"Brier score {brier.value:.4f} ({brier.least:.4f} to {brier.most:.4f} by bins)")
    slope = calibration.discrimination_slope_of_bins(
        edges, table[:-2, 1], table[:-2, 0], confidence
    )
    said.append(f"discrimination slope {interval(slope.value, slope.low, slope.high)}")
    said.append(tested(found.hosmer_lemeshow))
    if outside:
        said.append(f"{outside:g} predictions lie outside the grid and are left out.")
    return Finding(
        title=f"Calibration of {score} for {outcome}",
        columns=("predicted", "n", "middle", "observed", "conf.low", "conf.high"),
        rows=rows,
        result=found,
        answers=(answer,),
        about="Predictions were compared with outcomes on the predictions' grid; calibration slope "
        "and intercept are those of a logistic regression on the logit of the bins' middles, and "
        "the Brier score and discrimination slope take each prediction for its bin's middle.",
        figure=Curves(
            (
                Curve(
                    score,
                    tuple(b.predicted for b in found.bins),
                    tuple(b.observed.value for b in found.bins),
                    tuple(b.observed.low for b in found.bins),
                    tuple(b.observed.high for b in found.bins),
                ),
            ),
            "predicted",
            "observed",
            diagonal=True,
            unit_square=True,
        ),
        remarks=remarks(answer, *said),
        figures=tuple(
            ("", one)
            for one in (
                found.ratio,
                found.intercept,
                found.slope,
                Estimate("Brier score", brier.value),
                Estimate("Brier score, least by bins", brier.least),
                Estimate("Brier score, most by bins", brier.most),
                slope,
                found.hosmer_lemeshow,
            )
        ),
        confidence=confidence,
    )


# ---- raters --------------------------------------------------------------------------------------


def ask_agreement(
    project: Project, raters: Sequence[str], ratings: str | None = None
) -> list[Statistic]:
    """Return what agreement is worked out from: each two raters' crosstab, by ``ratings``.

    ``ratings``: how many raters rated a subject, a category whose levels are whole numbers.
    """
    if len(raters) < 2:
        raise DocumentError("Agreement is of two raters or more.")
    levels = {variable_of(project, name).levels for name in raters}
    if len(levels) > 1 or levels == {()}:
        raise DocumentError("Raters' variables must be categories with the same levels.")
    if ratings is not None:
        _numbers_of_ratings(project, ratings)
    also = [] if ratings is None else [ratings]
    return [crosstab(a, b, *also) for a, b in itertools.combinations(raters, 2)]


def _numbers_of_ratings(project: Project, ratings: str) -> list[int]:
    levels = variable_of(project, ratings).levels
    if not levels or not all(level.isdigit() and int(level) >= 2 for level in levels):
        raise DocumentError(
            f"{ratings} must be a category whose levels are numbers of ratings, from 2 on."
        )
    return [int(level) for level in levels]


def agreed(
    answer: StatisticsAnswer,
    raters: Sequence[str],
    ratings: str | None = None,
    confidence: float = CONFIDENCE,
    scores: Sequence[float] = (),
) -> Finding:
    """Return kappa and per cent agreement of two raters; of more Fleiss' and Krippendorff's.

    ``scores`` are the levels' numbers: weighted kappas go by their distances, and alpha is told for
    an interval and a ratio scale too.

    With ``ratings`` alpha is of all subjects that two raters or more have rated: each pair of a
    subject's ratings weighs one over one less than there are ratings (Krippendorff 2011).
    """
    project = answer.project
    levels = variable_of(project, raters[0]).levels
    if scores and len(scores) != len(levels):
        raise UsageError(f"Scores are of the levels, one each, in order: {', '.join(levels)}.")
    places = scores or None
    pairs = [shaped(part, project) for part in answer.parts]
    matrix = None
    if ratings is not None:
        shares = 1 / (np.array(_numbers_of_ratings(project, ratings)) - 1)
        weighed = np.asarray(sum(pair @ shares for pair in pairs))
        matrix = weighed + weighed.T
        pairs = [pair.sum(axis=2) for pair in pairs]
    said = []
    figures: list[tuple[str, Estimate | HypothesisTest]] = []
    if len(raters) == 2:
        kappas = [
            agreement.cohen_kappa(pairs[0], w, confidence, places)
            for w in ("none", "linear", "quadratic")
        ]
        found: list[Estimate] = [
            agreement.percent_agreement(pairs[0], confidence),
            *(k.estimate for k in kappas),
        ]
        said += [k.test.note for k in kappas]
        names = ["percent agreement", "Cohen's kappa", "linear weights", "quadratic weights"]
        figures += zip(names, found, strict=True)
        figures += [(n, k.test) for n, k in zip(names[1:], kappas, strict=True)]
        if len(levels) == 2:
            changed = crosstabs.mcnemar(pairs[0])
            figures.append(("", changed))
            said.append(tested(changed))
        p_values = [math.nan, *(k.test.p_value for k in kappas)]
        rows = [(name, *line(e)[1:], p) for name, e, p in zip(names, found, p_values, strict=True)]
    else:
        sizes = {float(pair.sum()) for pair in pairs}
        if len(sizes) > 1:
            said.append("Raters' pairs rated different subjects: each pair counts those it has.")
            kappas, rows = [], []
        else:
            kappas = [agreement.fleiss_kappa(pairs, len(raters), confidence)]
            rows = [("Fleiss' kappa", *line(kappas[0].estimate)[1:], kappas[0].test.p_value)]
            figures.append(("Fleiss' kappa", kappas[0].test))
        for (a, b), pair in zip(itertools.combinations(raters, 2), pairs, strict=True):
            one = agreement.cohen_kappa(pair, confidence=confidence)
            rows.append((f"Cohen's, {a} and {b}", *line(one.estimate)[1:], one.test.p_value))
            figures.append((f"{a} and {b}", one.test))
    if matrix is None:
        matrix = reliability.of_crosstabs(pairs, len(raters))
    for metric in _metrics(scores):
        alpha = reliability.krippendorff_alpha(matrix, metric, places)
        rows.append((f"Krippendorff's alpha, {metric}", *line(alpha)[1:], math.nan))
        said.append(alpha.note)
    missing = max(counts_of(part)[ALL].missing for part in answer.parts)
    if missing:
        out = "of a pair of raters" if ratings is not None else "and are left out"
        said.append(f"Up to {missing} subjects lack a rating {out}.")
    first = pairs[0]
    return Finding(
        title=f"Agreement of {', '.join(raters)}",
        columns=(*FIGURES, "p.value"),
        rows=tuple(rows),
        result=kappas,
        answers=(answer,),
        about="Agreement of raters was worked out from the crosstab of each two of them"
        + (f"; {', '.join(levels)} were given the scores {_listed(scores)}." if scores else "."),
        figure=Heat(levels, levels, tuple(map(tuple, first.tolist()))),
        remarks=remarks(answer, *said),
        figures=tuple(figures),
        confidence=confidence,
    )


def _listed(scores: Sequence[float]) -> str:
    return ", ".join(f"{score:g}" for score in scores)


def _metrics(scores: Sequence[float]) -> tuple[reliability.Metric, ...]:
    """Return the scales that alpha is told for: of plain levels only those without distances."""
    if not scores:
        return ("nominal", "ordinal")
    return ("nominal", "ordinal", "interval", *(("ratio",) if min(scores) >= 0 else ()))


def ask_ratings(raters: Sequence[str]) -> list[Statistic]:
    """Return what agreement on numbers is worked out from."""
    if len(raters) < 2:
        raise DocumentError("Agreement is of two raters or more.")
    return [comoments(raters[0], *raters[1:])]


def intraclass(answer: StatisticsAnswer, confidence: float = CONFIDENCE) -> Finding:
    """Return Shrout and Fleiss' six intraclass correlations, of subjects that all rated."""
    part = answer.parts[0]
    held = comoments_of(part)[ALL]
    found = reliability.intraclass_correlations(held.n, held.means, held.products, confidence)
    rows = tuple(
        (*line(single), p) for single, p in zip(found.single, found.p_values, strict=True)
    ) + tuple((*line(average), math.nan) for average in found.average)
    said = [single.note for single in found.single]
    return Finding(
        title=f"Intraclass correlations of {', '.join(part.statistic.variables)}, n {held.n}",
        columns=(*FIGURES, "p.value"),
        rows=rows,
        result=found,
        answers=(answer,),
        about="Intraclass correlations are Shrout and Fleiss'.",
        remarks=remarks(answer, *said),
        figures=tuple(("", one) for one in (*found.single, *found.average)),
        confidence=confidence,
    )


def limits_of_agreement(answer: StatisticsAnswer, confidence: float = CONFIDENCE) -> Finding:
    """Return Bland and Altman's bias and limits of two methods, and Lin's concordance."""
    part = answer.parts[0]
    if len(part.statistic.variables) != 2:
        raise DocumentError("Limits of agreement are of two methods.")
    held = comoments_of(part)[ALL]
    found = agreement.bland_altman(held.n, held.means, held.products, confidence=confidence)
    lin = agreement.concordance(held.n, held.means, held.products, confidence)
    first, second = part.statistic.variables
    return Finding(
        title=f"{first} less {second}, n {held.n}",
        columns=FIGURES,
        rows=tuple(map(line, (found.bias, found.lower, found.upper, lin))),
        result=found,
        answers=(answer,),
        about="Methods were compared by Bland and Altman's limits of agreement and Lin's "
        "concordance correlation.",
        remarks=remarks(answer, found.bias.note, lin.note),
        figures=tuple(("", one) for one in (found.bias, found.lower, found.upper, lin)),
        confidence=confidence,
    )
