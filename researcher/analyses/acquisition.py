"""How images were taken, over all subjects: acquisition parameters by modality."""

from __future__ import annotations

import math

from contract.dictionary import Variable
from contract.documents import Project
from contract.errors import DocumentError
from contract.holdings import Imaging
from contract.work import Statistic
from researcher.analyses.groups import ALL, counts_of, moments_of, remarks
from researcher.analyses.numbers import quantiles_of
from researcher.findings import Cell, Finding
from researcher.questions import histogram, levels, mean
from researcher.statistics import PartAnswer, StatisticsAnswer

_NOTHING = math.nan


def parameters(project: Project, modality: str | None = None) -> list[tuple[Imaging, Variable]]:
    """Return the dictionary's variables of how images are taken, by modality and in its order.

    ``DocumentError`` when there are none (of ``modality``).
    """
    found = [(v.derive, v) for v in project.variables if isinstance(v.derive, Imaging)]
    if modality is not None:
        found = [one for one in found if one[0].modality.upper() == modality.upper()]
    if not found:
        of = f" of {modality} images" if modality else " of images"
        raise DocumentError(f"The dictionary has no acquisition parameters{of}.")
    return sorted(found, key=lambda one: one[0].modality)


def ask_acquisition(project: Project, modality: str | None = None) -> list[Statistic]:
    """Return what each parameter is asked: its moments and grid, or its levels. One question."""
    asked = []
    for _, variable in parameters(project, modality):
        if variable.kind == "category":
            asked.append(levels(variable.name))
            continue
        asked.append(mean(variable.name))
        if variable.bins is not None:
            asked.append(histogram(variable.name))
    return asked


def acquisition(answer: StatisticsAnswer, modality: str | None = None) -> Finding:
    """Return parameters' means, deviations and medians, and the shares of their levels.

    Each subject counts once: with its images' median, or the level that all of them have.
    """
    parts: dict[tuple[str, str], PartAnswer] = {
        (p.statistic.kind, p.statistic.variable): p for p in answer.parts
    }
    rows: list[tuple[Cell, ...]] = []
    untold = []
    for derive, variable in parameters(answer.project, modality):
        name = derive.imaging.replace("_", " ")
        if variable.unit:
            name += f" ({variable.unit})"
        kind = "levels" if variable.kind == "category" else "moments"
        part = parts[kind, variable.name]
        if part.part.withheld:
            untold.append(variable.name)
        elif kind == "levels":
            rows += _levels(derive.modality, name, variable, part)
        else:
            moments = moments_of(part, answer.project)[ALL]
            grid = parts.get(("histogram", variable.name))
            middle = _NOTHING if grid is None or grid.part.withheld else _median(grid, variable)
            figures = (moments.n, moments.missing, moments.mean, moments.standard_deviation)
            rows.append((derive.modality, name, "", *figures, middle, _NOTHING))
    return Finding(
        title=f"How images were taken{f': {modality}' if modality else ''}",
        columns=(
            *("modality", "parameter", "level", "n", "missing"),
            *("mean", "SD", "median", "share"),
        ),
        rows=tuple(rows),
        result={(str(row[0]), str(row[1]), str(row[2])): row[3:] for row in rows},
        answers=(answer,),
        about="Acquisition parameters were summarised by subject: of numbers the median of a "
        "subject's images, of categories the level that all of them have.",
        remarks=remarks(answer, f"Not told: {', '.join(untold)}." if untold else ""),
    )


def _median(grid: PartAnswer, variable: Variable) -> float:
    (found,) = quantiles_of(counts_of(grid)[ALL], grid, variable, (0.5,))
    return found.value


def _levels(
    modality: str, name: str, variable: Variable, part: PartAnswer
) -> list[tuple[Cell, ...]]:
    counts = counts_of(part)[ALL]
    there = max(counts.n, 1)
    return [
        (modality, name, level, n, counts.missing, *(_NOTHING,) * 3, n / there)
        for level, n in zip(variable.levels, counts.counts, strict=False)
        if n
    ]
