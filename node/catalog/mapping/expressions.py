"""The closed list of operations by which a variable is derived. Nothing else is evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Literal

Scalar = bool | int | float | str
Take = Literal["first", "last", "minimum", "maximum", "count", "any"]
"""Which of a subject's several values is meant, or how many there are, or whether there is one."""
Aspect = Literal["number", "code", "date"]
Operation = Literal["add", "subtract", "multiply", "divide", "minimum_of", "maximum_of", "power"]
Sign = Literal["<", "<=", "=", "!=", ">=", ">"]
Measured = Literal["days", "years", "completed_years"]


@dataclass(frozen=True)
class Constant:
    """A value that is the same for everyone."""

    value: Scalar


@dataclass(frozen=True)
class Window:
    """Days around a date of the subject's own, both ends included; None is open."""

    of: Expression
    from_days: int | None
    to_days: int | None


@dataclass(frozen=True)
class Column:
    """A column of a table in the vault. ``take`` is needed where a subject has several rows."""

    table: str
    column: str
    take: Take | None = None
    within: Window | None = None


@dataclass(frozen=True)
class Observed:
    """The subject's observations of some codes (``system|code``)."""

    codes: tuple[str, ...]
    take: Take
    value: Aspect = "number"
    unit: str = ""
    """What a number is converted to; one in a unit that can't be is left out."""
    molar_mass: float | None = None
    """Grams per mole."""
    values: tuple[str, ...] = ()
    """Only observations with one of these values (codes), if any are named."""
    without: tuple[str, ...] = ()
    """No observations with one of these values."""
    within: Window | None = None


@dataclass(frozen=True)
class Arithmetic:
    """A calculation with numbers, from left to right."""

    operation: Operation
    operands: tuple[Expression, ...]


@dataclass(frozen=True)
class Compare:
    """Whether one value is less than, equal to or more than another."""

    left: Expression
    sign: Sign
    right: Expression


@dataclass(frozen=True)
class Logic:
    """All of, any of, or not (three-valued: what is missing may decide nothing)."""

    operation: Literal["all_of", "any_of", "not"]
    operands: tuple[Expression, ...]


@dataclass(frozen=True)
class Bins:
    """A number's bin: the first level below the first edge, an edge itself is in the bin above."""

    of: Expression
    edges: tuple[float, ...]
    levels: tuple[str, ...]


@dataclass(frozen=True)
class Recode:
    """Other names for levels. What has none is missing and counted, unless ``otherwise``."""

    of: Expression
    levels: tuple[tuple[str, str], ...]
    otherwise: str | None = None
    absent: str | None = None
    """The level of a missing value."""


@dataclass(frozen=True)
class Between:
    """Time from one date to another: days, years of 365.25 days, or birthdays passed."""

    measured: Measured
    start: Expression
    end: Expression


@dataclass(frozen=True)
class Year:
    """The calendar year of a (moved) date."""

    of: Expression


@dataclass(frozen=True)
class Coalesce:
    """The first value that isn't missing."""

    operands: tuple[Expression, ...]


@dataclass(frozen=True)
class InUnit:
    """A number in a unit: converted to it, or, if its own isn't known, said to be in it."""

    of: Expression
    unit: str
    molar_mass: float | None = None


Leaf = Column | Observed
Expression = (
    Constant
    | Column
    | Observed
    | Arithmetic
    | Compare
    | Logic
    | Bins
    | Recode
    | Between
    | Year
    | Coalesce
    | InUnit
)


def walk(node: Expression) -> Iterator[Expression]:
    """Yield an expression and all inside it."""
    yield node
    for field in fields(node):
        value = getattr(node, field.name)
        inner = value.of if isinstance(value, Window) else value
        for one in inner if isinstance(inner, tuple) else (inner,):
            if is_dataclass(one):
                yield from walk(one)  # type: ignore[arg-type]
