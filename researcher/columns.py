"""Columns in Python: comparisons of a variable that give cohorts, to be joined by &, | and ~.

>>> from researcher import column
>>> elderly = (column("age") >= 65) & ~column("stage").isin("III", "IV")
>>> print(elderly.model_dump_json())
{"all":[{"variable":"age","at_least":65.0},{"not":{"variable":"stage","levels":["III","IV"]}}]}

Whoever has no value fits no comparison, and ``!=`` neither; ``~`` is everybody else, who has no
value included.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from contract.cohorts import Cohort
from contract.dictionary import Variable
from contract.errors import DocumentError, UsageError
from foundation.files import read_bounded

MAX_COHORT_BYTES = 1_000_000


@dataclass(frozen=True, eq=False)
class Column:
    """A variable of the dictionary, to be compared. With its ``variable``, codes can be named."""

    name: str
    variable: Variable | None = None

    def __ge__(self, bound: float) -> Cohort:
        return _cohort(variable=self.name, at_least=bound)

    def __gt__(self, bound: float) -> Cohort:
        return _cohort(variable=self.name, above=bound)

    def __le__(self, bound: float) -> Cohort:
        return _cohort(variable=self.name, at_most=bound)

    def __lt__(self, bound: float) -> Cohort:
        return _cohort(variable=self.name, below=bound)

    def __eq__(self, value: object) -> Cohort:  # type: ignore[override]
        if isinstance(value, str):
            return self.isin(value)
        return _cohort(variable=self.name, at_least=value, at_most=value)

    def __ne__(self, value: object) -> Cohort:  # type: ignore[override]
        return ~(self == value) & self.known()

    __hash__ = None  # type: ignore[assignment]  # comparing two doesn't say whether they are one

    def between(self, low: float, high: float) -> Cohort:
        """Return those from ``low`` to ``high``, both included."""
        return _cohort(variable=self.name, at_least=low, at_most=high)

    def isin(self, *levels: str) -> Cohort:
        """Return those who have one of the levels."""
        return _cohort(variable=self.name, levels=levels)

    def coded(self, *codes: str, terminology: str | None = None) -> Cohort:
        """Return those whose level has one of these codes in the project's dictionary.

        ``terminology``: the code system's URI, where codes of several could be meant.
        ``DocumentError`` for a code that the dictionary hasn't got.
        """
        known = self.variable.codes if self.variable is not None else {}
        found: list[str] = []
        for code in codes:
            levels = [
                level
                for level, held in known.items()
                if held.code == code and terminology in (None, held.terminology)
            ]
            if not levels:
                raise DocumentError(f"The dictionary gives no level of {self.name} code {code}.")
            found += levels
        return self.isin(*found)

    def missing(self) -> Cohort:
        """Return those who have no value."""
        return _cohort(variable=self.name, missing=True)

    def known(self) -> Cohort:
        """Return those who have a value."""
        return _cohort(variable=self.name, missing=False)


def column(name: str) -> Column:
    """Return a column to be compared: ``column("age") >= 65``."""
    return Column(name)


def _cohort(**values: object) -> Cohort:
    try:
        return Cohort.model_validate(values)
    except ValidationError as error:
        said = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise DocumentError(f"{values.get('variable')} can't be compared so: {said}.") from None


def read_cohort(path: Path) -> Cohort:
    """Return the cohort in a JSON file; ``UsageError`` when there is none in it."""
    try:
        return Cohort.model_validate(json.loads(read_bounded(path, MAX_COHORT_BYTES)))
    except (ValueError, ValidationError):
        raise UsageError(f"{path.name} holds no cohort in JSON.") from None
