"""Whose rows a clinical table of the vault holds."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import select

from contract.errors import DataError, NotFound
from node.catalog import schema
from node.catalog.manifest import SUBJECT
from node.catalog.numbering import batches, subject_numbers
from node.catalog.rows import TableRow
from node.catalog.selection import Selection, SubjectFilter
from node.catalog.store import Catalog
from node.home import NodeHome

if TYPE_CHECKING:
    import polars as pl


def table_frame(home: NodeHome, row: TableRow, columns: Sequence[str]) -> pl.DataFrame:
    """Return columns of a table, checked against its digest; ``DataError`` if it was changed."""
    import polars as pl

    path = home.vault / "tables" / f"{row.digest}.parquet"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"Table {row.name!r} is not in the vault; `ingest` it again.") from None
    if hashlib.sha256(data).hexdigest() != row.digest:
        raise DataError(f"Table {row.name!r} was changed in the vault; `ingest` it again.")
    return pl.read_parquet(io.BytesIO(data), columns=list(columns))


class TableSubjects:
    """The pseudonyms of each table's subjects, read when they are asked for."""

    def __init__(self, catalog: Catalog, home: NodeHome) -> None:
        self._catalog = catalog
        self._home = home
        self._read: dict[str, frozenset[str]] = {}

    def __call__(self, table: str) -> Collection[str]:
        """Return whom a table has rows of; ``NotFound`` for one that isn't here."""
        if table not in self._read:
            row = self._catalog.get_table(table)
            if row is None:
                raise NotFound(f"There is no table {table!r}; `ingest` it with its schema first.")
            frame = table_frame(self._home, row, [SUBJECT])
            self._read[table] = frozenset(frame[SUBJECT].unique())
        return self._read[table]

    def number(self, selection: Selection, now: datetime | None = None) -> None:
        """See to it that all subjects of the tables in a selection have numbers."""
        for table in _tables(selection):
            row = self._catalog.get_table(table)
            subjects = sorted(self(table))
            assert row is not None
            new: list[str] = []
            with self._catalog.reading.connect() as connection:
                column = schema.subjects.c.subject
                for some in batches(subjects, 500):
                    known = set(
                        connection.execute(select(column).where(column.in_(some))).scalars()
                    )
                    new += [subject for subject in some if subject not in known]
            if new:
                with self._catalog.engine.begin() as connection:
                    subject_numbers(connection, new, {"first_seen": now or row.ingested_at})


def _tables(selection: Selection) -> set[str]:
    """Return the tables that a selection names."""
    found = {selection.table} if selection.table else set()
    return found | set(_filtered(selection.subjects))


def _filtered(condition: SubjectFilter | None) -> Iterator[str]:
    if condition is None:
        return
    if condition.table is not None:
        yield condition.table
    for one in (*(condition.all or ()), *(condition.any or ()), condition.not_):
        yield from _filtered(one)
