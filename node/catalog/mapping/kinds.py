"""What an expression's value is, before any data is looked at: its kind, its unit, its levels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from node.intake.measures import ONE, Conversion, Measure, conversion

if TYPE_CHECKING:
    import polars as pl

KindName = Literal["number", "category", "boolean", "date"]
Rule = Literal["no-mapping", "source-missing", "several-rows", "type-mismatch", "unit-mismatch"]


class Unmappable(Exception):
    """Why a variable can't be derived here: a rule of the closed list and one sentence."""

    def __init__(self, rule: Rule, sentence: str) -> None:
        super().__init__(sentence)
        self.rule: Rule = rule
        self.sentence = sentence


@dataclass(frozen=True)
class Kind:
    """The kind of a value. A category's levels are known (each with its code, if any) or open."""

    name: KindName
    measure: Measure = ONE
    adopts: bool = False
    """Whether a number takes the unit of what it is added to or compared with."""
    is_stated: bool = True
    """Whether a number's unit is known."""
    levels: Mapping[str, str] | None = field(default=None, hash=False)
    """Level to ``system|code``, or to "" without one."""


NUMBER = Kind("number")
BOOLEAN = Kind("boolean")
DATE = Kind("date")
LITERAL = Kind("number", adopts=True)


@dataclass(frozen=True)
class Typed:
    """A polars expression over the columns of a subject's row, and the kind of its value."""

    kind: Kind
    expr: pl.Expr

    def need(self, *names: KindName) -> Typed:
        """Return itself; ``Unmappable`` if it is of none of the kinds named."""
        if self.kind.name not in names:
            wanted = " or ".join(names)
            raise Unmappable("type-mismatch", f"a {self.kind.name} stands where a {wanted} must")
        return self

    def within(self, measure: Measure, molar_mass: float | None = None) -> pl.Expr:
        """Return the number in a unit; ``Unmappable`` if it can't be converted."""
        if self.kind.adopts:
            return self.expr
        found = conversion(self.kind.measure, measure, molar_mass) if self.kind.is_stated else None
        if found is None:
            what = "can't be converted" if self.kind.is_stated else "isn't declared"
            raise Unmappable("unit-mismatch", f"a number's unit {what}")
        return converted(self.expr, found)


def converted(number: pl.Expr, by: Conversion) -> pl.Expr:
    """Return a number in another unit."""
    if by.factor != 1:
        number = number * by.factor
    return number + by.offset if by.offset else number


def common(operands: list[Typed]) -> tuple[Kind, list[pl.Expr]]:
    """Return numbers in the unit of the first of them that has one, or that none is known of."""
    named = [one for one in operands if not one.kind.adopts]
    if not named:
        return LITERAL, [one.expr for one in operands]
    first = named[0].kind
    if not any(one.kind.is_stated for one in named):
        return first, [one.expr for one in operands]
    return first, [one.within(first.measure) for one in operands]
