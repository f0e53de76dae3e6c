"""The table of a cross-site evaluation, as it is read from the names of its metrics.

A metric of such a round is called ``METRIC/MODEL/SITE``: of which site's model, or of the mean of
all, and at which site.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

MEAN = "mean"


@dataclass(frozen=True)
class Cells:
    """One metric: of whose model (``models``, the mean last), at which site (``sites``).

    ``values`` has what was reported; a site that gave no answer about a model is not in it.
    """

    metric: str
    models: tuple[str, ...]
    sites: tuple[str, ...]
    values: Mapping[tuple[str, str], float]

    def value(self, model: str, site: str) -> float:
        """Return a model's figure at a site; NaN when it isn't known."""
        return self.values.get((model, site), math.nan)


def read_cells(rounds: Iterable[Mapping[str, float]]) -> list[Cells]:
    """Return a table for each metric that the rounds' metrics tell of; none for other jobs."""
    found: dict[str, dict[tuple[str, str], float]] = {}
    for metrics in rounds:
        for name, value in metrics.items():
            metric, *where = name.rsplit("/", 2)
            if len(where) == 2:
                found.setdefault(metric, {})[where[0], where[1]] = value
    return [_cells(metric, values) for metric, values in found.items()]


def _cells(metric: str, values: dict[tuple[str, str], float]) -> Cells:
    models = dict.fromkeys(model for model, _ in values)
    ordered = [m for m in models if m != MEAN] + [m for m in models if m == MEAN]
    places = {model: place for place, model in enumerate(ordered)}
    sites = sorted(
        {site for _, site in values}, key=lambda site: (places.get(site, len(places)), site)
    )
    return Cells(metric, tuple(ordered), tuple(sites), values)
