"""What is kept of a patient's records, whatever they came as: subjects, observations and the rest.

Rows are built field by field from what this module names, so that nothing else of a source can
get in. Dates are moved by the subject's own number of days; ages above 89 are one group, and dates
that would tell such an age are left out (45 CFR 164.514(b)(2)(i)(C)).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from foundation.files import file_mode, private_folder, storage_errors
from node.intake.quality import Finding

if TYPE_CHECKING:
    import polars as pl

Kind = Literal["observations", "consents", "studies"]
MAX_AGE = 89
EARLIEST = date(1850, 1, 1)
MAX_NUMBER = 1e15

OBSERVATIONS = ("subject", "code", "number", "value", "unit", "time")
"""An observation, condition, specimen or trait: ``code`` and ``value`` are ``system|code``.

``unit`` is UCUM. ``value`` beside a number is its comparator ("less than"). ``time`` is the clock
at the hospital, as DICOM's is, moved; a condition is a row for its onset and one for its end, each
with the clinical status that began then.
"""
CONSENTS = ("subject", "basis", "purposes", "starts", "ends")
"""A consent, or a refusal (basis ``REFUSED``): its purposes are codes (none: all), the first and
last day are moved."""
REFUSED = "refused"
STUDIES = ("subject", "study_uid", "time")
"""An imaging study as the record system knows it: the remapped UID links it to its images."""

SEX = "http://loinc.org|46098-0"
BIRTH_YEAR = "http://loinc.org|80904-6"
RACE = "http://loinc.org|72826-1"
ABOVE_89 = "|above-89"
DECEASED = "|deceased"
_GENDER = "http://hl7.org/fhir/administrative-gender|"
COMPARATOR = "http://hl7.org/fhir/quantity-comparator|"
SEXES = {sex: _GENDER + sex for sex in ("male", "female", "other", "unknown")}


def columns(kind: Kind) -> dict[str, Any]:
    """Return the columns of a kind of row with their polars types."""
    import polars as pl

    types: dict[str, Any] = {
        "number": pl.Float64,
        "time": pl.Datetime("us"),
        "starts": pl.Date,
        "ends": pl.Date,
        "purposes": pl.List(pl.String),
    }
    names = {"observations": OBSERVATIONS, "consents": CONSENTS, "studies": STUDIES}[kind]
    return {name: types.get(name, pl.String) for name in names}


@dataclass(frozen=True, slots=True)
class Person:
    """What is known of a subject while its records are read. Never kept."""

    pseudonym: str
    days: int
    """How far its dates move into the past."""
    last: date
    """The day of death, or of the intake: no date after it, none 90 years or more before it."""

    def refuses(self, day: date) -> str:
        """Return the rule against keeping a (true) date, "" if there is none."""
        if not EARLIEST <= day <= self.last + timedelta(days=1):
            return "date-implausible"
        return "date-tells-age" if age(day, self.last) > MAX_AGE else ""


def age(birth: date, day: date) -> int:
    """Return how many whole years lie between two days."""
    return day.year - birth.year - ((day.month, day.day) < (birth.month, birth.day))


def first_day(last: date) -> date:
    """Return the first day that doesn't tell an age of 90: the day after 90 years before."""
    try:
        return last.replace(year=last.year - 90) + timedelta(days=1)
    except ValueError:
        return date(last.year - 90, 3, 1)


def traits(
    person: Person,
    *,
    sex: str = "",
    birth: date | None = None,
    earliest_birth: date | None = None,
    deceased: bool = False,
    died: date | None = None,
    race: str | None = None,
) -> list[tuple[Any, ...]]:
    """Return a subject's rows of observations. ``birth`` and ``died`` are the true days.

    ``earliest_birth`` decides on the age of whom only year or month of birth are known.

    The birth year is that of the moved day, so that ages at moved times are right; above 89 there
    is none, but that this is so.
    """
    who = person.pseudonym
    rows: list[tuple[Any, ...]] = [(who, SEX, None, SEXES.get(sex, SEXES["unknown"]), "", None)]
    rule = "" if birth is None else person.refuses(earliest_birth or birth)
    if rule == "date-tells-age":
        rows.append((who, ABOVE_89, 1.0, None, "", None))
    elif birth is not None and not rule:
        moved = birth - timedelta(days=person.days)
        rows.append((who, BIRTH_YEAR, float(moved.year), None, "", None))
    if deceased or died is not None:
        time = None
        if died is not None and not person.refuses(died):
            time = datetime(died.year, died.month, died.day) - timedelta(days=person.days)
        rows.append((who, DECEASED, 1.0, None, "", time))
    if race:
        rows.append((who, RACE, None, race, "", None))
    return rows


@dataclass(frozen=True)
class SourceRow:
    """A source of records: its name here, what it is, and the keyed digest of all its files."""

    name: str
    kind: str
    digest: str
    ingested_at: datetime


class ClinicalStore(Protocol):
    """Where rows go. One source's rows are replaced all at once or not at all."""

    def source_digest(self, name: str) -> str | None:
        """Return the digest under which a source was taken in last, or None."""

    def replace_source(self, source: SourceRow, rows: Rows, findings: tuple[Finding, ...]) -> None:
        """Keep a source's rows and findings in place of all that it had before."""


class Rows(Protocol):
    """The rows of one source, in batches that fit in memory."""

    def batches(self, kind: Kind) -> Iterator[pl.DataFrame]:
        """Yield the rows of a kind, with its ``columns``."""


@dataclass
class Staging:
    """Rows written aside, already without identifiers, until their source is whole."""

    folder: Path | None
    """Where; None for a dry run, which only counts."""
    counts: dict[Kind, int] = field(default_factory=dict)
    _parts: list[tuple[Kind, Path]] = field(default_factory=list)

    def add(self, kind: Kind, frame: pl.DataFrame) -> None:
        """Write a batch aside; ``StorageError`` when there is no room for it."""
        self.counts[kind] = self.counts.get(kind, 0) + frame.height
        if self.folder is None or not frame.height:
            return
        private_folder(self.folder)
        path = self.folder / f".{kind}-{secrets.token_hex(8)}.parquet"
        self._parts.append((kind, path))
        with storage_errors(self.folder):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with os.fdopen(os.open(path, flags, file_mode(self.folder)), "wb") as file:
                frame.write_parquet(file, compression="lz4", statistics=False)

    def add_rows(self, kind: Kind, rows: list[tuple[Any, ...]]) -> None:
        """Write rows aside, each in the order of the kind's columns."""
        import polars as pl

        if rows:
            self.add(kind, pl.DataFrame(rows, schema=columns(kind), orient="row"))

    def batches(self, kind: Kind) -> Iterator[pl.DataFrame]:
        """Yield the rows of a kind, batch by batch."""
        import polars as pl

        for name, path in self._parts:
            if name == kind:
                yield pl.read_parquet(path)

    def clear(self) -> None:
        """Delete what was written aside."""
        for _, path in self._parts:
            path.unlink(missing_ok=True)
        self._parts.clear()
