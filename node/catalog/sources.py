"""Sources of records in the catalogue: their observations, consents, studies and findings.

A source's rows are written under a number that doesn't count yet, in many small transactions; one
more makes them count in place of the rows that the source had before. So killing this anywhere
leaves the old rows valid or the new ones, and what is left over is dropped the next time. An intake
at a time writes sources (``only_intake``); readers never wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Table, delete, func, insert, select, update
from sqlalchemy.exc import DBAPIError

from contract.errors import StorageError
from foundation.database import aware
from node.catalog import schema
from node.catalog.cohorts import split
from node.catalog.numbering import numbers, subject_numbers
from node.catalog.store import Catalog

if TYPE_CHECKING:
    import polars as pl

    from node.intake.clinical import Rows, SourceRow
    from node.intake.quality import Finding

AT_ONCE = 20_000
"""Rows written or dropped in one transaction, which others wait for."""
MAX_PURPOSE = 128
_EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True)
class SourceSummary:
    """A source as held: what it is and how many rows of observations count."""

    name: str
    kind: str
    rows: int
    taken_at: datetime


@dataclass(frozen=True)
class StoredFinding:
    """How often a rule was broken in a source, and where."""

    source: str
    rule: str
    where: str
    count: int
    time: datetime


class CatalogClinicalStore:
    """The catalogue as the place where records go."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def source_digest(self, name: str) -> str | None:
        """Return the digest under which a source was taken in last, or None."""
        table = schema.sources
        with self._catalog.reading.connect() as connection:
            found: str | None = connection.execute(
                select(table.c.digest).where(table.c.name == name, table.c.current)
            ).scalar()
        return found

    def replace_source(self, source: SourceRow, rows: Rows, findings: Sequence[Finding]) -> None:
        """Keep a source's rows and findings in place of all that it had before.

        ``StorageError`` when the database can't be written; what was there stays then.
        """
        try:
            self._drop_rest()
            number = self._begin(source)
            count = sum(self._write(number, source.ingested_at, rows))
            self._make_current(number, count, source, findings)
            self._drop_rest()
        except DBAPIError:
            raise StorageError(
                "The catalogue can't be written (is its disk full?); the source is as it was."
            ) from None

    def sources(self) -> list[SourceSummary]:
        """Return the sources, by name."""
        table = schema.sources
        query = select(table).where(table.c.current).order_by(table.c.name)
        with self._catalog.reading.connect() as connection:
            return [
                SourceSummary(row.name, row.kind, row.rows, aware(row.taken_at))
                for row in connection.execute(query)
            ]

    def findings(self) -> list[StoredFinding]:
        """Return all findings, by source and rule."""
        table = schema.findings
        columns = table.c.source, table.c.rule, table.c.variable, table.c.time, table.c["count"]
        query = select(*columns).order_by(table.c.source, table.c.rule, table.c.variable)
        with self._catalog.reading.connect() as connection:
            return [
                StoredFinding(r.source, r.rule, r.variable, r[4], aware(r.time))
                for r in connection.execute(query)
            ]

    # ---- the steps -----------------------------------------------------------------------------

    def _begin(self, source: SourceRow) -> int:
        with self._catalog.engine.begin() as connection:
            made = connection.execute(
                insert(schema.sources).values(
                    name=source.name,
                    kind=source.kind,
                    digest=source.digest,
                    current=False,
                    rows=0,
                    taken_at=source.ingested_at,
                )
            )
        key = made.inserted_primary_key
        assert key is not None
        return int(key[0])

    def _write(self, number: int, now: datetime, rows: Rows) -> Iterator[int]:
        """Write all rows; yield the number of observations, batch by batch."""
        writers = {"observations": _observations, "consents": _consents, "studies": _studies}
        for kind in ("consents", "studies", "observations"):
            for frame in rows.batches(kind):
                for some in frame.iter_slices(AT_ONCE):
                    with self._catalog.engine.begin() as connection:
                        writers[kind](connection, number, now, some)
                    yield some.height if kind == "observations" else 0

    def _make_current(
        self, number: int, count: int, source: SourceRow, findings: Sequence[Finding]
    ) -> None:
        table = schema.sources
        with self._catalog.engine.begin() as connection:
            connection.execute(
                update(table).where(table.c.name == source.name).values(current=False)
            )
            connection.execute(
                update(table).where(table.c.number == number).values(current=True, rows=count)
            )
            _put_findings(connection, source.name, findings, source.ingested_at)

    def _drop_rest(self) -> None:
        """Drop the rows of sources that don't count: replaced, or never whole."""
        table = schema.sources
        with self._catalog.reading.connect() as connection:
            rest = list(
                connection.execute(select(table.c.number).where(~table.c.current)).scalars()
            )
        for number in rest:
            purposes = schema.consent_purposes
            of = select(schema.consents.c.number).where(schema.consents.c.source == number)
            with self._catalog.engine.begin() as connection:
                connection.execute(delete(purposes).where(purposes.c.consent.in_(of)))
            for rows in (schema.consents, schema.reported_studies, schema.observations):
                self._drop(rows, number)
            with self._catalog.engine.begin() as connection:
                connection.execute(delete(table).where(table.c.number == number))

    def _drop(self, table: Table, source: int) -> None:
        some = select(table.c.number).where(table.c.source == source).limit(AT_ONCE)
        dropped = 1
        while dropped:
            with self._catalog.engine.begin() as connection:
                done = connection.execute(delete(table).where(table.c.number.in_(some)))
            dropped = done.rowcount


