"""Cells of a declared table become values, and what doesn't fit the declaration is counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from contract.errors import DataError
from node.catalog.manifest import SUBJECT
from node.deid.pseudonyms import Pseudonyms
from node.intake.cells import Batch
from node.intake.clinical import first_day
from node.intake.quality import QualityReport
from node.intake.schema import ColumnSchema, DateFormat, TableSchema
from node.intake.units import GREATEST_AGE, greatest_age, is_birth_year

if TYPE_CHECKING:
    import polars as pl

MAX_REMEMBERED = 200_000
"""Subjects whose pseudonyms aren't made again in the next batch."""
_TRUE = ("true", "yes", "1", "t", "y")
_FALSE = ("false", "no", "0", "f", "n")
DATE_FORMATS: dict[DateFormat, str] = {
    "YYYY-MM-DD": "%Y-%m-%d",
    "YYYY-MM-DD hh:mm:ss": "%Y-%m-%d",
    "YYYY/MM/DD": "%Y/%m/%d",
    "YYYYMMDD": "%Y%m%d",
    "DD.MM.YYYY": "%d.%m.%Y",
    "DD/MM/YYYY": "%d/%m/%Y",
    "MM/DD/YYYY": "%m/%d/%Y",
}
_PHRASES = {
    "integer": "not an integer",
    "number": "not a number",
    "boolean": "not true or false",
}


class Unfit(DataError):
    """A table that doesn't fit its schema; ``quality`` counts everything that doesn't."""

    def __init__(self, message: str, quality: QualityReport) -> None:
        super().__init__(message)
        self.quality = quality


