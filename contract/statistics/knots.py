"""Where a spline's inner knots lie: where they are given, or spread evenly, on a number's grid.

A gate lets a spline's pieces meet at edges of the grid only: with knots elsewhere a model's sums
would tell of parts of a bin.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from contract.dictionary import Variable
from contract.errors import DocumentError
from contract.terms import Spline


def of(
    factor: Spline, boundary: tuple[float, float], variable: Variable | None
) -> tuple[float, ...]:
    """Return a spline's inner knots, between its boundary knots.

    Those that its formula leaves open are spread evenly; of a number with a grid they are the edges
    nearest to that. ``DocumentError`` where the grid has too few.
    """
    if factor.knots:
        return factor.knots
    even = tuple(float(k) for k in np.linspace(*boundary, free(factor) + 2)[1:-1])
    edges = inner_edges(variable, boundary)
    return on_edges(even, edges) if edges else even


def free(factor: Spline) -> int:
    """Return how many inner knots a spline has whose places its formula leaves open."""
    if factor.df is None:
        return 0
    return factor.df - (1 if factor.basis == "ns" else factor.degree)


def inner_edges(variable: Variable | None, boundary: tuple[float, float]) -> tuple[float, ...]:
    """Return the edges of a number's grid between two boundary knots; none without a grid."""
    if variable is None or variable.bins is None:
        return ()
    assert variable.minimum is not None and variable.maximum is not None
    edges = np.linspace(variable.minimum, variable.maximum, variable.bins + 1)
    near = 1e-9 * (edges[-1] - edges[0])
    inside = (edges > boundary[0] + near) & (edges < boundary[1] - near)
    return tuple(float(edge) for edge in edges[inside])


def on_edges(wanted: Sequence[float], edges: Sequence[float]) -> tuple[float, ...]:
    """Return the edges nearest to ascending places, each edge once, in order.

    ``DocumentError`` where there are fewer edges than places.
    """
    count, last = len(wanted), len(edges)
    if count > last:
        raise DocumentError(f"A spline of {count} knots needs a grid of {count + 1} bins or more.")
    held = np.asarray(edges, dtype=np.float64)
    places = [int(np.abs(held - one).argmin()) for one in wanted]
    for at in range(1, count):
        places[at] = max(places[at], places[at - 1] + 1)
    for at in range(count):
        # So many edges are left for those that follow.
        places[at] = min(places[at], last - count + at)
    return tuple(float(held[place]) for place in places)
