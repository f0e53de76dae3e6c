"""What a release or a count is of: a declarative selection, from a closed list of conditions.

A filter is a table of conditions that must all hold; ``all``, ``any`` and ``not`` nest. Nothing in
it is evaluated as text. Dates are those that are kept here: moved by the subject's own number of
days.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from contract.documents import Line, VariableName
from contract.errors import ConfigurationError
from foundation.files import read_bounded
from foundation.settings import MAX_SETTINGS_BYTES, Settings, build
from node.catalog.schema import UNDATED
from node.catalog.tallies import EPOCH, day

MAX_DEPTH = 16
MAX_CONDITIONS = 500
Values = Annotated[tuple[Line, ...], Field(min_length=1, max_length=1000)]
Code = Annotated[str, StringConstraints(pattern=r"^[^|\r\n\x00]{0,200}\|[^|\r\n\x00]{1,200}$")]
"""A terminology's URI and a code in it: ``http://loinc.org|8480-6``; our own: ``|above-89``."""
Codes = Annotated[tuple[Code, ...], Field(min_length=1, max_length=1000)]


class Filter(Settings):
    """A table of conditions; ``not`` can't be a name in Python."""

    model_config = ConfigDict(populate_by_name=True)


class Days(Filter):
    """A range of days, both included; one may be absent. What has no date is in none."""

    first: Annotated[date | None, Field(alias="from")] = None
    """The first day."""
    until: date | None = None
    """The last day."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.first is None and self.until is None:
            raise ValueError("a range of days needs from or until")
        return self


class Numbers(Filter):
    """A range of numbers, both ends included; one may be absent."""

    minimum: float | None = None
    """The smallest number."""
    maximum: float | None = None
    """The largest number."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.minimum is None and self.maximum is None:
            raise ValueError("a range of numbers needs minimum or maximum")
        return self

    def holds(self, value: float) -> bool:
        """Say whether a number is in the range."""
        return (self.minimum is None or value >= self.minimum) and (
            self.maximum is None or value <= self.maximum
        )


class AssetFilter(Filter):
    """Conditions on one asset. Words are compared without regard to case."""

    kind: Values | None = None
    """One of these kinds: dicom, slide, photograph, volume, report."""
    modality: Values | None = None
    """One of these modalities, for example "CT"."""
    body_part: Values | None = None
    """One of these parts of the body."""
    laterality: Values | None = None
    """One of these sides."""
    manufacturer: Values | None = None
    """One of these makers of the device."""
    device_model: Values | None = None
    """One of these models of the device."""
    stain: Values | None = None
    """One of these stains."""
    magnification: Numbers | None = None
    """The objective's magnification; unknown is 0."""
    dated: Days | None = None
    """The study's day, as kept here."""
    all: Annotated[tuple[AssetFilter, ...], Field(min_length=1)] | None = None
    """Filters that must all hold."""
    any: Annotated[tuple[AssetFilter, ...], Field(min_length=1)] | None = None
    """Filters of which one must hold."""
    not_: Annotated[AssetFilter | None, Field(alias="not")] = None
    """A filter that must not hold."""


class ObservationFilter(Filter):
    """The subject has an observation with all of these properties."""

    code: Codes
    """One of these codes."""
    value: Codes | None = None
    """One of these coded values."""
    number: Numbers | None = None
    """A number in this range, in the unit as kept."""
    unit: Line | None = None
    """This unit (UCUM)."""
    dated: Days | None = None
    """On one of these days, as kept here."""


class ConsentFilter(Filter):
    """The subject has a consent in force today. A refusal is one by its basis ``refused`` alone."""

    purpose: Values | None = None
    """For one of these purposes."""
    basis: Values | None = None
    """On one of these bases."""


class SubjectFilter(Filter):
    """Conditions on a subject."""

    asset: AssetFilter | None = None
    """It has an asset like this."""
    observation: ObservationFilter | None = None
    """It has an observation like this."""
    consent: ConsentFilter | None = None
    """It has a consent like this."""
    table: VariableName | None = None
    """It has a row in this table."""
    all: Annotated[tuple[SubjectFilter, ...], Field(min_length=1)] | None = None
    """Filters that must all hold."""
    any: Annotated[tuple[SubjectFilter, ...], Field(min_length=1)] | None = None
    """Filters of which one must hold."""
    not_: Annotated[SubjectFilter | None, Field(alias="not")] = None
    """A filter that must not hold."""


