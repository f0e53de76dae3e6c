"""How a dictionary says that a variable is derived: a closed list of operations, as data.

An expression is a plain number, or a table with one operation's key. Nothing is parsed from text
and nothing is evaluated. What each operation makes is worked out by ``contract.deriving``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from contract import cohorts
from contract.cohorts import Cohort
from contract.holdings import (
    IMAGING_CATEGORIES,
    Consent,
    Imaging,
    Intensity,
    Linked,
    NoYes,
    Number,
    Operation,
)
from contract.names import Line, VariableName

MAX_DEPTH = 8
"""How deep expressions may nest."""
MAX_OPERATIONS = 100
"""Of one expression."""
MAX_IMPUTATIONS = 50

Kind = Literal["number", "category"]


class Of(Operation):
    """A variable of the dictionary that is declared before this one."""

    variable: VariableName


class Add(Operation):
    """The sum; missing if one of them is."""

    add: Operands


class Multiply(Operation):
    """The product; missing if one of them is."""

    multiply: Operands


class Subtract(Operation):
    """The first less the second."""

    subtract: Pair


class Divide(Operation):
    """The first by the second; missing where that is 0."""

    divide: Pair


class Power(Operation):
    """A number to a constant power, of at most 8."""

    power: tuple[Expression, Annotated[Number, Field(ge=-8, le=8)]]


class Log(Operation):
    """The natural logarithm; missing for what isn't above 0."""

    log: Expression


class Exp(Operation):
    """The exponential."""

    exp: Expression


class Sqrt(Operation):
    """The square root; missing below 0."""

    sqrt: Expression


class Days(Operation):
    """Days from the first to the second of two date columns of the project's table."""

    days: tuple[VariableName, VariableName]


class Years(Operation):
    """Years of 365.25 days from the first to the second of two date columns."""

    years: tuple[VariableName, VariableName]


class FirstKnown(Operation):
    """The first that isn't missing; a plain number at the end stands for a missing one."""

    first_known: Annotated[tuple[Expression, ...], Field(min_length=1, max_length=20)]


class Known(Operation):
    """How many of a list are not missing: a number, or a category, each."""

    known: Annotated[tuple[Expression, ...], Field(min_length=1, max_length=20)]


class MissingIf(Operation):
    """What it is of, but these values stand for missing ones."""

    missing_if: Expression
    values: Annotated[tuple[Number | Line, ...], Field(min_length=1, max_length=100)]


class Bins(Operation):
    """A number's level between edges; an edge itself is in the level above it."""

    bins: Expression
    edges: Annotated[tuple[Number, ...], Field(min_length=1, max_length=100)]
    levels: Annotated[tuple[Line, ...], Field(min_length=2, max_length=101)]

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if len(self.levels) != len(self.edges) + 1:
            raise ValueError("bins need one level more than edges")
        if any(a >= b for a, b in pairwise(self.edges)):
            raise ValueError("edges don't rise")
        return self


class Recode(Operation):
    """A level by the level it had; any other is ``otherwise``, or missing; ``absent`` if missing.

    Of a whole number too: its levels are then written as numbers ("1").
    """

    recode: Expression
    levels: Annotated[dict[Line, Line], Field(min_length=1, max_length=1000)]
    otherwise: Line | None = None
    absent: Line | None = None


class Where(Operation):
    """Whether conditions on variables hold: the first level if they don't, the second if they do.

    Missing where a missing value leaves it open, as R's ``&`` and ``|`` have it: of "a or b" it is
    open if one is missing and the other doesn't hold. Conditions are a cohort's.
    """

    where: Cohort
    levels: NoYes = ("no", "yes")


class Impute(Operation):
    """A variable whose missing values are drawn by chained equations, at the site.

    ``using``: the variables that they are drawn from. ``imputation`` is the number of this draw, of
    ``imputations``. Draws with one number are of one chain if they use the same variables.
    """

    impute: VariableName
    using: Annotated[tuple[VariableName, ...], Field(min_length=1, max_length=50)]
    imputations: Annotated[int, Field(ge=2, le=MAX_IMPUTATIONS)] = 5
    imputation: Annotated[int, Field(ge=1, le=MAX_IMPUTATIONS)]

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Self:
        if self.imputation > self.imputations:
            raise ValueError("there are fewer imputations")
        if self.impute in self.using or len(set(self.using)) != len(self.using):
            raise ValueError("a variable is used twice")
        return self