@dataclass
class Conversion:
    """Converts the batches of one table, and remembers what was wrong in all of them."""

    schema: TableSchema
    pseudonyms: Pseudonyms
    lenient: bool = False
    """Whether what is out of range, of an unknown level or lacking is made missing and counted."""
    today: date | None = None
    """From which ages are counted; None keeps dates however old."""
    quality: QualityReport = field(init=False)
    made_missing: dict[str, int] = field(default_factory=dict)
    _errors: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    """Line of the first and number of all, by column and what is wrong."""
    _subjects: dict[str, tuple[str, int]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.quality = QualityReport(f"table {self.schema.table}")

    @property
    def failed(self) -> bool:
        """Whether the table can't be taken."""
        return bool(self._errors)

    def check(self) -> None:
        """Raise ``Unfit`` if anything was wrong: the first of the first kind, and how many more."""
        for (column, what), (line, count) in self._errors.items():
            more = f" ({count - 1} more such)" if count > 1 else ""
            message = f"row {line}, column {column}: {what}{more}."
            raise Unfit(message, self.quality)

    def convert(self, batch: Batch) -> pl.DataFrame:
        """Return the pseudonymous rows of a batch, in its order.

        Columns: ``subject`` (String), then Int64, Float64, String (category), Boolean and Date, in
        the schema's order. Dates are moved by the subject's own number of days.
        """
        import polars as pl

        schema = self.schema
        subject = batch.frame[schema.subject].str.strip_chars()
        missing = subject.is_null() | subject.is_in(list(schema.missing))
        self._wrong(batch, schema.subject, missing, "the subject is missing", "no-key")
        known = self._known(subject.drop_nulls().unique().to_list())
        pseudonym_of = {value: pseudonym for value, (pseudonym, _) in known.items()}
        days_of = {value: days for value, (_, days) in known.items()}
        people = subject.replace_strict(pseudonym_of, default=None, return_dtype=pl.String)
        days = subject.replace_strict(days_of, default=None, return_dtype=pl.Int64)
        columns = [people.alias(SUBJECT)]
        for column in schema.kept:
            values = self._values(batch, column)
            if column.type == "date":
                values = self._without_telling_dates(values, f"{schema.table}.{column.variable}")
                values = values - pl.Series(days * 86_400_000_000).cast(pl.Duration("us"))
            columns.append(values.alias(column.variable))
        return pl.DataFrame(columns)

    def _known(self, subjects: list[str]) -> dict[str, tuple[str, int]]:
        """Return pseudonym and days of some subjects; those of the last batches are remembered."""
        if len(self._subjects) > MAX_REMEMBERED:
            self._subjects.clear()
        for subject in subjects:
            if subject not in self._subjects:
                pseudonym = self.pseudonyms.subject(subject)
                self._subjects[subject] = pseudonym, self.pseudonyms.days(pseudonym)
        return {subject: self._subjects[subject] for subject in subjects}

    def _values(self, batch: Batch, column: ColumnSchema) -> pl.Series:
        cells = batch.frame[column.name].str.strip_chars()
        missing = cells.is_null() | cells.is_in(list(self.schema.missing_of(column)))
        cells = cells.set(missing, None)
        where = f"{self.schema.table}.{column.variable}"
        if column.type == "category":
            values = cells
            unfit, rule, what = ~cells.is_in(list(column.levels)), "unknown-level", "unknown level"
        else:
            values = typed(cells, column)
            mistyped = values.is_null() & ~missing
            phrase = _PHRASES.get(column.type, f"not a date written {column.format}")
            self._wrong(batch, column.name, mistyped, phrase, "value-mistyped", where)
            unfit, rule, what = _outside(values, column), "out-of-range", "out of range"
        unfit = unfit.fill_null(False)
        if unfit.any():
            if self.lenient:
                count = int(unfit.sum())
                self.quality.add(rule, where, count)
                self.made_missing[column.variable] = (
                    self.made_missing.get(column.variable, 0) + count
                )
            else:
                self._wrong(batch, column.name, unfit, what, rule, where)
            values = values.set(unfit, None)
        if column.required and self.lenient:
            self.quality.add("missing-required", where, values.null_count())
        elif column.required:
            lacking = values.is_null() & missing
            what = "missing, though it is required"
            self._wrong(batch, column.name, lacking, what, "missing-required", where)
        return self._without_great_ages(values, column, where)

    def _without_great_ages(self, values: pl.Series, column: ColumnSchema, where: str) -> pl.Series:
        """Make ages above 89 one group, and leave out years of birth that tell one."""
        if column.type not in ("integer", "number"):
            return values
        greatest = greatest_age(column.unit, column.name, column.variable)
        great = (values > greatest).fill_null(False)
        if great.any():
            self.quality.add("age-above-89", where, int(great.sum()))
            values = values.set(great, int(greatest) if column.type == "integer" else greatest)
        if self.today is not None and is_birth_year(column.name, column.variable):
            early = (values <= self.today.year - GREATEST_AGE).fill_null(False)
            self.quality.add("age-above-89", where, int(early.sum()))
            values = values.set(early, None)
        return values

    def _without_telling_dates(self, values: pl.Series, where: str) -> pl.Series:
        """Leave out dates of 90 years ago or more: whose they are is older than 89."""
        if self.today is None:
            return values
        telling = (values < first_day(self.today)).fill_null(False)
        self.quality.add("date-tells-age", where, int(telling.sum()))
        return values.set(telling, None)

    def _wrong(
        self, batch: Batch, column: str, wrong: pl.Series, what: str, rule: str, where: str = ""
    ) -> None:
        count = int(wrong.sum())
        if not count:
            return
        self.quality.add(rule, where or f"{self.schema.table}.{SUBJECT}", count)
        first = batch.lines[int(wrong.arg_true()[0])]
        line, before = self._errors.get((column, what), (first, 0))
        self._errors[column, what] = (line, before + count)


def typed(cells: pl.Series, column: ColumnSchema) -> pl.Series:
    """Return text cells as the column's type, null for what isn't of it."""
    import polars as pl

    if column.type == "integer":
        return cells.str.extract(r"^\+?(-?\d{1,15})(?:\.0*)?$").cast(pl.Int64)  # exact as float
    if column.type == "number":
        pattern = r"^\+?(-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)$"
        values = cells.str.extract(pattern).cast(pl.Float64, strict=False)
        return values.set(~values.is_finite().fill_null(True), None)
    if column.type == "boolean":
        words = {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}
        lower = cells.str.to_lowercase()
        return lower.replace_strict(words, default=None, return_dtype=pl.Boolean)
    if column.format == "YYYY-MM-DD hh:mm:ss":
        cells = cells.str.extract(r"^([\d-]{10})[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?$")
    return cells.str.strptime(pl.Date, DATE_FORMATS[column.format], strict=False)


def _outside(values: pl.Series, column: ColumnSchema) -> pl.Series:
    import polars as pl

    outside = pl.repeat(False, len(values), dtype=pl.Boolean, eager=True)
    if column.minimum is not None:
        outside = outside | (values < column.minimum).fill_null(False)
    if column.maximum is not None:
        outside = outside | (values > column.maximum).fill_null(False)
    return outside
