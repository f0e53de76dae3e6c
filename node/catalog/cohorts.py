"""Cohorts: which subjects a selection is of, and how much there is of them.

Sets of subjects are integers whose bits are the subjects' numbers; a negative one is everybody but
some. Who has which kind of asset is kept as bits, so a count reads little however many assets
there are; only ranges of days, observations and consents are looked up row by row.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, any_, func, literal, or_, select
from sqlalchemy.sql.selectable import Select

from node.catalog import schema
from node.catalog.numbering import AT_ONCE, Members, batches, bits_of, joined, unpacked
from node.catalog.selection import (
    EVERY,
    AssetFilter,
    ConsentFilter,
    Days,
    ObservationFilter,
    Ranges,
    Selection,
    days_of,
    subjects_of,
)
from node.catalog.tallies import EPOCH, Holds
from node.deid.pseudonyms import MOST_DAYS
from node.intake.clinical import REFUSED

DAY_SECONDS = 86400


@dataclass(frozen=True)
class Cohort:
    """How many there are. For the hospital's own eyes: nothing is rounded."""

    subjects: int
    studies: int
    assets: int


@dataclass(frozen=True)
class Meant:
    """Kinds of asset that a filter means: on every day, or on some."""

    whole: frozenset[int]
    """Facets all of whose assets are meant."""
    parts: Mapping[Ranges, frozenset[int]]
    """Facets whose assets on some days are meant."""

    @property
    def nothing(self) -> bool:
        """Whether it means no asset at all."""
        return not self.whole and not self.parts


