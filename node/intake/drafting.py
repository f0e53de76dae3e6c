"""A first draft of a table's schema, made of the file itself.

It is for somebody to correct, and errs on the side of dropping: a column that isn't clearly a
number, a date or one of a few levels is declared as ``text``, and one that looks like a number of
the hospital's as ``identifier``. Limits are those of the data, rounded outwards. The draft stays
with the hospital: its levels and limits are of its patients.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import get_args

from contract.errors import DataError
from node.catalog.manifest import SUBJECT
from node.intake.cells import Batch, csv_batches
from node.intake.conversion import DATE_FORMATS
from node.intake.parquet import parquet_batches
from node.intake.parquet_footer import MAGIC
from node.intake.records import open_regular
from node.intake.schema import DateFormat

SEPARATORS = (",", ";", "\t", "|")
MOST_LEVELS = 20
LONGEST_LEVEL = 40
MOST_ROWS = 100_000
"""So many rows are looked at."""
FEW_ROWS = 20
"""With fewer rows, that all values differ says nothing."""
_MISSING = ("NaN", "nan", "NULL", "null", "N/A", "n/a", "?", ".", "-", "None")
_KNOWN = 1000
"""So many different values of a column are told apart."""
_INTEGER = re.compile(r"[+-]?\d{1,15}")
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
_IDENTITY = re.compile(
    r"(^|_)(id|pid|mrn|ssn|nhs|name|surname|phone|telephone|fax|email|zip|postcode|address|"
    r"passport|insurance|accession|account)(_|$)"
)


@dataclass
class _Seen:
    """What was seen of one column."""

    rows: int = 0
    values: Counter[str] = field(default_factory=Counter)
    """How often each, until there are too many."""
    too_many: bool = False
    again: bool = False
    """Whether a value came more than once."""
    integers: bool = True
    numbers: bool = True
    commas: bool = False
    zeros: bool = False
    """Whether one has zeros before it, as numbers that count nothing have."""
    least: float = math.inf
    most: float = -math.inf
    formats: tuple[DateFormat, ...] = get_args(DateFormat)

    def take(self, cells: Iterable[str]) -> None:
        """Look at the cells that aren't missing."""
        for cell in cells:
            self.rows += 1
            self.again |= cell in self.values
            self.too_many |= not self.again and len(self.values) >= _KNOWN
            if cell in self.values or len(self.values) < _KNOWN:
                self.values[cell] += 1
            self.formats = tuple(one for one in self.formats if _is_date(cell, one))
            self.zeros |= len(cell) > 1 and cell[0] == "0" and cell.isdigit()
            self.numbers = self.numbers and _NUMBER.fullmatch(cell) is not None
            self.integers = self.integers and _INTEGER.fullmatch(cell) is not None
            if self.numbers:
                self.commas |= "," in cell
                number = float(cell.replace(",", "."))
                self.numbers = math.isfinite(number)
                self.least, self.most = min(self.least, number), max(self.most, number)


def draft(
    path: Path, subject: str, table: str, *, separator: str = "", encoding: str = "UTF-8"
) -> str:
    """Return a schema (TOML) for a CSV or Parquet file.

    ``separator`` is guessed from the header when it is empty. ``DataError`` when the file can't be
    read, or has no column ``subject``.
    """
    with open_regular(path) as file:
        parquet = file.read(len(MAGIC)) == MAGIC
        separator = separator or ("," if parquet else _separator(path, encoding))
        file.seek(0)
        batches = (
            parquet_batches(path, lambda _: None)
            if parquet
            else csv_batches(file, separator, lambda _: None, encoding=encoding)
        )
        seen, missing = _look(batches, subject)
    commas = separator != "," and any(one.numbers and one.commas for one in seen.values())
    identity = seen.pop(subject)
    lines = [f"table = {_text(table)}", f"subject = {_text(subject)}"]
    lines += [f"separator = {_text(separator)}"] if separator != "," else []
    lines += [f"encoding = {_text(encoding)}"] if encoding != "UTF-8" else []
    lines += ['decimal = ","'] if commas else []
    lines += [f"missing = {_text(['', 'NA', *missing])}"] if missing else []
    lines += ['rows = "any"' if identity.again else 'rows = "one"']
    taken = {SUBJECT}
    for header, one in seen.items():
        lines += ["", "[[columns]]", *_column(header, one, commas, taken)]
    return "\n".join(lines) + "\n"


def _separator(path: Path, encoding: str) -> str:
    with path.open("rb") as file:
        header = file.readline(1_000_000).decode(encoding, errors="replace")
    return max(SEPARATORS, key=header.count)


