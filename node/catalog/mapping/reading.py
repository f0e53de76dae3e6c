"""How TOML says an expression: a table with one operation's key and its parameters, or a value."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, get_args

from contract.errors import ConfigurationError
from node.catalog.mapping.expressions import (
    Arithmetic,
    Aspect,
    Between,
    Bins,
    Coalesce,
    Column,
    Compare,
    Constant,
    Expression,
    InUnit,
    Logic,
    Measured,
    Observed,
    Operation,
    Recode,
    Scalar,
    Sign,
    Take,
    Window,
    Year,
)

MAX_DEPTH: Final = 16
MAX_ITEMS: Final = 1000
"""Entries of one list or table."""
_TEXT: Final = 264
"""Characters of a code with its system, the longest text."""
_COLUMN = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,63})\.([A-Za-z_][A-Za-z0-9_.]{0,63})")
_CODE = re.compile(r"[!-{}~]{0,200}\|[^|\x00-\x1f]{1,64}")


@dataclass(frozen=True)
class Reader:
    """Reads one expression; errors name ``where`` in the file it is."""

    where: str
    depth: int = 0

    def read(self, value: object) -> Expression:
        """Return the expression that a TOML value says; ``ConfigurationError`` if it says none."""
        if self.depth > MAX_DEPTH:
            raise self.wrong(f"nests deeper than {MAX_DEPTH}")
        if isinstance(value, bool | int | float | str):
            return Constant(self._scalar(value))
        if not isinstance(value, Mapping):
            raise self.wrong("is no value and no operation")
        found = [key for key in value if key in _FORMS]
        if len(found) != 1:
            known = ", ".join(sorted(_FORMS))
            raise self.wrong(f"needs one operation of: {known}")
        form, parameters = _FORMS[found[0]]
        for key in value:
            if key != found[0] and key not in parameters:
                raise self.wrong(f"{found[0]} has no parameter {key!r}")
        return form(self, found[0], value)

    def inner(self, value: object, name: str) -> Expression:
        """Return an expression inside this one."""
        return Reader(f"{self.where}.{name}", self.depth + 1).read(value)

    def wrong(self, what: str) -> ConfigurationError:
        """Return the error that says what is wrong here."""
        return ConfigurationError(f"{self.where}: {what}.")

    # ---- parts of an expression ----------------------------------------------------------------

    def _scalar(self, value: Scalar) -> Scalar:
        if isinstance(value, str) and len(value) > _TEXT:
            raise self.wrong(f"text is longer than {_TEXT} characters")
        if isinstance(value, int | float) and not abs(value) < 1e15:
            raise self.wrong("a number is too large")
        return value

    def text(self, value: object, name: str) -> str:
        """Return a text."""
        if not isinstance(value, str):
            raise self.wrong(f"{name} is not a text")
        return str(self._scalar(value))

    def number(self, value: object, name: str) -> float:
        """Return a number."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(f"{name} is not a number")
        return float(self._scalar(value))

    def days(self, value: object, name: str) -> int | None:
        """Return a number of days, None for an open end."""
        if value is None:
            return None
        number = self.number(value, name)
        if not number.is_integer() or abs(number) > 60_000:
            raise self.wrong(f"{name} is not a number of days")
        return int(number)

    def entries(self, value: object, name: str, least: int = 1, most: int = MAX_ITEMS) -> list[Any]:
        """Return a list."""
        if not isinstance(value, list) or not least <= len(value) <= most:
            wanted = f"{least}" if least == most else f"{least} to {most}"
            raise self.wrong(f"{name} is not a list of {wanted} entries")
        return value

    def all(self, value: object, name: str, least: int, most: int = 100) -> tuple[Expression, ...]:
        """Return the expressions of a list."""
        items = self.entries(value, name, least, most)
        return tuple(self.inner(item, f"{name}.{n}") for n, item in enumerate(items))

    def one_of(self, value: object, name: str, choices: tuple[str, ...]) -> Any:
        """Return a text of a closed list."""
        if value not in choices:
            raise self.wrong(f"{name} is none of {', '.join(choices)}")
        return value

    def codes(self, value: object, name: str) -> tuple[str, ...]:
        """Return codes written ``system|code``."""
        items = [value] if isinstance(value, str) else self.entries(value, name)
        for item in items:
            if not isinstance(item, str) or not _CODE.fullmatch(item):
                raise self.wrong(f'{name} holds a code that is not written "system|code"')
        return tuple(dict.fromkeys(items))

    def window(self, value: object) -> Window | None:
        """Return a window of days."""
        if value is None:
            return None
        if not isinstance(value, Mapping) or not set(value) <= {"of", "from_days", "to_days"}:
            raise self.wrong("within has of, from_days and to_days")
        if "of" not in value:
            raise self.wrong("within needs a date: of")
        first = self.days(value.get("from_days"), "from_days")
        last = self.days(value.get("to_days"), "to_days")
        if first is not None and last is not None and first > last:
            raise self.wrong("from_days is later than to_days")
        return Window(self.inner(value["of"], "within.of"), first, last)

    def molar_mass(self, values: Mapping[str, Any]) -> float | None:
        """Return grams per mole."""
        if "molar_mass" not in values:
            return None
        mass = self.number(values["molar_mass"], "molar_mass")
        if not 1 <= mass <= 1e7:
            raise self.wrong("molar_mass is not in grams per mole")
        return mass


# ---- operations --------------------------------------------------------------------------------