class Cohorts:
    """Answers over one connection, as of one day.

    ``days`` returns by how many days a subject's dates were moved; without it, a consent whose
    period depends on that is not in force. ``table_subjects`` returns a table's pseudonyms.
    """

    def __init__(
        self,
        connection: Connection,
        today: date,
        days: Callable[[str], int] | None = None,
        table_subjects: Callable[[str], Collection[str]] = lambda table: (),
    ) -> None:
        self._connection = connection
        self._today = today
        self._days = days
        self._table_subjects = table_subjects
        self._known: dict[tuple[Holds, frozenset[int]], int] = {}

    def count(self, selection: Selection) -> Cohort:
        """Return how many subjects, studies and assets there are to a selection.

        Subjects have what ``subjects`` says, a row in ``table`` and an asset of ``assets`` where
        these are given; withdrawn ones don't count. Studies and assets are those of ``assets``.
        """
        chosen = self._without_withdrawn(self.subjects(selection))
        if selection.assets is None:
            return Cohort(self._size(chosen), 0, 0)
        meant = self.meant(selection.assets)
        studies, assets = self._amounts(meant, chosen)
        return Cohort(self._size(chosen), studies, assets)

    def subjects(self, selection: Selection) -> int:
        """Return the subjects of a selection, withdrawn ones too."""
        chosen = subjects_of(selection.subjects, self._find)
        if selection.table is not None:
            chosen &= self._find(selection.table)
        if selection.assets is not None and selection.table is None:
            with_assets = self._find(selection.assets)
            if selection.observations is not None:
                with_assets |= self._find(ObservationFilter(code=selection.observations))
            chosen &= with_assets
        elif selection.observations is not None and selection.table is None:
            chosen &= self._find(ObservationFilter(code=selection.observations))
        return chosen

    def meant(self, condition: AssetFilter) -> Meant:
        """Return which kinds of asset a filter means, on which days."""
        whole: set[int] = set()
        parts: defaultdict[Ranges, set[int]] = defaultdict(set)
        for facet in self._connection.execute(select(schema.facets)):
            ranges = days_of(condition, facet._asdict())
            if ranges == EVERY:
                whole.add(facet.number)
            elif ranges:
                parts[ranges].add(facet.number)
        return Meant(frozenset(whole), {r: frozenset(some) for r, some in parts.items()})

    def names(self, chosen: int) -> dict[int, str]:
        """Return the pseudonyms of a set of subjects, by number."""
        members = Members(chosen if chosen >= 0 else ~chosen)
        inverted = chosen < 0
        table = schema.subjects
        rows = self._connection.execute(select(table.c.number, table.c.subject))
        return {row[0]: row[1] for row in rows if (row[0] in members) != inverted}

    # ---- one condition -------------------------------------------------------------------------

    def _find(self, condition: object) -> int:
        if isinstance(condition, AssetFilter):
            return self._with_assets(self.meant(condition))
        if isinstance(condition, ObservationFilter):
            return bits_of(self._numbers(self._observed(condition)))
        if isinstance(condition, ConsentFilter):
            return self._consenting(condition)
        assert isinstance(condition, str)
        table = schema.subjects
        among = self._among(table.c.subject, sorted(self._table_subjects(condition)))
        return bits_of(self._numbers(select(table.c.number).where(among)))

    def _with_assets(self, meant: Meant) -> int:
        found = self._posted("subjects", meant.whole)
        if meant.parts:
            some = select(schema.strata.c.subject).where(_on_days(meant.parts)).distinct()
            found |= bits_of(self._numbers(some))
        return found

    def _observed(self, condition: ObservationFilter) -> Select[Any]:
        table = schema.observations
        wanted: list[ColumnElement[bool]] = [
            table.c.term.in_(self._terms(condition.code)),
            table.c.source.in_(_current_sources()),
        ]
        if condition.value is not None:
            wanted.append(table.c.value_term.in_(self._terms(condition.value)))
        if condition.number is not None:
            if condition.number.minimum is not None:
                wanted.append(table.c.value_number >= condition.number.minimum)
            if condition.number.maximum is not None:
                wanted.append(table.c.value_number <= condition.number.maximum)
        if condition.unit is not None:
            wanted.append(table.c.unit == condition.unit)
        if condition.dated is not None:
            wanted += _in_seconds(table.c.time, condition.dated)
        return select(table.c.subject).where(*wanted).distinct()

    def _terms(self, codes: Iterable[str]) -> list[int]:
        return term_numbers(self._connection, codes)

    def _consenting(self, condition: ConsentFilter) -> int:
        found = bits_of(
            self._numbers(
                select(schema.consents.c.subject).where(
                    *_surely_in_force(self._today), *_consent(condition)
                )
            )
        )
        if self._days is None:
            return found
        table = schema.consents
        unsure = (
            select(table.c.subject, schema.subjects.c.subject, table.c.starts, table.c.ends)
            .join(schema.subjects, schema.subjects.c.number == table.c.subject)
            .where(*_maybe_in_force(self._today), *_consent(condition))
        )
        more = set()
        for number, name, starts, ends in self._connection.execute(unsure):
            moved = self._today - timedelta(days=self._days(name))
            if (starts is None or starts <= moved) and (ends is None or moved <= ends):
                more.add(number)
        return found | bits_of(more)

    # ---- counting ------------------------------------------------------------------------------

    def _without_withdrawn(self, chosen: int) -> int:
        table = schema.subjects
        withdrawn = select(table.c.number).join(
            schema.withdrawals, schema.withdrawals.c.subject == table.c.subject
        )
        gone = bits_of(self._numbers(withdrawn))
        return chosen & ~gone if gone else chosen

    def _size(self, chosen: int) -> int:
        if chosen >= 0:
            return chosen.bit_count()
        everybody = select(func.count()).select_from(schema.subjects)
        return int(self._connection.execute(everybody).scalar_one()) - (~chosen).bit_count()

    def _amounts(self, meant: Meant, chosen: int) -> tuple[int, int]:
        """Return how many studies and assets of what is meant the chosen subjects have."""
        if meant.nothing:
            return 0, 0
        table = schema.strata
        if not meant.parts and not self._posted("subjects", meant.whole) & ~chosen:
            # Everybody with such assets was chosen, so that the totals are the answer.
            total = select(func.sum(schema.facets.c.assets)).where(
                self._among(schema.facets.c.number, sorted(meant.whole))
            )
            assets = int(self._connection.execute(total).scalar_one() or 0)
            return self._posted("studies", meant.whole).bit_count(), assets
        conditions = [_on_days(meant.parts)] if meant.parts else []
        if meant.whole:
            conditions.append(self._among(table.c.facet, sorted(meant.whole)))
        members, inverted = Members(chosen if chosen >= 0 else ~chosen), chosen < 0
        rows = self._connection.execute(
            select(table.c.subject, table.c.study, table.c.assets).where(or_(*conditions))
        )
        studies: set[int] = set()
        assets = 0
        for subject, study, count in rows:
            if (subject in members) != inverted:
                studies.add(study)
                assets += count
        return len(studies - {0}), assets

    def _posted(self, holds: Holds, facets: frozenset[int]) -> int:
        """Return who (or which studies) has assets of one of the facets."""
        table = schema.postings
        key = holds, facets
        if key not in self._known:
            rows = self._connection.execute(
                select(table.c.chunk, table.c.bits).where(
                    self._among(table.c.facet, sorted(facets)), table.c.holds == holds
                )
            )
            self._known[key] = joined((row[0], unpacked(row[1])) for row in rows)
        return self._known[key]

    def _numbers(self, query: Select[Any]) -> Iterable[int]:
        return self._connection.execute(query).scalars()

    def _among(self, column: Any, values: list[Any]) -> ColumnElement[bool]:
        return among(self._connection, column, values)


