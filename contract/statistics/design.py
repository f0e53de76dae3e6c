"""The matrix of a model: an intercept, and the columns that terms make of numbers and categories.

A category is coded by treatments: ``m - 1`` columns, each a level against the reference; or by all
``m`` where nothing else in the model holds its missing column, as in ``y ~ 0 + arm`` or in
``y ~ age:arm``. Which of both follows Wilkinson and Rogers' notation by the rule that keeps the
matrix of full rank (Chambers, Hastie, Statistical models in S, 2.3). The columns follow from the
dictionary alone, so every site makes the same ones.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from contract.dictionary import Variable
from contract.documents import Project
from contract.errors import DocumentError
from contract.statistics import knots, recoding, splines
from contract.statistics.summaries import Codes, Numbers
from contract.terms import Factor, Function, Polynomial, Power, Spline, Term, Transformed, Value

INTERCEPT = "(Intercept)"
BY_SITE = "What differs between sites is by_site's (--by-site), not a variable."
Matrix = NDArray[np.float64]
FUNCTIONS: dict[str, Callable[[Numbers], Numbers]] = {
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
}
_LOWEST = {"log1p": -1.0}
_PLACES = 129
"""At how many places of a range a largest value is looked for."""


@dataclass(frozen=True)
class Piece:
    """What a column takes of one factor: a category's level, or a column of a number's basis."""

    factor: Factor
    variable: Variable
    place: int


@dataclass(frozen=True)
class Column:
    """A column of the matrix: a product of pieces."""

    name: str
    pieces: tuple[Piece, ...]
    term: str = ""
    """The label of the term that it is of; empty of the intercept."""

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables that it is made of."""
        return tuple(piece.variable.name for piece in self.pieces)

    @property
    def categories(self) -> tuple[str, ...]:
        """Those of them that are categories."""
        return tuple(p.variable.name for p in self.pieces if p.variable.kind == "category")


def columns(
    terms: Sequence[Term], project: Project, *, intercept: bool = True, shown: bool = True
) -> tuple[Column, ...]:
    """Return the columns that terms make. ``DocumentError`` for one that can't be.

    Without ``shown`` the intercept is in the coding and not in the matrix, as in a Cox model.
    """
    found = [Column(INTERCEPT, ())] if intercept and shown else []
    held: dict[frozenset[str], set[frozenset[str]]] = {}
    if intercept:
        held[frozenset()] = {frozenset()}
    seen: set[frozenset[str]] = set()
    for term in terms:
        factors = [(factor, _variable(factor, project)) for factor in term.factors]
        labels = frozenset(f.label for f, _ in factors)
        if labels in seen:
            raise DocumentError("Two terms of a model are the same.")
        seen.add(labels)
        numbers = frozenset(f.label for f, v in factors if v.kind == "number")
        named = [v.name for _, v in factors if v.kind == "category"]
        for coding in _codings(named, held.setdefault(numbers, set())):
            used = [(f, v) for f, v in factors if v.kind == "number" or v.name in coding]
            full = {name for name, whole in coding.items() if whole}
            found += [replace(column, term=term.label) for column in _products(used, full)]
    _check_references(terms)
    if len({c.name for c in found}) != len(found):
        raise DocumentError("Two columns of a model are the same.")
    if not found:
        raise DocumentError("A model needs a term.")
    return tuple(found)


def _codings(categories: Sequence[str], held: set[frozenset[str]]) -> list[dict[str, bool]]:
    """Return the products that a term adds: each category with all its levels (True) or without
    its reference.

    A term of categories a, b spans 1 + a- + b- + a-:b-, "-" being without reference. What is
    ``held`` is left out; a product whose category's lack is there too takes it up: 1 + a- is a.
    """
    parts: list[dict[str, bool]] = []
    for size in range(len(categories) + 1):
        for some in itertools.combinations(categories, size):
            if frozenset(some) not in held:
                held.add(frozenset(some))
                parts.append(dict.fromkeys(some, False))
    while _absorb(parts):
        pass
    return parts


def _absorb(parts: list[dict[str, bool]]) -> bool:
    for at, short in enumerate(parts):
        for further in range(at + 1, len(parts)):
            long = parts[further]
            more = set(long.items()) - set(short.items())
            if len(long) == len(short) + 1 and len(more) == 1:
                ((name, full),) = more
                if not full:
                    parts[further] = {**long, name: True}
                    del parts[at]
                    return True
    return False


def _products(factors: Sequence[tuple[Factor, Variable]], full: set[str]) -> list[Column]:
    choices = []
    for factor, variable in factors:
        if variable.kind == "category":
            left_out = None if variable.name in full else _reference(factor, variable)
            choices.append(
                [
                    (f"{variable.name}[{level}]", Piece(factor, variable, place))
                    for place, level in enumerate(variable.levels)
                    if place != left_out
                ]
            )
        else:
            count = _count(factor)
            choices.append(
                [
                    (factor.label + (str(i + 1) if count > 1 else ""), Piece(factor, variable, i))
                    for i in range(count)
                ]
            )
    found = []
    # As R orders an interaction's columns: the first factor changes fastest.
    for chosen in itertools.product(*reversed(choices)):
        ordered = tuple(reversed(chosen))
        found.append(Column(":".join(label for label, _ in ordered), tuple(p for _, p in ordered)))
    return found


