"""Terms of a model: a closed list of what may be done with a variable, and products of it.

The canonical form of what a formula says. Nothing here is text to be interpreted: a node gets these
models, and the columns that they make follow from them and the dictionary alone
(``contract.statistics.design``).
"""

from __future__ import annotations

import itertools
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from contract.names import Line, VariableName

Function = Literal["log", "log2", "log10", "log1p", "sqrt"]
"""What a number may be turned into."""


class _Factor(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    variable: VariableName


class Value(_Factor):
    """A variable as it is: a number, or a category coded by treatments against its reference."""

    form: Literal["value"] = "value"
    reference: Line | None = None
    """The level that a category's others are compared with; its first one when absent."""

    @property
    def label(self) -> str:
        """How R would write it."""
        return self.variable


class Transformed(_Factor):
    """A function of a number."""

    form: Literal["function"] = "function"
    function: Function

    @property
    def label(self) -> str:
        """How R would write it."""
        return f"{self.function}({self.variable})"


class Power(_Factor):
    """``((x - shift) / scale) ^ power``: R's ``I(...)``, closed to this one form."""

    form: Literal["power"] = "power"
    power: Annotated[int, Field(ge=1, le=10)] = 1
    shift: float = 0.0
    scale: float = 1.0

    @model_validator(mode="after")
    def _can_be_divided_by(self) -> Self:
        if not self.scale:
            raise ValueError("a number can't be divided by zero")
        return self

    @property
    def label(self) -> str:
        """How R would write it."""
        inner = self.variable
        if self.shift:
            inner = f"{inner} {'-' if self.shift > 0 else '+'} {number(abs(self.shift))}"
        if self.scale != 1:
            inner = f"({inner})" if self.shift else inner
            inner = f"{inner}/{number(self.scale)}"
        if self.power != 1:
            inner = f"({inner})" if inner != self.variable else inner
            inner = f"{inner}^{self.power}"
        return f"I({inner})"


class Polynomial(_Factor):
    """A number's powers from 1 to ``degree``: R's ``poly(x, degree, raw = TRUE)``."""

    form: Literal["polynomial"] = "polynomial"
    degree: Annotated[int, Field(ge=1, le=10)]

    @property
    def label(self) -> str:
        """How R would write it."""
        return f"poly({self.variable}, {self.degree}, raw=TRUE)"


class Spline(_Factor):
    """A spline's basis: R's ``ns`` (cubic, linear beyond the boundary) or ``bs``.

    Knots are given, or ``df`` says how many: they then lie equally spaced between the boundary
    knots, which are the dictionary's range unless given. R puts them at the data's quantiles, which
    one site can't know and which would tell of its rows.
    """

    form: Literal["spline"] = "spline"
    basis: Literal["ns", "bs"]
    df: Annotated[int, Field(ge=1, le=20)] | None = None
    knots: Annotated[tuple[float, ...], Field(max_length=20)] = ()
    boundary: tuple[float, float] | None = None
    degree: Annotated[int, Field(ge=1, le=5)] = 3

    @model_validator(mode="after")
    def _has_knots_in_order(self) -> Self:
        if (self.df is None) == (not self.knots):
            raise ValueError("a spline has either df or knots")
        if self.basis == "ns" and self.degree != 3:
            raise ValueError("a natural spline is cubic")
        if self.basis == "bs" and self.df is not None and self.df < self.degree:
            raise ValueError("a spline's df is at least its degree")
        low, high = self.boundary or (float("-inf"), float("inf"))
        row = (low, *self.knots, high)
        if any(a >= b for a, b in itertools.pairwise(row)):
            raise ValueError("a spline's knots rise and lie between its boundary knots")
        return self

    @property
    def label(self) -> str:
        """How R would write it, with what tells one spline from another."""
        said = f"df={self.df}" if self.df else f"knots=c({', '.join(map(number, self.knots))})"
        if self.degree != 3:
            said += f", degree={self.degree}"
        if self.boundary is not None:
            said += f", Boundary.knots=c({', '.join(map(number, self.boundary))})"
        return f"{self.basis}({self.variable}, {said})"


Factor = Annotated[Value | Transformed | Power | Polynomial | Spline, Field(discriminator="form")]


class Term(BaseModel):
    """A factor, or a product of up to three of different variables.

    A bare name stands for the variable as it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    factors: Annotated[tuple[Factor, ...], Field(min_length=1, max_length=3)]

    @model_validator(mode="before")
    @classmethod
    def _of_names(cls, values: Any) -> Any:
        if isinstance(values, str):
            values = (values,)
        if isinstance(values, list | tuple):
            values = {
                "factors": [
                    {"form": "value", "variable": v} if isinstance(v, str) else v for v in values
                ]
            }
        return values

    @model_validator(mode="after")
    def _is_of_different_variables(self) -> Self:
        if len(set(self.variables)) != len(self.factors):
            raise ValueError("a term names a variable twice")
        return self

    @classmethod
    def of(cls, *names: str) -> Self:
        """Return the product of variables as they are."""
        return cls.model_validate(names)

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables of its factors."""
        return tuple(factor.variable for factor in self.factors)

    @property
    def label(self) -> str:
        """How R would write it."""
        return ":".join(factor.label for factor in self.factors)


def number(value: float) -> str:
    """Return a number as a person would write it; no two differ only in what isn't shown."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
