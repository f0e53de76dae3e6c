"""Images' intensities over all subjects: the histogram, and constants to normalise by."""

from __future__ import annotations

import math
from dataclasses import dataclass

from contract.documents import Project
from contract.errors import DocumentError
from contract.holdings import Intensity
from contract.statistics.intensities import Normalisation, normalisation
from contract.statistics.summaries import Moments
from contract.work import Statistic
from researcher.analyses.groups import ALL, moments_of, remarks
from researcher.findings import Cell, Finding
from researcher.plots import Bars
from researcher.questions import mean
from researcher.statistics import StatisticsAnswer


@dataclass(frozen=True)
class Intensities:
    """``shares``: of the pixels in each bin, each subject's counting as much as another's."""

    normalisation: Normalisation
    edges: tuple[float, ...]
    shares: tuple[float, ...]


def _parts(project: Project, name: str) -> dict[str, Intensity]:
    """Return the dictionary's variables of a histogram: mean, sd and each bin, by name.

    ``DocumentError`` when there is none called ``name``.
    """
    found = {
        v.name: v.derive
        for v in project.variables
        if isinstance(v.derive, Intensity) and v.name.rpartition(".")[0] == name
    }
    if not {f"{name}.mean", f"{name}.sd"} <= set(found):
        raise DocumentError(f"The dictionary has no intensities called {name}.")
    return found


def ask_intensities(project: Project, name: str) -> list[Statistic]:
    """Return the mean of each figure, one question."""
    return [mean(one) for one in _parts(project, name)]


def intensities(answer: StatisticsAnswer, name: str) -> Finding:
    """Return the histogram of intensities, and mean and standard deviation over all subjects."""
    parts = _parts(answer.project, name)
    told: dict[str, Moments] = {}
    for part in answer.parts:
        if not part.part.withheld:
            told[part.statistic.variable] = moments_of(part, answer.project)[ALL]
    constants = Normalisation(0, math.nan, math.nan)
    if {f"{name}.mean", f"{name}.sd"} <= set(told):
        constants = normalisation(told[f"{name}.mean"], told[f"{name}.sd"])
    bins = sorted(
        (node.intensity, one) for one, node in parts.items() if isinstance(node.intensity, int)
    )
    grid = parts[f"{name}.mean"]
    width = (grid.maximum - grid.minimum) / max(len(bins), 1)
    edges = tuple(grid.minimum + at * width for at in range(len(bins) + 1))
    shares = tuple(told[one].mean if one in told else math.nan for _, one in bins)
    rows: list[tuple[Cell, ...]] = [
        ("mean", constants.mean, constants.subjects),
        ("standard deviation", constants.standard_deviation, constants.subjects),
    ]
    for (at, one), share in zip(bins, shares, strict=True):
        n = told[one].n if one in told else 0
        rows.append((f"share from {edges[at]:g} to {edges[at + 1]:g}", share, n))
    return Finding(
        title=f"Intensities of {grid.modality} images",
        columns=("figure", "value", "n"),
        rows=tuple(rows),
        result=Intensities(constants, edges, shares),
        answers=(answer,),
        about="Pixels' intensities were summarised by subject, each image of a subject and each "
        "subject having the same weight; intensities out of the dictionary's range were moved to "
        "its ends.",
        figure=Bars(edges, (("", shares),), f"{grid.modality} intensity", "share of pixels")
        if bins
        else None,
        remarks=remarks(answer, "" if len(told) == len(parts) else "Not all bins are told."),
    )