class Selection(Filter):
    """What is frozen: of whom, and what of them."""

    table: VariableName | None = None
    """The table whose rows are frozen, of the selected subjects."""
    columns: Annotated[tuple[VariableName, ...], Field(min_length=1)] | None = None
    """Its columns; all when absent."""
    assets: AssetFilter | None = None
    """The assets that are frozen, of the selected subjects (and of the table's, if there is one).
    An empty one is every asset."""
    observations: Codes | None = None
    """The codes whose observations are frozen, of the selected subjects."""
    subjects: SubjectFilter | None = None
    """Whose data is frozen; everybody's when absent."""
    groups: bool = True
    """Whether groups of these assets are frozen too."""

    @model_validator(mode="before")
    @classmethod
    def _is_small(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            _measure(values, 0)
        return values

    @model_validator(mode="after")
    def _columns_need_their_table(self) -> Self:
        if self.columns and self.table is None:
            raise ValueError("columns are those of a table; name the table too")
        return self

    @property
    def population(self) -> str:
        """SHA-256 of what decides on whose data is frozen. Columns and groups don't."""
        values = self.model_dump(mode="json", exclude={"columns", "groups"}, exclude_none=True)
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _measure(value: Any, depth: int) -> int:
    """Return how many tables a value holds; ``ValueError`` past what a selection needs."""
    if depth > 2 * MAX_DEPTH:
        raise ValueError(f"filters nest more than {MAX_DEPTH} deep")
    inner = value.values() if isinstance(value, Mapping) else value
    count = int(isinstance(value, Mapping))
    for one in inner:
        if isinstance(one, Mapping | list | tuple):
            count += _measure(one, depth + 1)
    if count > MAX_CONDITIONS:
        raise ValueError(f"there are more than {MAX_CONDITIONS} filters")
    return count


def parse_selection(values: Mapping[str, Any], origin: str) -> Selection:
    """Return the selection; ``ConfigurationError`` names the key that doesn't fit."""
    return build(Selection, values, origin)


def read_selection(path: Path) -> Selection:
    """Read a selection from TOML, or from JSON if the file's name ends so."""
    data = read_bounded(path, MAX_SETTINGS_BYTES)
    try:
        text = data.decode()
        values = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
        if not isinstance(values, dict):
            raise ConfigurationError(f"{path} is not a table of keys.")
        return parse_selection(values, str(path))
    except (ValueError, RecursionError):
        raise ConfigurationError(f"{path} is neither TOML nor JSON (*.json).") from None


def asks_for_consent(condition: SubjectFilter | None) -> bool:
    """Say whether a filter has a condition on consents anywhere."""
    return condition is not None and (
        condition.consent is not None
        or asks_for_consent(condition.not_)
        or any(map(asks_for_consent, (*(condition.all or ()), *(condition.any or ()))))
    )


def both(*filters: AssetFilter | None) -> AssetFilter | None:
    """Return the filter that holds where all of these do; None for none."""
    some = tuple(one for one in filters if one is not None)
    return some[0] if len(some) == 1 else AssetFilter(all=some) if some else None


# ---- what an asset filter says of one kind of asset ----------------------------------------------

Ranges = tuple[tuple[int, int], ...]
"""Days, as closed ranges: apart, in order, from ``UNDATED`` to ``LAST``."""
FIRST = date.min.toordinal() - EPOCH
LAST = date.max.toordinal() - EPOCH
EVERY: Ranges = ((UNDATED, LAST),)
"""Every day, and none."""


def days_of(condition: AssetFilter, facet: Mapping[str, Any]) -> Ranges:
    """Return the days on which assets of this facet are meant: none, all, or some."""
    for name in ("kind", "modality", "body_part", "laterality", "manufacturer"):
        if not _is_one_of(facet[name], getattr(condition, name)):
            return ()
    if not _is_one_of(facet["device_model"], condition.device_model):
        return ()
    if not _is_one_of(facet["stain"], condition.stain):
        return ()
    if condition.magnification and not condition.magnification.holds(facet["magnification"]):
        return ()
    found = EVERY
    if condition.dated is not None:
        found = range_of(condition.dated)
    for one in condition.all or ():
        found = _both(found, days_of(one, facet))
    if condition.any is not None:
        some: Ranges = ()
        for one in condition.any:
            some = _either(some, days_of(one, facet))
        found = _both(found, some)
    if condition.not_ is not None:
        found = _both(found, _others(days_of(condition.not_, facet)))
    return found


def range_of(days: Days) -> Ranges:
    """Return a range of days as numbers."""
    first = FIRST if days.first is None else day(days.first)
    last = LAST if days.until is None else day(days.until)
    return ((first, last),) if first <= last else ()


def _is_one_of(value: str, wanted: tuple[str, ...] | None) -> bool:
    return wanted is None or value.casefold() in {one.casefold() for one in wanted}


def _others(ranges: Ranges) -> Ranges:
    found, at = [], UNDATED
    for first, last in ranges:
        if first > at:
            found.append((at, first - 1))
        at = last + 1
    if at <= LAST:
        found.append((at, LAST))
    return tuple(found)


def _either(one: Ranges, other: Ranges) -> Ranges:
    found: list[tuple[int, int]] = []
    for first, last in sorted(one + other):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return tuple(found)


def _both(one: Ranges, other: Ranges) -> Ranges:
    return _others(_either(_others(one), _others(other)))


# ---- what a subject filter says, given what its conditions find ----------------------------------


def subjects_of(condition: SubjectFilter | None, find: Callable[[Any], int]) -> int:
    """Return the set of subjects as bits (negative: all but some).

    ``find`` returns the set for one condition: an asset, observation or consent filter, or a
    table's name.
    """
    if condition is None:
        return -1
    found = -1
    for leaf in (condition.asset, condition.observation, condition.consent, condition.table):
        if leaf is not None:
            found &= find(leaf)
    for one in condition.all or ():
        found &= subjects_of(one, find)
    if condition.any is not None:
        some = 0
        for one in condition.any:
            some |= subjects_of(one, find)
        found &= some
    if condition.not_ is not None:
        found &= ~subjects_of(condition.not_, find)
    return found
