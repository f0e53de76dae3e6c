"""A cross-site evaluation as a table: every site's own model, and their mean, on every site."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import RenderableType
from rich.table import Table

from contract.cross_evaluation import MEAN, Cells, read_cells
from contract.documents import printable
from contract.errors import NotFound
from researcher.rendering import as_html, as_text
from researcher.training import Round

WIDEST = 6
"""So many sites beside each other fit 80 columns."""


@dataclass(frozen=True)
class Matrix(Cells):
    """One metric of a cross-site evaluation; it shows as a table."""

    @classmethod
    def of(cls, rounds: Iterable[Round]) -> dict[str, Matrix]:
        """Read a job's rounds: a table for each metric. ``NotFound`` when there is none."""
        found = read_cells(one.metrics for one in rounds if one.step == "evaluate")
        if not found:
            raise NotFound("The job is no cross-site evaluation, or has no row of its table yet.")
        return {one.metric: cls(one.metric, one.models, one.sites, one.values) for one in found}

    def at_home(self, site: str) -> float:
        """Return what a site's own model has there; NaN when that isn't known."""
        return self.value(site, site)

    def rows(self) -> list[dict[str, object]]:
        """Return it as tidy rows, a number each."""
        return [
            {"metric": self.metric, "model": model, "site": site, "value": value}
            for (model, site), value in self.values.items()
        ]

    def tables(self) -> list[Table]:
        """Return it as tables that fit 80 columns: rows are models, columns where they were."""
        return [self._table(start) for start in range(0, len(self.sites), WIDEST)]

    def _table(self, start: int) -> Table:
        table = Table("model of", title=f"{printable(self.metric)}, by site", title_justify="left")
        sites = self.sites[start : start + WIDEST]
        for site in sites:
            table.add_column(f"at {printable(site, 20)}", justify="right")
        for model in self.models:
            cells = [self.value(model, site) for site in sites]
            shown = ["" if math.isnan(value) else f"{value:.4g}" for value in cells]
            label = "all (mean)" if model == MEAN else printable(model, 20)
            table.add_row(label, *shown, end_section=model == MEAN)
        return table

    def __str__(self) -> str:
        """As text."""
        return as_text(*self._shown())

    def _repr_html_(self) -> str:
        return as_html(*self._shown())

    def _shown(self) -> list[RenderableType]:
        return list(self.tables())
