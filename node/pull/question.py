"""What an archive is asked for: a closed list of criteria, and the check that an answer fits them.

An archive may ignore a key that it doesn't support and answer with everything it has (PS3.4
section C.2.2.2). So each answer is checked here again, and what doesn't fit is left where it is.
"""

from __future__ import annotations

import csv
import fnmatch
import io
import re
from collections.abc import Mapping
from datetime import date
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from contract.errors import DataError

MAX_LIST_BYTES = 16 * 2**20
MAX_LISTED = 100_000
_HEADINGS = {"accession", "accessionnumber", "patient", "patientid", "id", "number"}
_NUMBER = re.compile(r"[^\\*?\x00-\x1f\x7f]+")
"""No backslash (a list of values) and no wildcard: a line is one number."""

Number = Annotated[str, Field(max_length=64, pattern=r"^[^\\*?\x00-\x1f\x7f]*$")]
Pattern = Annotated[str, Field(max_length=64, pattern=r"^[^\\\x00-\x1f\x7f]*$")]
Code = Annotated[str, Field(max_length=16, pattern=r"^[A-Z0-9_ ]*$")]


class Question(BaseModel):
    """Criteria that must all hold; an empty one is none. Immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accession_number: Number = ""
    patient_id: Number = ""
    modality: Code = ""
    first_date: date | None = None
    last_date: date | None = None
    study_description: Pattern = ""
    """May hold ``*`` and ``?``; whether case counts is the archive's matter."""
    body_part: Code = ""

    @model_validator(mode="after")
    def _ordered(self) -> Question:
        if self.first_date and self.last_date and self.first_date > self.last_date:
            raise ValueError("the first date is after the last")
        return self

    @property
    def is_empty(self) -> bool:
        """Say whether this would ask for the whole archive."""
        return self == Question()

    def study_keys(self) -> dict[str, str]:
        """Return the matching keys of the study level by DICOM keyword (PS3.4 table C.6-5)."""
        keys = {
            "AccessionNumber": self.accession_number,
            "PatientID": self.patient_id,
            "ModalitiesInStudy": self.modality,
            "StudyDate": self._dates(),
            "StudyDescription": self.study_description,
        }
        return {keyword: value for keyword, value in keys.items() if value}

    def series_keys(self) -> dict[str, str]:
        """Return the matching keys of the series level. Body part is no key of the standard's."""
        return {"Modality": self.modality} if self.modality else {}

    def admits_study(self, found: Mapping[str, str | list[str]]) -> bool:
        """Say whether an answer (values by keyword) is what was asked for.

        Numbers must be there and equal. Of the others, those that the archive says must fit.
        """
        modalities = _values(found, "ModalitiesInStudy")
        day = _value(found, "StudyDate")
        described = _value(found, "StudyDescription").lower()
        return (
            (not self.accession_number or _value(found, "AccessionNumber") == self.accession_number)
            and (not self.patient_id or _value(found, "PatientID") == self.patient_id)
            and (not self.modality or not modalities or self.modality in modalities)
            and (not day or self._admits_day(day))
            and (
                not self.study_description
                or fnmatch.fnmatchcase(described, _literal(self.study_description.lower()))
            )
        )

    def admits_series(self, found: Mapping[str, str | list[str]]) -> bool:
        """Say whether a series is wanted: its modality and body part, where they are asked for."""
        return (not self.modality or _value(found, "Modality") == self.modality) and (
            not self.body_part or _value(found, "BodyPartExamined").upper() == self.body_part
        )

    def _dates(self) -> str:
        if not self.first_date and not self.last_date:
            return ""
        first = f"{self.first_date:%Y%m%d}" if self.first_date else ""
        last = f"{self.last_date:%Y%m%d}" if self.last_date else ""
        return first if first == last else f"{first}-{last}"

    def _admits_day(self, day: str) -> bool:
        first = f"{self.first_date:%Y%m%d}" if self.first_date else ""
        last = f"{self.last_date:%Y%m%d}" if self.last_date else "99999999"
        return first <= day.replace(".", "")[:8] <= last


MAX_LINE = 10_000
"""Characters of a number, were it none."""


def read_numbers(data: bytes, longest: int = 16) -> tuple[list[str], int]:
    """Return the numbers of a text or CSV list, each once and in order, and how many don't fit.

    One number a line; of a CSV file, its first column; a heading is passed over. A number that
    isn't one (longer than ``longest``, a wildcard in it) is counted, never repeated in a message.
    ``DataError`` for a list that is too long or not UTF-8.
    """
    if len(data) > MAX_LIST_BYTES:
        raise DataError(f"The list is larger than {MAX_LIST_BYTES // 2**20} MiB.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError("The list is not UTF-8 text.") from None
    delimiter = next((c for c in ";\t" if c in text.partition("\n")[0]), ",")
    numbers: dict[str, None] = {}
    unfit = 0
    try:
        for row in csv.reader(io.StringIO(text), delimiter=delimiter):
            number = row[0].strip() if row else ""
            if len(number) > MAX_LINE:
                raise csv.Error
            if not number or number.startswith("#"):
                continue
            if not numbers and _heading(number):
                continue
            if len(number) > longest or not _NUMBER.fullmatch(number):
                unfit += 1
            else:
                numbers[number] = None
    except csv.Error:
        raise DataError("The list is not text of one number a line.") from None
    if len(numbers) > MAX_LISTED:
        raise DataError(f"The list has more than {MAX_LISTED} numbers; split it.")
    return list(numbers), unfit


def _heading(text: str) -> bool:
    return re.sub(r"[^a-z]", "", text.lower()) in _HEADINGS and not any(map(str.isdigit, text))


def _literal(pattern: str) -> str:
    # DICOM has no sets of characters.
    return pattern.replace("[", "[[]")


def _value(found: Mapping[str, str | list[str]], keyword: str) -> str:
    values = _values(found, keyword)
    return values[0] if values else ""


def _values(found: Mapping[str, str | list[str]], keyword: str) -> list[str]:
    value = found.get(keyword, "")
    given = value if isinstance(value, list) else [value]
    return [text.strip() for text in given if text.strip()]
