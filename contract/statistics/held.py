"""A model's rows at a site: columns of values, of which only some rows are copied at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.documents import Project
from contract.errors import DocumentError
from contract.statistics import design
from contract.statistics.summaries import Codes, Numbers

Places = slice | NDArray[np.intp]
"""Which rows, in their order."""


@dataclass(frozen=True)
class Held:
    """Rows of columns, each with a value of every one."""

    columns: Mapping[str, Numbers | Codes]
    places: NDArray[np.intp] | None
    """Where the rows are in the columns; None: all of them."""
    number: int
    project: Project

    @classmethod
    def of(cls, columns: Mapping[str, Numbers | Codes], project: Project) -> Held:
        """Return all rows of columns."""
        return cls(columns, None, len(next(iter(columns.values()))), project)

    def __len__(self) -> int:
        return self.number

    def some(self, rows: Places) -> dict[str, Numbers | Codes]:
        """Return the values of some rows, brought into the dictionary's ranges."""
        here = rows if self.places is None else self.places[rows]
        return clipped({n: column[here] for n, column in self.columns.items()}, self.project)

    def one(self, name: str) -> Numbers | Codes:
        """Return the values of one column of all rows."""
        column = self.columns[name]
        return clipped({name: column if self.places is None else column[self.places]},
                       self.project)[name]  # fmt: skip


def clipped(values: Mapping[str, Numbers | Codes], project: Project) -> dict[str, Numbers | Codes]:
    """Return values with numbers brought into the dictionary's ranges."""
    found = dict(values)
    for name in values:
        variable = project.variable(name)
        if variable is None:
            raise DocumentError(f"Variable {name} is not in the project's dictionary.")
        if variable.kind == "number":
            found[name] = np.clip(np.asarray(values[name], np.float64), *design.bounds(variable))
    return found


@dataclass(frozen=True)
class Lines:
    """A model's matrix, of which only those rows are made that are asked for."""

    chosen: tuple[design.Column, ...]
    held: Held
    degrees: Mapping[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """How many rows and columns it has."""
        return len(self.held), len(self.chosen)

    def __getitem__(self, rows: Places) -> design.Matrix:
        values = self.held.some(rows)
        number = len(next(iter(values.values())))
        return design.matrix(self.chosen, values, number, self.degrees)
