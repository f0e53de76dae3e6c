"""A folder of OMOP CDM tables, each a CSV or a Parquet file, read batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from contract.errors import DataError, UsageError
from node.deid.pseudonyms import Pseudonyms
from node.intake.cells import csv_batches
from node.intake.clinical import Person, Staging
from node.intake.omop.tables import OPTIONAL, REQUIRED, conditions, measurements, people, persons
from node.intake.parquet import parquet_batches
from node.intake.records import Progress, SourceReport, open_regular
from node.intake.walk import walk

if TYPE_CHECKING:
    import polars as pl

VERSIONS = ("5.3", "5.4")
_MISSING = ["", "NULL", "null", "\\N", "NA"]
_HEADER_BYTES = 65536


def cdm_files(folder: Path) -> list[Path]:
    """Return the tables in a folder (not below it): CSV or Parquet files, by name."""
    return [
        found.path
        for found in walk([folder])
        if found.kind == "file"
        and found.path.parent == folder.resolve()
        and found.path.suffix.lower() in (".csv", ".parquet")
    ]


def table_of(path: Path) -> str:
    """Return which table a file holds: its name, in lower case."""
    return path.stem.lower()


@dataclass
class OmopSource:
    """Tables of one CDM, and which number its persons are known by."""

    files: Sequence[Path]
    pseudonyms: Pseudonyms
    by_person_id: bool = False
    """Whether ``person_id`` is the number that images and tables carry too, instead of
    ``person_source_value``."""
    observe: Callable[[int, int], None] = lambda done, total: None
    kind: str = field(default="OMOP CDM", init=False)

    @property
    def options(self) -> bytes:
        """What else decides on the rows."""
        return b"%d" % self.by_person_id

    def read(self, staging: Staging, report: SourceReport, now: datetime) -> None:
        """Write the rows of the tables aside; ``DataError`` for a CDM that isn't 5.3 or 5.4."""
        tables: dict[str, Path] = {}
        for position, path in enumerate(self.files, 1):
            if table_of(path) in tables:
                raise UsageError(f"file {position}: its table is there twice (CSV and Parquet?).")
            tables[table_of(path)] = path
        if "person" not in tables:
            raise UsageError("There is no table called person (CSV or Parquet) in this folder.")
        if "cdm_source" in tables:
            self._check_version(tables["cdm_source"])
        if others := len(tables.keys() - REQUIRED):
            report.left["other tables"] = others
        progress = Progress(
            sum(tables[n].stat().st_size for n in REQUIRED if n in tables), self.observe
        )
        known: dict[str, Person] = {}
        seen: set[str] = set()
        for frame in self._batches("person", tables["person"]):
            report.taken["person"] += frame.height
            rows = persons(
                frame,
                self.pseudonyms,
                report.quality,
                known,
                seen,
                now.date(),
                by_person_id=self.by_person_id,
            )
            staging.add_rows("observations", rows)
        progress.add(tables["person"].stat().st_size)
        report.subjects = len(seen)
        joined = people(known)
        for name, convert in (("condition_occurrence", conditions), ("measurement", measurements)):
            if name in tables:
                for frame in self._batches(name, tables[name]):
                    report.taken[name] += frame.height
                    staging.add("observations", convert(frame, joined, report.quality))
                progress.add(tables[name].stat().st_size)

    def _batches(self, name: str, path: Path) -> Iterator[pl.DataFrame]:
        """Yield the columns that are read, by their names in lower case, as text."""
        import polars as pl

        wanted = [*REQUIRED[name], *OPTIONAL[name]]
        for cells in _cells(path, name):
            absent = [column for column in wanted if column not in cells.columns]
            whole = cells.with_columns(pl.lit(None, pl.String).alias(column) for column in absent)
            texts = whole.select(pl.col(wanted).str.strip_chars())
            yield texts.with_columns(
                pl.when(~pl.col(wanted).is_in(_MISSING)).then(pl.col(wanted)).name.keep()
            )

    def _check_version(self, path: Path) -> None:
        for cells in _cells(path, "cdm_source"):
            for version in cells["cdm_version"] if "cdm_version" in cells.columns else []:
                number = str(version or "").lower().removeprefix("v").strip()
                if number and not number.startswith(VERSIONS):
                    raise DataError("The tables are of another CDM version; take 5.3 or 5.4.")


def _cells(path: Path, name: str) -> Iterator[pl.DataFrame]:
    """Yield a file's cells as text, its columns' names in lower case."""

    def check(header: list[str]) -> None:
        _check_header(header, name)

    if path.suffix.lower() == ".parquet":
        for batch in parquet_batches(path, check):
            yield batch.frame.rename(str.lower)
        return
    with open_regular(path) as file:
        first = file.readline(_HEADER_BYTES)
        separator = max("\t", ";", "|", ",", key=lambda mark: first.count(mark.encode()))
        file.seek(0)
        for batch in csv_batches(file, separator, check):
            yield batch.frame.rename(str.lower)


def _check_header(header: list[str], name: str) -> None:
    names = [column.lower() for column in header]
    absent = [column for column in REQUIRED.get(name, ()) if column not in names]
    if absent:
        raise DataError(f"Table {name} has no column {absent[0]}; is it OMOP CDM 5.3 or 5.4?")
    if len(set(names)) != len(names):
        raise DataError(f"Table {name} has a column twice.")