def _look(batches: Iterator[Batch], subject: str) -> tuple[dict[str, _Seen], list[str]]:
    seen: dict[str, _Seen] = {}
    missing: set[str] = set()
    rows = 0
    for batch in batches:
        if rows >= MOST_ROWS:
            break
        rows += batch.frame.height
        if subject not in batch.frame.columns:
            columns = list(islice(batch.frame.columns, 10))
            there = f"{', '.join(columns)}, ..."
            if not all(any(c.isalpha() for c in one) for one in columns):
                # What is no header is a patient's row.
                there = "its first line has cells without a letter, and may be no header."
            raise DataError(f"The table has no column {subject!r} for its subjects: {there}")
        for header in batch.frame.columns:
            cells = [c.strip() for c in batch.frame[header] if c is not None]
            missing.update(set(cells) & set(_MISSING))
            kept = [c for c in cells if c and c != "NA" and c not in _MISSING]
            seen.setdefault(header, _Seen()).take(kept)
    if not seen:
        raise DataError("The table has a header and no rows.")
    return seen, sorted(missing)


def _column(header: str, one: _Seen, commas: bool, taken: set[str]) -> list[str]:
    """Return the lines that declare a column."""
    lines = [f"name = {_text(header)}"]
    variable = _variable(header, taken)
    kind, why = _kind(variable, one, commas)
    if kind in ("text", "identifier"):
        return [*lines, f'type = "{kind}"  # dropped: {why}']
    taken.add(variable)
    if variable != header:
        lines.append(f"rename = {_text(variable)}")
    lines.append(f'type = "{kind}"' + (f"  # {why}" if why else ""))
    if kind == "category":
        lines.append(f"levels = {_text(sorted(one.values))}")
    if kind in ("integer", "number") and one.least < one.most:
        least, most = _outwards(one.least, math.floor), _outwards(one.most, math.ceil)
        lines += [f"minimum = {min(least, 0) if least < most / 2 else least:g}"]
        lines += [f"maximum = {most:g}  # seen: {one.least:g} to {one.most:g}"]
    if kind == "date" and one.formats[0] != "YYYY-MM-DD":
        lines.append(f"format = {_text(one.formats[0])}")
    return lines


def _kind(  # noqa: PLR0911
    variable: str, one: _Seen, commas: bool
) -> tuple[str, str]:
    """Return the type that fits a column, and what there is to say of it."""
    if not one.rows:
        return "text", "always missing"
    if one.formats:
        return "date", f"or {' or '.join(one.formats[1:])}" if one.formats[1:] else ""
    alone = one.rows >= FEW_ROWS and not one.again
    counts = one.numbers and (commas or not one.commas) and not one.zeros
    if (one.integers or not counts) and _IDENTITY.search(variable.lower()):
        return "identifier", "called like one"
    if counts and one.integers and alone and one.most >= FEW_ROWS * 50:
        return "identifier", "whole numbers, no two alike"
    if counts and one.integers and one.least >= 1e5 and _digits(one.least) == _digits(one.most):
        return "identifier", "whole numbers of six digits or more, all as long"
    if counts:
        return "integer" if one.integers else "number", ""
    few = not one.too_many and len(one.values) <= min(MOST_LEVELS, one.rows / 2)
    if few and max(map(len, one.values)) <= LONGEST_LEVEL:
        return "category", ""
    return "text", "no two alike" if alone else "of many values"


def _variable(header: str, taken: set[str]) -> str:
    """Return a variable's name for a header, which no other column has."""
    name = header
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]{0,63}", name):
        name = re.sub(r"[^a-z0-9]+", "_", header.lower()).strip("_") or "column"
        name = (name if name[0].isalpha() else f"v_{name}")[:60]
    number = 2
    found = name
    while found in taken:
        found, number = f"{name[:60]}_{number}", number + 1
    return found


def _digits(value: float) -> int:
    return len(f"{value:.0f}")


def _outwards(value: float, to: Callable[[float], int]) -> float:
    """Return a number rounded to one digit, up or down as ``to`` does."""
    if not value:
        return 0.0
    step = 10.0 ** math.floor(math.log10(abs(value)))
    return float(f"{to(value / step) * step:.6g}")


def _is_date(cell: str, written: DateFormat) -> bool:
    clock = " %H:%M:%S" if written.endswith("ss") else ""
    try:
        at = datetime.strptime(cell, DATE_FORMATS[written] + clock)
    except ValueError:
        return False
    return len(cell) == len(written) and 1900 <= at.year <= 2100


def _text(value: object) -> str:
    """Return a text, or a list of texts, as TOML writes them."""
    return json.dumps(value, ensure_ascii=False)
