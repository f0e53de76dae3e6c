"""The declared schema of a clinical table: what each column is, and what to do with it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from contract.documents import Line, VariableName
from contract.errors import ConfigurationError
from foundation.files import read_bounded
from foundation.settings import MAX_SETTINGS_BYTES, Settings, build, check_keys
from node.catalog.manifest import SUBJECT

Type = Literal["integer", "number", "category", "boolean", "date", "text", "identifier"]
DateFormat = Literal[
    "YYYY-MM-DD",
    "YYYY-MM-DD hh:mm:ss",
    "YYYYMMDD",
    "YYYY/MM/DD",
    "DD.MM.YYYY",
    "DD/MM/YYYY",
    "MM/DD/YYYY",
]
Encoding = Literal[
    "UTF-8",
    "GB18030",
    "Big5",
    "Shift_JIS",
    "EUC-KR",
    "Windows-1252",
    "Windows-1251",
    "ISO-8859-1",
    "ISO-8859-15",
]
DROPPED: frozenset[Type] = frozenset({"text", "identifier"})
"""Types that may identify somebody and are never kept."""
_OBSERVED = 64
"""Characters of a code in the catalogue."""
_NAME = r"^[A-Za-z_][A-Za-z0-9_.]{0,63}$"


class LevelCode(Settings):
    """What a category's level is called in a terminology."""

    code: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,64}$")]
    """For example "248152002"."""
    terminology: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,200}$")]
    """The code system's URI, for example "http://snomed.info/sct"."""


