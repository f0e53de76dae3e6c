"""Imputed variables: each draw is analysed, and Rubin's rules pool what the draws say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from contract.derivations import Impute
from contract.documents import Project
from contract.errors import DocumentError
from contract.statistics.estimates import CONFIDENCE
from contract.statistics.rubin import Pooled, pool
from contract.work import Statistic
from researcher.analyses.groups import ALL, moments_of, remarks
from researcher.findings import Cell, Finding
from researcher.models import Coefficient, ModelAnswer
from researcher.questions import mean
from researcher.statistics import StatisticsAnswer

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
COLUMNS = (
    *("estimate", "std.error", "df", "conf.low", "conf.high", "p.value"),
    "missing information",
)
RULES = (
    "Missing values were imputed at each hospital by chained equations; estimates of {} "
    "imputations were pooled by Rubin's rules, with the degrees of freedom of Barnard and Rubin."
)


OTHER_SITES = "The imputations are of other sites each, so they can't be pooled."


def draws(project: Project, name: str) -> list[str]:
    """Return the imputations of a variable: "bmi_full.1", "bmi_full.2", and so on.

    ``DocumentError`` when the dictionary has none of that name.
    """
    found = [
        v.name
        for v in project.variables
        if isinstance(v.derive, Impute) and v.name == f"{name}.{v.derive.imputation}"
    ]
    if not found:
        raise DocumentError(f"The dictionary has no imputations called {name}.1, {name}.2, ...")
    return found


def ask_means(project: Project, name: str, by: str | None) -> list[Statistic]:
    """Return the mean of each imputation, one question."""
    return [mean(one, by) for one in draws(project, name)]


def pooled_means(
    answer: StatisticsAnswer, name: str, by: str | None, confidence: float = CONFIDENCE
) -> Finding:
    """Return the pooled mean, of each group or of all."""
    each = [moments_of(part, answer.project) for part in answer.parts]
    if len({(part.answered, part.partial, part.unnamed) for part in answer.parts}) > 1:
        raise DocumentError(OTHER_SITES)
    groups = [group for group in each[0] if all(group in one for one in each)]
    pooled: dict[str, Pooled] = {}
    for group in groups:
        held = [one[group] for one in each]
        if min(m.n for m in held) > 1:
            variances = [m.variance / m.n for m in held]
            pooled[group] = pool([m.mean for m in held], variances, held[0].n - 1)
    return Finding(
        title=f"Mean of {name}, {len(each)} imputations",
        columns=("group", *COLUMNS),
        rows=tuple(
            _row("" if group == ALL else group, one, confidence) for group, one in pooled.items()
        ),
        result=pooled,
        answers=(answer,),
        about=RULES.format(len(each)),
        remarks=remarks(answer),
        confidence=confidence,
    )


def formulas(formula: str, names: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a formula for each imputation: the imputed variables' names are replaced by its own.

    ``names``: of each imputed variable its draws. ``DocumentError`` if they differ in number.
    """
    counts = {len(some) for some in names.values()}
    if len(counts) != 1:
        raise DocumentError("The imputed variables have another number of imputations each.")

    def written(at: int) -> str:
        return _NAME.sub(lambda m: names[m[0]][at] if m[0] in names else m[0], formula)

    return [written(at) for at in range(counts.pop())]


def pooled_coefficients(
    fits: Sequence[Sequence[Coefficient]], names: Mapping[str, Sequence[str]], complete: float
) -> dict[str, Pooled]:
    """Return each coefficient pooled, under the name that it has without the draw's number.

    ``complete``: the degrees of freedom of one fit; infinite for those by the normal law.
    """
    base = {draw: name for name, some in names.items() for draw in some}

    def named(coefficient: Coefficient) -> str:
        said = coefficient.name
        for draw in sorted(base, key=len, reverse=True):
            said = re.sub(rf"(?<![\w.]){re.escape(draw)}(?![0-9])", base[draw], said)
        return said

    ordered = [named(one) for one in fits[0]]
    if any([named(one) for one in fit] != ordered for fit in fits):
        raise DocumentError("The imputations' fits have different coefficients.")
    return {
        name: pool(
            [fit[at].estimate for fit in fits],
            [fit[at].standard_error ** 2 for fit in fits],
            complete,
        )
        for at, name in enumerate(ordered)
    }


def table_of(
    pooled: Mapping[str, Pooled],
    title: str,
    fits: Sequence[ModelAnswer],
    confidence: float = CONFIDENCE,
) -> Finding:
    """Return pooled coefficients as a finding, with the fits' receipts.

    ``DocumentError`` when the fits are of other sites each, or one didn't converge.
    """
    if len({frozenset(fit.answered) for fit in fits}) > 1:
        raise DocumentError(OTHER_SITES)
    if not all(fit.fit.converged for fit in fits):
        raise DocumentError("The model of an imputation did not converge.")
    jobs = ", ".join(fit.job[:12] for fit in fits)
    return Finding(
        title=title,
        columns=("coefficient", *COLUMNS),
        rows=tuple(_row(name, one, confidence) for name, one in pooled.items()),
        result=dict(pooled),
        answers=(),
        about=f"{RULES.format(len(fits))} The first: {fits[0].methods} All are jobs {jobs}.",
        remarks=tuple(dict.fromkeys(note for fit in fits for note in fit.notes)),
        fitted=tuple(receipt for fit in fits for receipt in fit.receipts),
        confidence=confidence,
    )


def _row(name: str, one: Pooled, confidence: float) -> tuple[Cell, ...]:
    low, high = one.interval(confidence)
    return (
        *(name, one.estimate, one.standard_error, one.degrees_of_freedom, low, high),
        *(one.p_value(), one.missing_information),
    )