def among(connection: Connection, column: Any, values: list[Any]) -> ColumnElement[bool]:
    """Return the condition that a column holds one of many values, which are one parameter."""
    if connection.dialect.name == "sqlite":
        each = func.json_each(json.dumps(values)).table_valued("value")
        found: ColumnElement[bool] = column.in_(select(each.c.value))
        return found
    from sqlalchemy.dialects.postgresql import ARRAY

    one: ColumnElement[bool] = column == any_(literal(values, ARRAY(column.type)))
    return one


def term_numbers(connection: Connection, codes: Iterable[str]) -> list[int]:
    """Return the numbers of ``system|code``; what never occurred has none."""
    from sqlalchemy import tuple_

    table = schema.terms
    found: list[int] = []
    for some in batches(sorted({split(code) for code in codes}), AT_ONCE):
        keys = tuple_(table.c.system, table.c.code).in_(some)
        found += connection.execute(select(table.c.number).where(keys)).scalars()
    return found


def split(code: str) -> tuple[str, str]:
    """Return system and code of ``system|code``."""
    system, _, value = code.partition("|")
    return system, value


def _current_sources() -> Select[Any]:
    return select(schema.sources.c.number).where(schema.sources.c.current)


def _on_days(parts: Mapping[Ranges, frozenset[int]]) -> ColumnElement[bool]:
    table = schema.strata
    return or_(
        *(
            and_(
                table.c.facet.in_(sorted(facets)),
                or_(*(table.c.day.between(first, last) for first, last in ranges)),
            )
            for ranges, facets in parts.items()
        )
    )


def _in_seconds(column: Any, days: Days) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if days.first is not None:
        found.append(column >= (days.first.toordinal() - EPOCH) * DAY_SECONDS)
    if days.until is not None:
        found.append(column < (days.until.toordinal() + 1 - EPOCH) * DAY_SECONDS)
    return found


# A subject's dates are moved by up to MOST_DAYS into the past, and so is its today: most periods
# can be judged without knowing by how many.


def _consent(condition: ConsentFilter) -> list[ColumnElement[bool]]:
    table, purposes = schema.consents, schema.consent_purposes
    wanted: list[ColumnElement[bool]] = [table.c.source.in_(_current_sources())]
    if condition.basis is not None:
        wanted.append(table.c.basis.in_(condition.basis))
    else:
        wanted.append(table.c.basis != REFUSED)
    if condition.purpose is not None:
        of = select(purposes.c.consent).where(purposes.c.purpose.in_(condition.purpose))
        wanted.append(table.c.number.in_(of))
    return wanted


def _surely_in_force(today: date) -> list[ColumnElement[bool]]:
    table = schema.consents
    return [
        or_(table.c.starts.is_(None), table.c.starts <= today - timedelta(days=MOST_DAYS)),
        or_(table.c.ends.is_(None), table.c.ends >= today - timedelta(days=1)),
    ]


def _maybe_in_force(today: date) -> list[ColumnElement[bool]]:
    table = schema.consents
    return [
        or_(table.c.starts.is_(None), table.c.starts <= today - timedelta(days=1)),
        or_(table.c.ends.is_(None), table.c.ends >= today - timedelta(days=MOST_DAYS)),
        or_(
            table.c.starts > today - timedelta(days=MOST_DAYS),
            table.c.ends < today - timedelta(days=1),
        ),
    ]