def _variable(factor: Factor, project: Project) -> Variable:
    variable = project.variable(factor.variable)
    if variable is None:
        if factor.variable == "site":
            raise DocumentError(BY_SITE)
        raise DocumentError(f"Variable {factor.variable} is not in the project's dictionary.")
    plain = isinstance(factor, Value)
    if variable.kind == "category":
        if not plain:
            raise DocumentError(f"{factor.label} is of a category, not of a number.")
        if len(variable.levels) < 2:
            raise DocumentError(f"{variable.name} has one level, which explains nothing.")
        _reference(factor, variable)
        return variable
    if isinstance(factor, Value) and factor.reference is not None:
        raise DocumentError(f"{variable.name} is a number and has no reference level.")
    if not plain:
        _check_domain(factor, variable)
    return variable


def _reference(factor: Factor, variable: Variable) -> int:
    named = factor.reference if isinstance(factor, Value) else None
    if named is None:
        return 0
    if named not in variable.levels:
        raise DocumentError(f"{variable.name} has no level {named}.")
    return variable.levels.index(named)


def _check_references(terms: Sequence[Term]) -> None:
    found: dict[str, str | None] = {}
    for factor in (f for term in terms for f in term.factors if isinstance(f, Value)):
        if found.setdefault(factor.variable, factor.reference) != factor.reference:
            raise DocumentError(f"{factor.variable} has two references in one model.")


def _check_domain(factor: Factor, variable: Variable) -> None:
    """Raise unless the factor is defined all over the dictionary's range."""
    low, high = bounds(variable)
    if isinstance(factor, Transformed):
        lowest = _LOWEST.get(factor.function, 0.0)
        if low < lowest or (low == lowest and factor.function != "sqrt"):
            raise DocumentError(f"{factor.label} isn't defined in all of the dictionary's range.")
    if isinstance(factor, Spline):
        left, right = factor.boundary or (low, high)
        if factor.basis == "bs" and (low < left or high > right):
            raise DocumentError(f"{factor.label} doesn't reach over the dictionary's range.")
        if any(not left < knot < right for knot in knots.of(factor, (left, right), variable)):
            raise DocumentError(f"{factor.label} has knots outside its boundary.")


def bounds(variable: Variable) -> tuple[float, float]:
    """Return a number's range; ``DocumentError`` when the dictionary gives it none."""
    if variable.minimum is None or variable.maximum is None:
        raise DocumentError(f"The dictionary gives {variable.name} no range, which a model needs.")
    return variable.minimum, variable.maximum


def _boundary(variable: Variable | None) -> tuple[float, float]:
    assert variable is not None
    return bounds(variable)


def _count(factor: Factor) -> int:
    """Return how many columns a number's factor is."""
    if isinstance(factor, Polynomial):
        return factor.degree
    if isinstance(factor, Spline):
        if factor.df is not None:
            return factor.df
        return len(factor.knots) + (1 if factor.basis == "ns" else factor.degree)
    return 1


def basis(factor: Factor, variable: Variable | None, x: Numbers) -> Matrix:
    """Return the columns of a number's factor, a row for each value. A spline needs its range."""
    match factor:
        case Transformed():
            return FUNCTIONS[factor.function](x)[:, None]
        case Power():
            return ((x - factor.shift) / factor.scale)[:, None] ** factor.power
        case Polynomial():
            return np.asarray(x[:, None] ** np.arange(1, factor.degree + 1))
        case Spline():
            boundary = factor.boundary or _boundary(variable)
            inner = knots.of(factor, boundary, variable)
            if factor.basis == "ns":
                return splines.natural(x, inner, boundary)
            return splines.b_spline(x, inner, boundary, factor.degree)
        case _:
            return x[:, None]


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


def matrix(
    chosen: Sequence[Column],
    values: Mapping[str, Numbers | Codes],
    rows: int,
    degrees: Mapping[int, int] | None = None,
) -> Matrix:
    """Return the matrix of complete rows, one column for each of ``chosen``.

    Those of ``degrees`` are Chebyshev's polynomials (``contract.statistics.recoding``).
    """
    made = np.ones((rows, len(chosen)), order="F")  # by columns it is made, and multiplied
    bases: dict[str, Matrix] = {}
    for place, column in enumerate(chosen):
        if degrees and place in degrees:
            variable = column.pieces[0].variable
            x = np.asarray(values[variable.name], np.float64)
            made[:, place] = recoding.chebyshev(x, bounds(variable), degrees[place])
            continue
        for piece in column.pieces:
            held = values[piece.variable.name]
            if piece.variable.kind == "category":
                made[:, place] *= held == piece.place
                continue
            label = piece.factor.label
            if label not in bases:
                bases[label] = basis(piece.factor, piece.variable, np.asarray(held, np.float64))
            made[:, place] *= bases[label][:, piece.place]
    return made


