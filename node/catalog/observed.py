"""Reading observations back out of the catalogue, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select
from sqlalchemy.sql.elements import ColumnElement

from node.catalog import schema
from node.catalog.cohorts import split
from node.catalog.store import Catalog
from node.intake.clinical import columns

if TYPE_CHECKING:
    import polars as pl

BATCH_ROWS = 50_000
_CODES_AT_ONCE = 200


class ObservationReader:
    """The catalogue as the place where observations come from."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def observations(self, codes: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Yield the observations of some codes (``system|code``), of all sources, in any order.

        The columns are those of ``node.intake.clinical.OBSERVATIONS``.
        """
        for first in range(0, len(codes), _CODES_AT_ONCE):
            yield from self._some(codes[first : first + _CODES_AT_ONCE])

    def _some(self, codes: Sequence[str]) -> Iterator[pl.DataFrame]:
        import polars as pl

        terms = self._terms(codes)
        if not terms:
            return
        table, values = schema.observations, schema.terms
        query = (
            select(
                schema.subjects.c.subject,
                table.c.term,
                table.c.value_number,
                values.c.system,
                values.c.code,
                table.c.unit,
                table.c.time,
            )
            .join(schema.subjects, schema.subjects.c.number == table.c.subject)
            .join(schema.sources, schema.sources.c.number == table.c.source)
            .join(values, values.c.number == table.c.value_term, isouter=True)
            .where(table.c.term.in_(sorted(terms)), schema.sources.c.current)
        )
        with self._catalog.reading.connect() as connection:
            rows = connection.execution_options(yield_per=BATCH_ROWS).execute(query)
            for part in rows.partitions(BATCH_ROWS):
                made = [_row(row, terms) for row in part]
                raw: dict[str, Any] = {**columns("observations"), "time": pl.Int64}
                frame = pl.DataFrame(made, schema=raw, orient="row")
                time = (pl.col("time") * 1_000_000).cast(pl.Datetime("us"))
                yield frame.with_columns(time.alias("time"))

    def _terms(self, codes: Sequence[str]) -> dict[int, str]:
        table = schema.terms
        wanted: list[ColumnElement[bool]] = []
        for code in codes:
            system, value = split(code)
            wanted.append((table.c.system == system) & (table.c.code == value))
        with self._catalog.reading.connect() as connection:
            found = connection.execute(select(table).where(or_(*wanted)))
            return {row.number: f"{row.system}|{row.code}" for row in found}


def _row(row: Any, terms: dict[int, str]) -> tuple[Any, ...]:
    subject, term, number, system, code, unit, time = row
    value = None if code is None else f"{system}|{code}"
    return subject, terms[term], number, value, unit, time
