"""A model's splines with their knots at all subjects' quantiles, to the nearest edges of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from contract.errors import DocumentError, JobFailed
from contract.models import Model
from contract.statistics import design, knots, quantiles
from contract.statistics.summaries import Counts
from contract.terms import Factor, Spline
from researcher.statistics import StatisticsAnswer

Knots = Literal["even", "quantiles"]


def names(model: Model) -> tuple[str, ...]:
    """Return the numbers of a model that are in splines whose knots its formula leaves open."""
    return tuple(dict.fromkeys(f.variable for f in _factors(model) if _is_open(f)))


def how(names: Sequence[str], analysis: str) -> str:
    """Return how a hospital declares what such knots, and any spline, need."""
    grids = " ".join(f"--grid {name}=MINIMUM:MAXIMUM:BINS" for name in names)
    return (
        f"the hospital makes its release again with {grids} --analysis {analysis}=..., the grids "
        "those of the project's dictionary and coarse enough that no bin is small."
    )


def placed(model: Model, answer: StatisticsAnswer) -> Model:
    """Return the model with those knots placed by histograms of these numbers.

    Of k knots the i-th is at the quantile i / (k + 1), as R's ``ns`` and ``bs`` have them.
    ``DocumentError`` where the grid has too few edges; ``JobFailed`` without a histogram.
    """
    counts: dict[str, Counts] = {}
    for part in answer.parts:
        found = part.part.groups.get("")
        if part.part.withheld or not isinstance(found, Counts):
            raise JobFailed(
                f"There are no knots of {part.statistic.variable}: every site withheld its "
                "histogram. Ask for even knots, or write them: ns(x, knots = c(40, 60))."
            )
        counts[part.statistic.variable] = found

    def of(factor: Factor) -> Factor:
        return _at_quantiles(factor, counts, answer) if _is_open(factor) else factor

    terms = tuple(
        term.model_copy(update={"factors": tuple(map(of, term.factors))}) for term in model.terms
    )
    return model.model_copy(update={"terms": terms})


def _at_quantiles(factor: Factor, counts: dict[str, Counts], answer: StatisticsAnswer) -> Spline:
    assert isinstance(factor, Spline)
    variable = answer.project.variable(factor.variable)
    assert variable is not None
    boundary = factor.boundary or design.bounds(variable)
    edges = knots.inner_edges(variable, boundary)
    if not edges:
        raise DocumentError(f"The dictionary gives {factor.variable} no grid to place knots on.")
    count = knots.free(factor)
    shares = [i / (count + 1) for i in range(1, count + 1)]
    middle = sum(boundary) / 2
    wanted = [
        # Outside the grid there is no quantile; the nearest edge is then an end's.
        q.value if q.value == q.value else (boundary[0] if q.low < middle else boundary[1])
        for q in quantiles.of_counts(counts[factor.variable], variable, shares)
    ]
    places = knots.on_edges(wanted, edges)
    return Spline.model_validate({**factor.model_dump(), "df": None, "knots": places})


def _is_open(factor: Factor) -> bool:
    return isinstance(factor, Spline) and knots.free(factor) > 0


def _factors(model: Model) -> list[Factor]:
    return [factor for term in model.terms for factor in term.factors]
