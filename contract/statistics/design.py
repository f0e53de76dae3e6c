"""The matrix of a model: an intercept, numbers, treatment-coded categories and their products.

A term is one variable or a product of up to three. A category of ``m`` levels is ``m - 1`` columns,
the first level being what the others are compared with, as R's ``contr.treatment`` has it. The
columns follow from the dictionary alone, so every site makes the same ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.documents import Project, Variable
from contract.errors import DocumentError
from contract.statistics.summaries import Codes, Numbers

INTERCEPT = "(Intercept)"
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Column:
    """A column of the matrix: a product of factors, each a number or one level of a category."""

    name: str
    factors: tuple[tuple[Variable, int | None], ...]
    """Variable, and the level's place for a category."""


def columns(
    terms: Sequence[Sequence[str]], project: Project, *, intercept: bool = True
) -> tuple[Column, ...]:
    """Return the columns that terms make. ``DocumentError`` for one that can't be."""
    found = [Column(INTERCEPT, ())] if intercept else []
    for term in terms:
        if len(set(term)) != len(term) or not term:
            raise DocumentError("A term names a variable twice, or none.")
        choices: list[list[tuple[str, Variable, int | None]]] = []
        for name in term:
            variable = project.variable(name)
            if variable is None:
                raise DocumentError(f"Variable {name} is not in the project's dictionary.")
            if variable.kind == "number":
                choices.append([(name, variable, None)])
            else:
                choices.append(
                    [
                        (f"{name}[{level}]", variable, place)
                        for place, level in enumerate(variable.levels)
                        if place
                    ]
                )
        # As R orders an interaction's columns: the first factor changes fastest.
        for chosen in itertools.product(*reversed(choices)):
            ordered = tuple(reversed(chosen))
            found.append(
                Column(":".join(label for label, _, _ in ordered), tuple(c[1:] for c in ordered))
            )
    if len({c.name for c in found}) != len(found):
        raise DocumentError("Two terms of a model are the same.")
    if not found:
        raise DocumentError("A model needs a term.")
    return tuple(found)


def variables(terms: Sequence[Sequence[str]]) -> set[str]:
    """Return the variables that terms name."""
    return {name for term in terms for name in term}


def complete(names: Sequence[str], values: Mapping[str, Numbers | Codes]) -> NDArray[np.bool_]:
    """Return which rows have a value of every one of these variables."""
    kept: NDArray[np.bool_] | None = None
    for name in names:
        column = values[name]
        present = ~np.isnan(column) if column.dtype.kind == "f" else column >= 0
        kept = present if kept is None else kept & present
    if kept is None:
        raise DocumentError("A model names no variable.")
    return kept


def matrix(chosen: Sequence[Column], values: Mapping[str, Numbers | Codes], rows: int) -> Matrix:
    """Return the matrix of complete rows, one column for each of ``chosen``."""
    made = np.ones((rows, len(chosen)))
    for place, column in enumerate(chosen):
        for variable, level in column.factors:
            held = values[variable.name]
            made[:, place] *= held if level is None else held == level
    return made