class ColumnSchema(Settings):
    """One column of the file."""

    name: Annotated[str, StringConstraints(max_length=200)]
    """The column's header in the file; R writes "" above the names of rows."""
    type: Type
    """What its cells are. Columns of type text and identifier are dropped."""
    rename: VariableName | None = None
    """What the variable is called here; the header when absent."""
    unit: Line = ""
    """The unit of a number, for example "mm" or "years"."""
    minimum: float | None = None
    """The smallest number allowed."""
    maximum: float | None = None
    """The largest number allowed."""
    levels: Annotated[tuple[Line, ...], Field(max_length=1000)] = ()
    """The values allowed in a category. Required for a category. One may be written with its code:
    {level = "F", code = "248152002", terminology = "http://snomed.info/sct"}."""
    codes: dict[Line, LevelCode] = Field(default_factory=dict)
    """The levels' codes; filled from levels."""
    code: Annotated[str, StringConstraints(pattern=r"^[!-~]{0,64}$")] = ""
    """The variable's own code in a terminology, for example "8480-6"."""
    terminology: Annotated[str, StringConstraints(pattern=r"^[!-~]{0,200}$")] = ""
    """The URI of that code's system, for example "http://loinc.org"."""
    missing: tuple[str, ...] | None = None
    """Cells that stand for a missing value; the table's when absent."""
    required: bool = False
    """Whether a missing value is an error."""
    format: DateFormat = "YYYY-MM-DD"
    """How a date is written. A time of day is dropped."""

    @property
    def variable(self) -> str:
        """What the variable is called here."""
        return self.rename or self.name

    @model_validator(mode="before")
    @classmethod
    def _codes_of_levels(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not isinstance(values.get("levels"), list | tuple):
            return values
        levels, codes = [], dict(values.get("codes") or {})
        for level in values["levels"]:
            if not isinstance(level, Mapping):
                levels.append(level)
                continue
            rest = {key: value for key, value in level.items() if key != "level"}
            levels.append(level.get("level"))
            codes[str(level.get("level"))] = rest
        return {**values, "levels": levels, "codes": codes}

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        import re

        if self.type == "category" and (
            not self.levels or len(set(self.levels)) != len(self.levels)
        ):
            raise ValueError("a category needs levels, each once")
        if self.levels and self.type != "category":
            raise ValueError("only a category has levels")
        if not set(self.codes) <= set(self.levels):
            raise ValueError("a code is that of no level")
        if bool(self.code) != bool(self.terminology):
            raise ValueError("a code and its terminology go together")
        if (self.minimum is not None or self.maximum is not None) and self.type not in (
            "integer",
            "number",
        ):
            raise ValueError("only an integer or a number has a minimum and maximum")
        if None not in (self.minimum, self.maximum) and self.minimum > self.maximum:  # type: ignore[operator]
            raise ValueError("minimum is larger than maximum")
        if self.type not in DROPPED and not re.match(_NAME, self.variable):
            raise ValueError(
                "the header is not a variable's name (letters, digits, _ and .); add rename"
            )
        return self


class TableSchema(Settings):
    """A clinical table: its name, which column identifies the subject, and every column."""

    table: VariableName
    """What the table is called here."""
    subject: Annotated[str, StringConstraints(max_length=200)]
    """The header of the column that identifies the subject; it becomes a pseudonym."""
    separator: Literal[",", ";", "\t", "|"] = ","
    """What stands between two cells."""
    encoding: Encoding = "UTF-8"
    """How a CSV file's characters are written."""
    decimal: Literal[".", ","] = "."
    """The decimal mark of a CSV file's numbers."""
    missing: tuple[str, ...] = ("", "NA")
    """Cells that stand for a missing value."""
    rows: Literal["any", "one", "many"] = "any"
    """Rows for each subject: one (another is refused), many (each at a time, also kept as
    observations), or any (as they come)."""
    time: str = ""
    """The header of the date column that says when a row was observed. Required for many rows."""
    mapped: bool = False
    """Whether a mapping made the table; not for a file that is taken in."""
    columns: Annotated[tuple[ColumnSchema, ...], Field(min_length=1, max_length=5000)]
    """Every other column of the file. One that isn't declared is refused."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        headers = [column.name for column in self.columns if column.name != self.subject]
        if len(set(headers)) != len(headers):
            raise ValueError("a column is declared twice")
        variables = [column.variable for column in self.kept]
        if len(set(variables)) != len(variables):
            raise ValueError("two columns have one variable's name")
        if self.decimal == self.separator:
            raise ValueError("separator and decimal are the same")
        if SUBJECT in variables:
            raise ValueError(f"the variable's name {SUBJECT!r} is the pseudonym's; add rename")
        if (self.rows == "many") != bool(self.time):
            raise ValueError('rows = "many" and time go together')
        if self.time and self.time not in {c.name for c in self.kept if c.type == "date"}:
            raise ValueError("time is not the header of a column of type date")
        for column in self.kept if self.time else ():
            uncoded = [level for level in column.levels if level not in column.codes]
            if max((len(level) for level in uncoded), default=0) > _OBSERVED:
                raise ValueError("a level of an observation is too long; give it a code")
            if not column.code and len(f"{self.table}.{column.variable}") > _OBSERVED:
                raise ValueError("a variable of an observation is too long; give it a code")
        return self

    @property
    def kept(self) -> tuple[ColumnSchema, ...]:
        """The columns that stay: not the subject's, nor text and identifiers."""
        return tuple(
            column
            for column in self.columns
            if column.type not in DROPPED and column.name != self.subject
        )

    def missing_of(self, column: ColumnSchema) -> tuple[str, ...]:
        """Return the cells that stand for a missing value in ``column``."""
        return self.missing if column.missing is None else column.missing


def read_schema(path: Path) -> TableSchema:
    """Read a table's schema; ``ConfigurationError`` names what is wrong with it in one line."""
    try:
        values = tomllib.loads(read_bounded(path, MAX_SETTINGS_BYTES).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}.") from None
    return parse_schema(values, str(path))


def parse_schema(values: Mapping[str, Any], origin: str) -> TableSchema:
    """Return the schema of a parsed TOML file."""
    check_keys(TableSchema, values, origin)
    if values.get("mapped"):
        raise ConfigurationError(f"{origin}: mapped is set by `mapping apply` alone.")
    columns = values.get("columns", [])
    if isinstance(columns, list):
        for position, column in enumerate(columns):
            if isinstance(column, Mapping):
                check_keys(ColumnSchema, column, origin, f"columns.{position}.")
    return build(TableSchema, values, origin)