def _key(value: Any) -> str | None:
    """Return the key of the operation that a value is, "number" for a plain one."""
    if isinstance(value, Operation):
        value = dict.fromkeys(type(value).model_fields)
    if isinstance(value, Mapping):
        if "intensity" in value:  # whose grid has bins
            return "intensity"
        return next((key for key in value if key in OPERATIONS), None)
    return "number"


_ONE_OF = Discriminator(
    _key,
    custom_error_type="operation",
    custom_error_message="is none of the operations that derive a variable",
)
Expression = Annotated[
    Annotated[Number, Tag("number")]
    | Annotated[Of, Tag("variable")]
    | Annotated[Add, Tag("add")]
    | Annotated[Multiply, Tag("multiply")]
    | Annotated[Subtract, Tag("subtract")]
    | Annotated[Divide, Tag("divide")]
    | Annotated[Power, Tag("power")]
    | Annotated[Log, Tag("log")]
    | Annotated[Exp, Tag("exp")]
    | Annotated[Sqrt, Tag("sqrt")]
    | Annotated[Days, Tag("days")]
    | Annotated[Years, Tag("years")]
    | Annotated[FirstKnown, Tag("first_known")]
    | Annotated[Known, Tag("known")]
    | Annotated[MissingIf, Tag("missing_if")]
    | Annotated[Bins, Tag("bins")]
    | Annotated[Recode, Tag("recode")]
    | Annotated[Where, Tag("where")],
    _ONE_OF,
]
Operands = Annotated[tuple[Expression, ...], Field(min_length=2, max_length=20)]
Pair = tuple[Expression, Expression]
Derivation = Annotated[
    Annotated[Add, Tag("add")]
    | Annotated[Multiply, Tag("multiply")]
    | Annotated[Subtract, Tag("subtract")]
    | Annotated[Divide, Tag("divide")]
    | Annotated[Power, Tag("power")]
    | Annotated[Log, Tag("log")]
    | Annotated[Exp, Tag("exp")]
    | Annotated[Sqrt, Tag("sqrt")]
    | Annotated[Days, Tag("days")]
    | Annotated[Years, Tag("years")]
    | Annotated[FirstKnown, Tag("first_known")]
    | Annotated[Known, Tag("known")]
    | Annotated[MissingIf, Tag("missing_if")]
    | Annotated[Bins, Tag("bins")]
    | Annotated[Recode, Tag("recode")]
    | Annotated[Where, Tag("where")]
    | Annotated[Imaging, Tag("imaging")]
    | Annotated[Intensity, Tag("intensity")]
    | Annotated[Consent, Tag("consent")]
    | Annotated[Linked, Tag("linked")]
    | Annotated[Impute, Tag("impute")],
    _ONE_OF,
]
"""How a whole variable is derived."""
OPERATIONS = (
    "variable",
    "add",
    "multiply",
    "subtract",
    "divide",
    "power",
    "log",
    "exp",
    "sqrt",
    "days",
    "years",
    "first_known",
    "known",
    "missing_if",
    "bins",
    "recode",
    "where",
    "imaging",
    "intensity",
    "consent",
    "linked",
    "impute",
)
"""The key of every operation."""


def inner(node: Operation) -> tuple[float | Operation, ...]:
    """Return the expressions directly inside one."""
    found: list[float | Operation] = []
    for name in type(node).model_fields:
        value = getattr(node, name)
        if isinstance(value, Operation):
            found.append(value)
        elif isinstance(value, tuple) and name not in ("edges", "values"):
            found += [one for one in value if isinstance(one, Operation | float)]
    return tuple(found)


def walk(node: Operation) -> Iterator[Operation]:
    """Yield an expression and all inside it."""
    yield node
    for one in inner(node):
        if isinstance(one, Operation):
            yield from walk(one)


