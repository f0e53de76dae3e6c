"""Cohorts: a closed, declarative filter over a dictionary's variables, and its normal form.

A cohort is one condition on one variable (a range of numbers, a list of levels, or that the value
is missing), or ``all``, ``any`` or ``not`` of cohorts. Nothing in it is evaluated as text. A range
or a list of levels doesn't hold for a missing value, and ``not`` is everybody else: who has no
age is in ``not {age, at_least: 50}``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from contract.errors import DocumentError
from contract.names import Line, VariableName

if TYPE_CHECKING:
    from contract.dictionary import Variable
    from contract.documents import Project

MAX_DEPTH = 12
MAX_CONDITIONS = 64
MAX_STEPS = 20_000
"""Work that bringing a cohort into its normal form may take; what needs more is refused."""
Bound = Annotated[float, Field(ge=-1e15, le=1e15)]
Columns = Mapping[str, NDArray[np.float64] | NDArray[np.int64]]
Cut = tuple[float, int]
"""A place between numbers: just before a number (0) or just after it (1)."""


class Cohort(BaseModel):
    """One condition on ``variable``, or ``all``, ``any`` or ``not`` of cohorts."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )

    variable: VariableName | None = None
    at_least: Bound | None = None
    """The number is this or larger."""
    above: Bound | None = None
    """The number is larger."""
    at_most: Bound | None = None
    """The number is this or smaller."""
    below: Bound | None = None
    """The number is smaller."""
    levels: Annotated[tuple[Line, ...], Field(min_length=1, max_length=1000)] | None = None
    """The category is one of these levels."""
    missing: bool | None = None
    """Whether there is no value."""
    all: Annotated[tuple[Cohort, ...], Field(min_length=1)] | None = None
    """Cohorts that somebody must be in all of."""
    any: Annotated[tuple[Cohort, ...], Field(min_length=1)] | None = None
    """Cohorts that somebody must be in one of."""
    not_: Annotated[Cohort | None, Field(alias="not")] = None
    """A cohort that somebody must not be in."""

    @model_validator(mode="before")
    @classmethod
    def _is_small(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            _measure(values, 0)
        return values

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        bounds = [v for v in (self.at_least, self.above, self.at_most, self.below) if v is not None]
        if None not in (self.at_least, self.above):
            raise ValueError("at_least and above exclude one another")
        if None not in (self.at_most, self.below):
            raise ValueError("at_most and below exclude one another")
        told = [bool(bounds), self.levels is not None, self.missing is not None]
        nested = [self.all is not None, self.any is not None, self.not_ is not None]
        if sum(told) + sum(nested) != 1 or _some(told) != (self.variable is not None):
            raise ValueError("a cohort is one condition on one variable, or one of all, any, not")
        return self

    @model_serializer(mode="wrap")
    def _briefly(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}

    def __and__(self, other: Cohort) -> Cohort:
        return Cohort(all=(self, other))

    def __or__(self, other: Cohort) -> Cohort:
        return Cohort(any=(self, other))

    def __invert__(self) -> Cohort:
        return Cohort(not_=self)


_some = any
"""Python's own; the name is a field of ``Cohort``."""


def _measure(value: Any, depth: int) -> int:
    """Return how many conditions a raw value holds; ``ValueError`` past what a cohort needs."""
    if depth > MAX_DEPTH:
        raise ValueError(f"cohorts nest more than {MAX_DEPTH} deep")
    if isinstance(value, Cohort):
        return sum(1 for _ in conditions(value, depth))
    if not isinstance(value, Mapping):
        return 0
    inner = [value.get("not"), value.get("not_")]
    for name in ("all", "any"):
        some = value.get(name)
        inner += list(some) if isinstance(some, list | tuple) else []
    count = sum(_measure(one, depth + 1) for one in inner if one is not None) or 1
    if count > MAX_CONDITIONS:
        raise ValueError(f"there are more than {MAX_CONDITIONS} conditions")
    return count


def conditions(cohort: Cohort, depth: int = 0) -> Iterator[Cohort]:
    """Yield a cohort's conditions on single variables."""
    if depth > MAX_DEPTH:
        raise ValueError(f"cohorts nest more than {MAX_DEPTH} deep")
    if cohort.variable is not None:
        yield cohort
    inner = (*(cohort.all or ()), *(cohort.any or ()), *((cohort.not_,) if cohort.not_ else ()))
    for one in inner:
        yield from conditions(one, depth + 1)


def variables(cohort: Cohort) -> list[str]:
    """Return the names of the variables that a cohort has conditions on, sorted."""
    return sorted({c.variable for c in conditions(cohort) if c.variable is not None})


def check(cohort: Cohort, project: Project) -> None:
    """Raise ``DocumentError`` unless every condition is one on the project's dictionary."""
    for condition in conditions(cohort):
        name = condition.variable or ""
        variable = project.variable(name)
        if variable is None:
            raise DocumentError(f"Variable {name} is not in the project's dictionary.")
        if condition.missing is not None:
            continue
        if (variable.kind == "category") != (condition.levels is not None):
            raise DocumentError(f"A {variable.kind} has no condition like the cohort's on {name}.")
        if not set(condition.levels or ()) <= set(variable.levels):
            raise DocumentError(f"The cohort names a level that {name} hasn't got.")
    _diagram(cohort, project)


# ---- who is in it --------------------------------------------------------------------------------


def mask(cohort: Cohort, columns: Columns, project: Project) -> NDArray[np.bool_]:
    """Return, for each subject, whether it is in the cohort.

    ``columns`` has a value for each subject: float64 with NaN for a number, codes with -1 for a
    category (``contract.statistics``).
    """
    if cohort.all is not None:
        return _fold(np.logical_and, [mask(c, columns, project) for c in cohort.all])
    if cohort.any is not None:
        return _fold(np.logical_or, [mask(c, columns, project) for c in cohort.any])
    if cohort.not_ is not None:
        return ~mask(cohort.not_, columns, project)
    variable = _variable(cohort, project)
    column = columns[variable.name]
    if cohort.missing is not None:
        gone = column < 0 if variable.kind == "category" else np.isnan(column)
        return np.asarray(gone == cohort.missing, dtype=np.bool_)
    if cohort.levels is not None:
        wanted = np.zeros(len(variable.levels) + 1, dtype=np.bool_)  # the last is for -1
        wanted[[variable.levels.index(level) for level in cohort.levels]] = True
        return np.asarray(wanted[column.astype(np.int64, copy=False)], dtype=np.bool_)
    found = ~np.isnan(column)
    if cohort.at_least is not None:
        found &= column >= cohort.at_least
    if cohort.above is not None:
        found &= column > cohort.above
    if cohort.at_most is not None:
        found &= column <= cohort.at_most
    if cohort.below is not None:
        found &= column < cohort.below
    return np.asarray(found, dtype=np.bool_)


def _fold(join: Any, masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    return np.asarray(join.reduce(masks), dtype=np.bool_)


def _variable(condition: Cohort, project: Project) -> Variable:
    variable = project.variable(condition.variable or "")
    if variable is None:
        raise DocumentError(f"Variable {condition.variable} is not in the project's dictionary.")
    return variable


# ---- the normal form -----------------------------------------------------------------------------


@dataclass(frozen=True)
class NormalForm:
    """A cohort as a reduced, ordered decision diagram: logically equal cohorts have the same.

    Guarantee: ``text`` depends on cohort and dictionary alone, never on whom a cohort selects; two
    cohorts have the same text if and only if they hold for the same values of the variables.
    Source: Bryant 1986, "Graph-based algorithms for Boolean function manipulation", theorem 1,
    with an edge for each range of numbers, each level, and a missing value.
    """

    text: str
    uses: Mapping[str, frozenset[Cut]]
    """The variables that it depends on, and where a number's ranges meet."""


def normal_form(cohort: Cohort | None, project: Project) -> str:
    """Return the normal form's text; everybody's is "true".

    ``DocumentError`` when the cohort is too intricate to be brought into it.
    """
    return "true" if cohort is None else _diagram(cohort, project).text


def normalise(cohort: Cohort, project: Project) -> NormalForm:
    """Return the normal form with the variables and cuts that it depends on."""
    return _diagram(cohort, project)


Term = bool | tuple[str, tuple[Any, ...]] | int
"""A formula: a constant, ("all" | "any" | "not", terms), or the number of a condition."""


def _diagram(cohort: Cohort, project: Project) -> NormalForm:
    conditions: list[Cohort] = []

    def term(one: Cohort) -> Term:
        if one.all is not None:
            return _join("all", [term(c) for c in one.all])
        if one.any is not None:
            return _join("any", [term(c) for c in one.any])
        if one.not_ is not None:
            return _negate(term(one.not_))
        if one in conditions:
            return conditions.index(one)
        conditions.append(one)
        return len(conditions) - 1

    whole = term(cohort)
    order = sorted({c.variable for c in conditions if c.variable is not None})
    return _Builder(project, conditions, order).form(whole)


def _join(kind: str, terms: Sequence[Term]) -> Term:
    """Return "all" or "any" of terms, flattened, without doubles and constants."""
    end = kind == "any"
    found: dict[Term, None] = {}
    for one in terms:
        if one is end:
            return end
        if one is not (not end):
            inner = one[1] if isinstance(one, tuple) and one[0] == kind else (one,)
            found |= dict.fromkeys(inner)
    if not found:
        return not end
    if len(found) == 1:
        return next(iter(found))
    return (kind, tuple(sorted(found, key=repr)))


def _negate(one: Term) -> Term:
    if isinstance(one, bool):
        return not one
    if isinstance(one, tuple) and one[0] == "not":
        inner: Term = one[1][0]
        return inner
    return ("not", (one,))


class _Builder:
    """Shannon's expansion in the order of the variables' names, with equal nodes shared."""

    def __init__(self, project: Project, conditions: list[Cohort], order: list[str]) -> None:
        self._conditions = conditions
        self._order = order
        self._variables = [_variable_named(project, name) for name in order]
        self._nodes: dict[tuple[int, tuple[tuple[str, int], ...]], int] = {}
        self._known: dict[tuple[int, str], int] = {}
        self._steps = 0
        self._blocks = [self._values(variable) for variable in self._variables]

    def form(self, whole: Term) -> NormalForm:
        root = self._build(whole, 0)
        inverse = {number: node for node, number in self._nodes.items()}
        names: dict[int, int] = {}
        lines: list[str] = []
        uses: dict[str, set[Cut]] = {}

        def name(number: int) -> str:
            if number < 2:
                return ("false", "true")[number]
            if number in names:
                return f"#{names[number]}"
            names[number] = len(names)
            own = names[number]
            place, edges = inverse[number]
            variable = self._order[place]
            cuts = uses.setdefault(variable, set())
            parts = []
            for label, child in edges:
                parts.append(f"{label}->{name(child)}")
                if label.startswith("from "):
                    cuts.add(_cut_of(label))
            lines.append(f"#{own}: {variable}? {'; '.join(parts)}")
            return f"#{own}"

        top = name(root)
        text = top if root < 2 else "\n".join(sorted(lines, key=_number_of))
        return NormalForm(text, {v: frozenset(c) for v, c in uses.items()})

    def _build(self, term: Term, place: int) -> int:
        if isinstance(term, bool):
            return int(term)
        key = (place, repr(term))
        if key not in self._known:
            self._known[key] = self._expand(term, place)
        return self._known[key]

    def _expand(self, term: Term, place: int) -> int:
        children: list[tuple[str, int]] = []
        for label, holds in self._blocks[place]:
            self._steps += 1
            if self._steps > MAX_STEPS:
                raise DocumentError("The cohort is too intricate; write it with fewer conditions.")
            child = self._build(_put(term, holds), place + 1)
            # A range that goes on as the one before is no range of its own.
            if not (label.startswith("from ") and children and children[-1][1] == child):
                children.append((label, child))
        if len({child for _, child in children}) == 1:
            return children[0][1]
        if self._variables[place].kind == "category":
            # Levels that go on alike are said together, in the dictionary's order.
            together: dict[int, list[str]] = {}
            for label, child in children:
                together.setdefault(child, []).append(label)
            children = [(",".join(labels), child) for child, labels in together.items()]
        node = (place, tuple(children))
        return self._nodes.setdefault(node, len(self._nodes) + 2)

    def _values(self, variable: Variable) -> list[tuple[str, dict[int, bool]]]:
        """Return labels of a variable's values, with the conditions on it that hold for each."""
        mine = [(i, c) for i, c in enumerate(self._conditions) if c.variable == variable.name]
        blocks = [("missing", {i: bool(c.missing) for i, c in mine})]
        if variable.kind == "category":
            for level in variable.levels:
                holds = {
                    i: (level in c.levels) if c.levels is not None else c.missing is False
                    for i, c in mine
                }
                blocks.append((repr(level), holds))
            return blocks
        ranges = {i: _range(c, whole=variable.whole) for i, c in mine}
        lowest: Cut = (-math.inf, 1)
        cuts = sorted({cut for r in ranges.values() for cut in r if abs(cut[0]) != math.inf})
        for start, _ in pairwise([lowest, *cuts, (math.inf, 0)]):
            holds = {}
            for i, condition in mine:
                low, high = ranges[i]
                inside = low <= start < high
                holds[i] = not condition.missing if condition.missing is not None else inside
            label = "low" if start == lowest else f"from {start[0]!r} {start[1]}"
            blocks.append((label, holds))
        return blocks


def _variable_named(project: Project, name: str) -> Variable:
    variable = project.variable(name)
    if variable is None:
        raise DocumentError(f"Variable {name} is not in the project's dictionary.")
    return variable


def _range(condition: Cohort, *, whole: bool) -> tuple[Cut, Cut]:
    """Return where a condition's range begins and ends; a whole number's bounds are moved to it."""
    low: Cut = (-math.inf, 1)
    high: Cut = (math.inf, 0)
    if condition.at_least is not None:
        low = (condition.at_least, 0)
    if condition.above is not None:
        low = (condition.above, 1)
    if condition.at_most is not None:
        high = (condition.at_most, 1)
    if condition.below is not None:
        high = (condition.below, 0)
    return cut(low, whole=whole), cut(high, whole=whole)


def cut(place: Cut, *, whole: bool) -> Cut:
    """Return a place between numbers in one form: no -0.0; between whole ones, before a number."""
    value, after = place
    if math.isinf(value):
        return place
    if whole:
        value, after = float(math.floor(value) + 1 if after else math.ceil(value)), 0
    return (value + 0.0, after)


def _cut_of(label: str) -> Cut:
    _, value, after = label.split(" ")
    return (float(value), int(after))


def _number_of(line: str) -> int:
    return int(line[1 : line.index(":")])


def _put(term: Term, holds: Mapping[int, bool]) -> Term:
    """Return a formula with some of its conditions known."""
    if isinstance(term, bool):
        return term
    if isinstance(term, int):
        return holds.get(term, term)
    kind, inner = term
    known = [_put(one, holds) for one in inner]
    return _negate(known[0]) if kind == "not" else _join(kind, known)
