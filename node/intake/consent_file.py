"""Consents from a CSV file: whose, on which basis, for which purposes, from when until when.

Columns: ``number`` (the hospital's own) and ``basis`` are needed; ``purposes`` (separated by a
semicolon), ``from`` and ``until`` (YYYY-MM-DD, both days included) may be there.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TextIO

from contract.errors import DataError
from node.deid.pseudonyms import Pseudonyms
from node.intake.clinical import Staging
from node.intake.records import SourceReport, open_regular

MAX_LINE = 10_000
NEEDED = frozenset({"number", "basis"})
KNOWN = NEEDED | {"purposes", "from", "until"}
_AT_ONCE = 10_000


@dataclass
class ConsentFile:
    """A CSV file of consents, as a source of records."""

    path: Path
    pseudonyms: Pseudonyms
    kind: str = "consents"
    options: bytes = b""

    @property
    def files(self) -> Sequence[Path]:
        """The file."""
        return (self.path,)

    def read(self, staging: Staging, report: SourceReport, now: datetime) -> None:
        """Write the consents aside; ``DataError`` for a file that isn't one of consents.

        A consent whose period can't be read is left out: it might have ended.
        """
        subjects: set[str] = set()
        rows: list[tuple[object, ...]] = []
        with io.TextIOWrapper(open_regular(self.path), encoding="utf-8-sig", newline="") as file:
            for line in _rows(file):
                number, basis = line["number"].strip(), line["basis"].strip()
                if not number:
                    report.quality.add("no-key", "Consent")
                elif not basis:
                    report.quality.add("missing-required", "basis")
                else:
                    try:
                        starts, ends = _day(line.get("from")), _day(line.get("until"))
                    except ValueError:
                        report.quality.add("date-unreadable", "Consent")
                        continue
                    subject = self.pseudonyms.subject(number)
                    moved = timedelta(days=self.pseudonyms.days(subject))
                    purposes = [p.strip() for p in (line.get("purposes") or "").split(";")]
                    subjects.add(subject)
                    rows.append(
                        (
                            subject,
                            basis,
                            [purpose for purpose in purposes if purpose],
                            starts and starts - moved,
                            ends and ends - moved,
                        )
                    )
                    report.taken["Consent"] += 1
                if len(rows) >= _AT_ONCE:
                    staging.add_rows("consents", rows)
                    rows = []
        staging.add_rows("consents", rows)
        report.subjects = len(subjects)


def _rows(file: TextIO) -> Iterator[dict[str, str]]:
    """Yield the lines by their columns' names."""
    reader = csv.reader(_bounded(file), strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        if not set(header) >= NEEDED or not set(header) <= KNOWN or len(set(header)) != len(header):
            raise DataError(
                "A file of consents has the columns number and basis, and may have purposes, from "
                "and until."
            )
        for values in reader:
            if not any(values):
                continue
            if len(values) != len(header):
                raise DataError(f"Line {reader.line_num} has another number of cells.")
            yield dict(zip(header, values, strict=True))
    except UnicodeDecodeError:
        raise DataError("The file of consents is not UTF-8.") from None
    except csv.Error:
        raise DataError(f"Line {reader.line_num} is not CSV.") from None


def _bounded(file: TextIO) -> Iterator[str]:
    while line := file.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise DataError("A line of the file of consents is too long.")
        yield line


def _day(text: str | None) -> date | None:
    stripped = (text or "").strip()
    return date.fromisoformat(stripped) if stripped else None