def total(factors: Iterable[Factor], values: Mapping[str, Numbers | Codes]) -> Numbers | None:
    """Return the sum of numbers' factors, as an offset is; None of none."""
    found: Numbers | None = None
    for factor in factors:
        column = basis(factor, None, np.asarray(values[factor.variable], np.float64))[:, 0]
        found = column if found is None else found + column
    return found


def check_offset(factors: Iterable[Factor], project: Project) -> float:
    """Return how far from zero an offset may lie; ``DocumentError`` for what can't be one."""
    found = 0.0
    for factor in factors:
        variable = _variable(factor, project)
        if variable.kind != "number" or isinstance(factor, Polynomial | Spline):
            raise DocumentError(f"{factor.label} can't be an offset.")
        found += float(np.abs(basis(factor, variable, np.array(bounds(variable)))).max())
    return found


def check_transform(variable: Variable, function: Function) -> None:
    """Raise ``DocumentError`` unless a function is defined all over a number's range."""
    _check_domain(Transformed(variable=variable.name, function=function), variable)


def ends(
    chosen: Sequence[Column], beta: Numbers, degrees: Mapping[int, int]
) -> tuple[float, float]:
    """Return between what a linear predictor lies within the dictionary's ranges, nearly.

    ``beta`` is of the columns as ``matrix`` makes them. Each variable's own part of the predictor
    lies between two ends; the sums of these are its ends.
    """
    found: dict[tuple[str, ...], Numbers] = {}
    for place, (column, by) in enumerate(zip(chosen, beta, strict=True)):
        pieces = [p for p in column.pieces if p.variable.kind == "number"]
        levels = tuple(f"{p.variable.name}={p.place}" for p in column.pieces if p not in pieces)
        if len(pieces) == 1:
            # Columns of one number are looked at together, since a polynomial's terms cancel.
            (piece,) = pieces
            key = (piece.variable.name, *levels)
            x = np.linspace(*bounds(piece.variable), _PLACES)
            if place in degrees:
                part = by * recoding.chebyshev(x, bounds(piece.variable), degrees[place])
            else:
                part = by * basis(piece.factor, piece.variable, x)[:, piece.place]
        else:
            key = (column.name,)
            part = np.array([float(by)]) if not pieces else by * largest(column) * np.array([-1, 1])
        if levels:
            part = np.append(part, 0.0)  # where the level is another
        found[key] = found[key] + part if key in found else part
    parts = found.values()
    return sum(float(part.min()) for part in parts), sum(float(part.max()) for part in parts)


def chebyshev_degrees(chosen: Sequence[Column], least: int) -> dict[int, int]:
    """Return, by a column's place, the degree of the polynomial that may stand in for it.

    That is so where a variable's own columns are of each degree up to some, beside an intercept:
    with it they span the same. ``least`` is of how high a degree they must be.
    """
    found: dict[str, dict[int, int]] = {}
    for place, column in enumerate(chosen):
        if len(column.pieces) == 1 and column.pieces[0].variable.kind == "number":
            degree = _degree(column.pieces[0])
            if degree is not None:
                found.setdefault(column.pieces[0].variable.name, {})[place] = degree
    return {
        place: degree
        for places in found.values()
        if len(places) >= least and sorted(places.values()) == list(range(1, len(places) + 1))
        for place, degree in places.items()
    }


def _degree(piece: Piece) -> int | None:
    match piece.factor:
        case Value():
            return 1
        case Power():
            return piece.factor.power
        case Polynomial():
            return piece.place + 1
        case _:
            return None


def polynomials(chosen: Sequence[Column], degrees: Mapping[int, int]) -> list[recoding.Polynomials]:
    """Return each number's columns of ``degrees``, in their order."""
    groups: dict[str, list[int]] = {}
    for place in sorted(degrees, key=lambda p: degrees[p]):
        groups.setdefault(chosen[place].pieces[0].variable.name, []).append(place)
    return [
        recoding.Polynomials(
            bounds(chosen[places[0]].pieces[0].variable),
            places,
            [_power_series(chosen[place].pieces[0]) for place in places],
        )
        for places in groups.values()
    ]


def _power_series(piece: Piece) -> list[Fraction]:
    """Return a polynomial column's coefficients, of 1, x, x^2, ..., exactly."""
    if isinstance(piece.factor, Power):
        n = piece.factor.power
        shift, scale = Fraction(piece.factor.shift), Fraction(piece.factor.scale)
        return [math.comb(n, k) * (-shift) ** (n - k) / scale**n for k in range(n + 1)]
    degree = _degree(piece)
    assert degree is not None
    return [Fraction(0)] * degree + [Fraction(1)]


def largest(column: Column) -> float:
    """Return the largest absolute value of a column within the dictionary's ranges, nearly."""
    found = 1.0
    for piece in column.pieces:
        if piece.variable.kind == "number":
            x = np.linspace(*bounds(piece.variable), _PLACES)
            found *= float(np.abs(basis(piece.factor, piece.variable, x)[:, piece.place]).max())
    return found