def variables_of(node: Operation) -> tuple[str, ...]:
    """Return the dictionary's variables that an expression is made of."""
    found: list[str] = []
    for one in walk(node):
        if isinstance(one, Of):
            found.append(one.variable)
        elif isinstance(one, Impute):
            found += [one.impute, *one.using]
        elif isinstance(one, Where):
            found += cohorts.variables(one.where)
    return tuple(dict.fromkeys(found))


def dates_of(node: Operation) -> tuple[str, ...]:
    """Return the date columns that an expression is made of."""
    found = [
        name
        for one in walk(node)
        if isinstance(one, Days | Years)
        for name in (one.days if isinstance(one, Days) else one.years)
    ]
    return tuple(dict.fromkeys(found))


def check(
    node: Operation,
    kind: Kind,
    levels: tuple[str, ...],
    known: Mapping[str, tuple[Kind, bool]],
    levels_of: Mapping[str, tuple[str, ...]],
) -> None:
    """Raise ``ValueError`` unless an expression makes a variable of this kind and these levels.

    ``known``: the kind of each variable that is declared before, and whether it was imputed.
    ``levels_of``: of each of them its levels.
    """
    if _depth(node) > MAX_DEPTH or sum(1 for _ in walk(node)) > MAX_OPERATIONS:
        raise ValueError("a derivation is too large")
    for name in variables_of(node):
        if name not in known:
            raise ValueError(f"{name} is not declared before what is derived from it")
    if isinstance(node, Impute) and any(known[n][1] for n in variables_of(node)):
        raise ValueError("what was imputed isn't imputed from")
    for one in walk(node):
        if isinstance(one, Where):
            _check_conditions(one.where, levels_of)
    if _kind(node, known) != kind:
        raise ValueError(f"what is derived is no {kind}")
    if kind == "category":
        unknown = [level for level in _levels(node) if level not in levels]
        if unknown:
            raise ValueError(f"{unknown[0]} is no level of what is derived")


def _check_conditions(cohort: Cohort, levels_of: Mapping[str, tuple[str, ...]]) -> None:
    for one in cohorts.conditions(cohort):
        name = one.variable or ""
        if one.missing is None and bool(levels_of[name]) != (one.levels is not None):
            raise ValueError(f"{name} has no condition of that form")
        if not set(one.levels or ()) <= set(levels_of[name]):
            raise ValueError(f"a condition names a level that {name} hasn't got")


def _depth(node: float | Operation) -> int:
    if not isinstance(node, Operation):
        return 0
    return 1 + max((_depth(one) for one in inner(node)), default=0)


def _kind(node: float | Operation, known: Mapping[str, tuple[Kind, bool]]) -> Kind:
    """Return what an expression makes; ``ValueError`` where a category stands for a number."""
    if isinstance(node, Of | Impute):
        return known[node.variable if isinstance(node, Of) else node.impute][0]
    if isinstance(node, Imaging):
        return "category" if node.imaging in IMAGING_CATEGORIES else "number"
    if not isinstance(node, Operation):
        return "number"
    kinds = {_kind(one, known) for one in inner(node)}
    if isinstance(node, FirstKnown | MissingIf):
        if len(kinds) > 1:
            raise ValueError("a number and a category stand for one another")
        return kinds.pop()
    if "category" in kinds and not isinstance(node, Recode | Known):
        raise ValueError("a category is calculated with")
    return "category" if isinstance(node, Bins | Recode | Where | Consent | Linked) else "number"


def _levels(node: Operation) -> Iterator[str]:
    """Yield the levels that an operation can make, as far as it names them."""
    if isinstance(node, Bins | Where | Consent | Linked):
        yield from node.levels
    elif isinstance(node, Recode):
        yield from node.levels.values()
        yield from (level for level in (node.otherwise, node.absent) if level is not None)
    elif isinstance(node, FirstKnown | MissingIf):
        for one in inner(node):
            if isinstance(one, Operation):
                yield from _levels(one)
