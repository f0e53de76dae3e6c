"""A project's dictionary of variables: what each means, and on which grid it may be counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from contract.derivations import Derivation, Impute, check, variables_of
from contract.expansion import expand
from contract.names import Line, VariableName


class Code(BaseModel):
    """A code of a terminology, for example 248152002 of http://snomed.info/sct."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,64}$")]
    terminology: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,200}$")]
    """The code system's URI."""


class Variable(BaseModel):
    """A variable of a project's dictionary: its meaning, and the grid on which it may be counted.

    ``number``: values outside ``[minimum, maximum]`` are not permitted, and histograms have
    ``bins`` equal bins over it; these edges are part of what the hospitals agreed to, so that no
    one can choose edges to single out a patient. ``category``: ``levels`` are all that may be
    counted; one may be given as a table with its code (``level``, ``code``, ``terminology``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: VariableName
    kind: Literal["number", "category"]
    meaning: Line = ""
    unit: Line = ""
    """Of a number, as UCUM writes it, for example "mm[Hg]"."""
    whole: bool = False
    """Whether a number is a whole one."""
    minimum: float | None = None
    maximum: float | None = None
    bins: Annotated[int, Field(ge=1, le=1000)] | None = None
    levels: Annotated[tuple[Line, ...], Field(max_length=1000)] = ()
    codes: dict[Line, Code] = Field(default_factory=dict)
    """The levels' codes in a terminology."""
    coded: Code | None = None
    """What the variable itself is called in a terminology."""
    missing: Annotated[tuple[Line, ...], Field(max_length=100)] = ()
    """Values that stand for a missing one, for example "-9"."""
    required: bool = False
    """Whether a site without it can't take part."""
    derive: Derivation | None = None
    """How it is made of variables that are declared before it, when a release is made."""

    @model_validator(mode="before")
    @classmethod
    def _codes_of_levels(cls, values: Any) -> Any:
        levels = values.get("levels") if isinstance(values, dict) else None
        if not isinstance(levels, list | tuple) or not any(isinstance(v, dict) for v in levels):
            return values
        codes = dict(values.get("codes") or {})
        names = []
        for level in levels:
            name = level.get("level") if isinstance(level, dict) else level
            if isinstance(level, dict):
                codes[str(name)] = {k: v for k, v in level.items() if k != "level"}
            names.append(name)
        return {**values, "levels": names, "codes": codes}

    @model_validator(mode="after")
    def _has_its_grid(self) -> Self:
        if self.kind == "category":
            if not self.levels or len(set(self.levels)) != len(self.levels):
                raise ValueError("a category needs distinct levels")
        elif (self.minimum is None) != (self.maximum is None) or (
            self.minimum is not None and self.maximum is not None and self.minimum >= self.maximum
        ):
            raise ValueError("minimum and maximum go together, and in that order")
        if not set(self.codes) <= set(self.levels):
            raise ValueError("a code is that of no level")
        if len({(c.terminology, c.code) for c in self.codes.values()}) != len(self.codes):
            raise ValueError("two levels have one code")
        if set(self.missing) & set(self.levels):
            raise ValueError("a level stands for a missing value")
        return self


Variables = Annotated[tuple[Variable, ...], BeforeValidator(expand)]
"""A dictionary's variables; what is written once for several is written out."""


def check_derivations(variables: Sequence[Variable]) -> None:
    """Raise ``ValueError`` unless each derivation is of variables before it and makes its own."""
    known: dict[str, tuple[Literal["number", "category"], bool]] = {}
    levels: dict[str, tuple[str, ...]] = {}
    for variable in variables:
        node = variable.derive
        if node is not None:
            try:
                check(node, variable.kind, variable.levels, known, levels)
            except ValueError as error:
                raise ValueError(f"{variable.name}: {error}") from None
        known[variable.name] = variable.kind, _is_imputed(node, known)
        levels[variable.name] = variable.levels


def imputed(variables: Sequence[Variable]) -> frozenset[str]:
    """Return the variables that are imputed, or derived from what is.

    Their values depend on other subjects' too, so that noise for one subject doesn't protect them.
    """
    known: dict[str, tuple[Literal["number", "category"], bool]] = {}
    for variable in variables:
        known[variable.name] = variable.kind, _is_imputed(variable.derive, known)
    return frozenset(name for name, (_, is_imputed) in known.items() if is_imputed)


def _is_imputed(
    node: Derivation | None, known: Mapping[str, tuple[Literal["number", "category"], bool]]
) -> bool:
    if node is None:
        return False
    return isinstance(node, Impute) or any(
        known[name][1] for name in variables_of(node) if name in known
    )