def _column(reader: Reader, key: str, values: Mapping[str, Any]) -> Expression:
    found = _COLUMN.fullmatch(reader.text(values[key], key))
    if found is None:
        raise reader.wrong('from is not written "table.column"')
    take = reader.one_of(values["take"], "take", get_args(Take)) if "take" in values else None
    window = reader.window(values.get("within"))
    if window is not None and take is None:
        raise reader.wrong("within needs take")
    return Column(found[1], found[2], take, window)


def _observed(reader: Reader, key: str, values: Mapping[str, Any]) -> Expression:
    take: Take = reader.one_of(values.get("take"), "take", get_args(Take))
    aspect: Aspect = reader.one_of(values.get("value", "number"), "value", get_args(Aspect))
    if aspect == "code" and take in ("minimum", "maximum"):
        raise reader.wrong("a code has no minimum and maximum")
    unit = reader.text(values.get("unit", ""), "unit")
    if take in ("count", "any") and ("unit" in values or "value" in values):
        raise reader.wrong(f"{take} needs no value and no unit")
    if take not in ("count", "any") and aspect == "number" and "unit" not in values:
        raise reader.wrong('a number needs its unit (unit = "1" if it has none)')
    return Observed(
        reader.codes(values[key], key),
        take,
        aspect,
        unit,
        reader.molar_mass(values),
        reader.codes(values["values"], "values") if "values" in values else (),
        reader.codes(values["without"], "without") if "without" in values else (),
        reader.window(values.get("within")),
    )


def _arithmetic(reader: Reader, key: Any, values: Mapping[str, Any]) -> Expression:
    most = 2 if key in ("subtract", "divide", "power") else 100
    operands = reader.all(values[key], key, 2, most)
    if key == "power":
        exponent = operands[1].value if isinstance(operands[1], Constant) else None
        if isinstance(exponent, bool | str | None) or abs(exponent) > 8:
            raise reader.wrong("power needs a number of at most 8 as exponent")
    return Arithmetic(key, operands)


def _compare(reader: Reader, key: str, values: Mapping[str, Any]) -> Expression:
    left, sign, right = reader.entries(values[key], key, 3, 3)
    return Compare(
        reader.inner(left, f"{key}.0"),
        reader.one_of(sign, "the sign", get_args(Sign)),
        reader.inner(right, f"{key}.2"),
    )


def _logic(reader: Reader, key: Any, values: Mapping[str, Any]) -> Expression:
    if key == "not":
        return Logic("not", (reader.inner(values[key], key),))
    return Logic(key, reader.all(values[key], key, 1))


def _bins(reader: Reader, key: str, values: Mapping[str, Any]) -> Expression:
    edges = tuple(reader.number(e, "edges") for e in reader.entries(values.get("edges"), "edges"))
    names = reader.entries(values.get("levels"), "levels", len(edges) + 1, len(edges) + 1)
    if any(a >= b for a, b in pairwise(edges)):
        raise reader.wrong("edges don't rise")
    levels = tuple(reader.text(name, "levels") for name in names)
    return Bins(reader.inner(values[key], key), edges, levels)


def _recode(reader: Reader, key: str, values: Mapping[str, Any]) -> Expression:
    levels = values.get("levels")
    if not isinstance(levels, Mapping) or not 1 <= len(levels) <= MAX_ITEMS:
        raise reader.wrong("recode needs levels: old name = new name")
    pairs = tuple((str(old), reader.text(new, "levels")) for old, new in levels.items())
    otherwise, absent = values.get("otherwise"), values.get("absent")
    return Recode(
        reader.inner(values[key], key),
        pairs,
        None if otherwise is None else reader.text(otherwise, "otherwise"),
        None if absent is None else reader.text(absent, "absent"),
    )


def _between(reader: Reader, key: Any, values: Mapping[str, Any]) -> Expression:
    start, end = reader.all(values[key], key, 2, 2)
    return Between(key, start, end)


def _year(reader: Reader, key: str, values: Mapping[str, Any]) -> Expression:
    return Year(reader.inner(values[key], key))


def _coalesce(reader: Reader, key: str, values: Mapping[str, Any]) -> Expression:
    return Coalesce(reader.all(values[key], key, 1))


def _in_unit(reader: Reader, key: str, values: Mapping[str, Any]) -> Expression:
    unit = reader.text(values.get("unit"), "unit")
    return InUnit(reader.inner(values[key], key), unit, reader.molar_mass(values))


_NONE: Final[frozenset[str]] = frozenset()
_Form = Callable[[Reader, str, Mapping[str, Any]], Expression]
_FORMS: Final[dict[str, tuple[_Form, frozenset[str]]]] = {
    "from": (_column, frozenset({"take", "within"})),
    "observation": (
        _observed,
        frozenset({"take", "value", "unit", "molar_mass", "values", "without", "within"}),
    ),
    **dict.fromkeys(get_args(Operation), (_arithmetic, _NONE)),
    "compare": (_compare, _NONE),
    **dict.fromkeys(("all_of", "any_of", "not"), (_logic, _NONE)),
    "bins": (_bins, frozenset({"edges", "levels"})),
    "recode": (_recode, frozenset({"levels", "otherwise", "absent"})),
    **dict.fromkeys(get_args(Measured), (_between, _NONE)),
    "year": (_year, _NONE),
    "coalesce": (_coalesce, _NONE),
    "convert": (_in_unit, frozenset({"unit", "molar_mass"})),
}
OPERATIONS: Final = tuple(_FORMS)
"""The key of every operation."""