def _observations(connection: Connection, source: int, now: datetime, frame: pl.DataFrame) -> None:
    subjects = subject_numbers(connection, frame["subject"].unique(), {"first_seen": now})
    codes = set(frame["code"].unique()) | set(frame["value"].drop_nulls().unique())
    terms = numbers(connection, schema.terms, {split(code) for code in codes}, _TERM, {})
    rows = [
        {
            "source": source,
            "subject": subjects[subject],
            "term": terms[split(code)],
            "value_number": number,
            "value_term": None if value is None else terms[split(value)],
            "unit": unit or "",
            "time": _seconds(time),
        }
        for subject, code, number, value, unit, time in frame.select(
            "subject", "code", "number", "value", "unit", "time"
        ).iter_rows()
    ]
    if rows:
        connection.execute(insert(schema.observations), rows)


_TERM = ("system", "code")


def _consents(connection: Connection, source: int, now: datetime, frame: pl.DataFrame) -> None:
    subjects = subject_numbers(connection, frame["subject"].unique(), {"first_seen": now})
    table = schema.consents
    after = connection.execute(select(func.coalesce(func.max(table.c.number), 0))).scalar_one()
    rows: list[dict[str, Any]] = []
    purposes: list[dict[str, Any]] = []
    for subject, basis, some, starts, ends in frame.select(
        "subject", "basis", "purposes", "starts", "ends"
    ).iter_rows():
        rows.append(
            {
                "number": int(after) + len(rows) + 1,
                "source": source,
                "subject": subjects[subject],
                "basis": basis,
                "starts": starts,
                "ends": ends,
            }
        )
        purposes += [
            {"consent": rows[-1]["number"], "purpose": purpose[:MAX_PURPOSE]}
            for purpose in dict.fromkeys(some or ())
        ]
    if rows:
        connection.execute(insert(table), rows)
    if purposes:
        connection.execute(insert(schema.consent_purposes), purposes)


def _studies(connection: Connection, source: int, now: datetime, frame: pl.DataFrame) -> None:
    subjects = subject_numbers(connection, frame["subject"].unique(), {"first_seen": now})
    rows = [
        {
            "source": source,
            "subject": subjects[subject],
            "study_uid": uid,
            "time": _seconds(time),
        }
        for subject, uid, time in frame.select("subject", "study_uid", "time").iter_rows()
    ]
    if rows:
        connection.execute(insert(schema.reported_studies), rows)


def _seconds(time: datetime | date | None) -> int | None:
    """Return seconds since 1970 of the hospital's clock, which has no zone here."""
    if time is None:
        return None
    clock = time if isinstance(time, datetime) else datetime(time.year, time.month, time.day)
    if clock.tzinfo is not None:
        clock = clock.astimezone(UTC).replace(tzinfo=None)
    return int((clock - _EPOCH).total_seconds() // 1)


def _put_findings(
    connection: Connection, source: str, findings: Iterable[Finding], now: datetime
) -> None:
    table = schema.findings
    connection.execute(delete(table).where(table.c.source == source))
    rows = [
        {"source": source, "rule": f.rule, "variable": f.where, "count": f.count, "time": now}
        for f in findings
    ]
    if rows:
        connection.execute(insert(table), rows)
