"""What an audit looks for: the identifiers of originals and of the hospital's lists.

They are reduced to letters and digits in a way of the audit's own, not that of the cleaning whose
result it checks; that one's is used beside it.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from anyascii import anyascii

from contract.errors import DataError
from foundation.files import read_bounded
from node.deid.elements import Elements, File, parse, value
from node.deid.gathering import gather
from node.deid.identifiers import Known
from node.deid.lists import MAX_LIST_BYTES, load_lists
from node.deid.profile import Options
from node.deid.pseudonyms import Pseudonyms, is_standard_uid
from node.deid.reading import Unsafe
from node.deid.vocabulary import words

PERSON, NUMBER, PLACE, BIRTH_DATE, UID = "person", "number", "place", "birth-date", "uid"
_SHORTEST_NAME, _SHORTEST_NUMBER, _SHORTEST_PLACE = 4, 5, 8
_OWN_UIDS = (0x00080018, 0x0020000D, 0x0020000E, 0x00200052)
_COLUMNS = {
    "person": "persons", "persons": "persons", "name": "persons",
    "number": "numbers", "numbers": "numbers", "id": "numbers", "mrn": "numbers",
    "institution": "phrases", "institutions": "phrases", "place": "phrases", "address": "phrases",
    "birth_date": "birth_dates", "birth date": "birth_dates", "dob": "birth_dates",
}  # fmt: skip


@dataclass
class Identifiers:
    """By patient, as pseudonym or as "" where that isn't known, and what is everybody's."""

    by_subject: dict[str, Known] = field(default_factory=dict)
    common: Known = field(default_factory=Known)
    uids: set[str] = field(default_factory=set)
    files: int = 0
    """Originals that were read."""

    def add_original(
        self, data: bytes | memoryview, options: Options, pseudonyms: Pseudonyms | None
    ) -> None:
        """Add what a DICOM original says; other files say nothing."""
        try:
            file = parse(data)
            patient, known = gather(file, options)
        except Unsafe:
            return
        self.files += 1
        if options.uids == "replaced":
            self.uids |= _uids(file)
        subject = ""
        if pseudonyms is not None:
            subject = (
                pseudonyms.unnamed_subject(patient[1:])
                if patient.startswith("\0")
                else pseudonyms.subject(patient)
            )
        self.by_subject[subject] = self.by_subject.get(subject, Known()) | known

    @property
    def empty(self) -> bool:
        """Say whether there is nothing to look for."""
        return not self.uids and self.common == Known() and not self.by_subject


@dataclass(frozen=True)
class Terms:
    """Reduced spellings, by category, of one patient or of all."""

    by_category: dict[str, frozenset[str]]
    birth_dates: frozenset[date]


def terms(known: Known) -> Terms:
    """Return what is searched for."""
    names: set[str] = set()
    for person in known.persons:
        for group in person.split("="):
            names |= set(_names(group))
    numbers = {
        reduced
        for raw in known.numbers
        if len(reduced := reduce(raw)) >= _SHORTEST_NUMBER and any(c.isdigit() for c in reduced)
    }
    places = {
        reduced
        for raw in known.phrases
        if len(reduced := reduce(raw)) >= _SHORTEST_PLACE and is_telling(raw)
    }
    return Terms(
        {PERSON: frozenset(names), NUMBER: frozenset(numbers), PLACE: frozenset(places)},
        known.birth_dates,
    )


def _names(group: str) -> Iterator[str]:
    parts = [part for piece in group.split("^") for part in piece.replace(",", " ").split()]
    for part in parts:
        for spelling in (part, anyascii(part)):
            plain = reduce(spelling)
            if plain.isascii():
                if len(plain) >= _SHORTEST_NAME and plain not in words():
                    yield plain
            elif len(plain) >= 2:
                yield plain
    whole = reduce("".join(parts))
    if len(parts) > 1 and (len(whole) >= 6 or not whole.isascii()):
        yield whole


def reduce(text: str) -> str:
    """Return letters and digits alone, in one case and without accents."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in plain if c.isalnum())


def split(text: str) -> list[str]:
    """Return the words and numbers of a text."""
    return "".join(c if c.isalnum() else " " for c in text).split()


def is_telling(text: str) -> bool:
    """Say whether there is anything in it but everyday words or one character over and over."""
    return any(word not in words() and len(set(word)) > 1 for word in split(text.casefold()))


def load_known(path: Path) -> Known:
    """Return what a hospital's list says: TOML as for ``--lists``, or CSV with a header.

    Columns of a CSV are name, number, institution, address, birth_date (ISO 8601); others are an
    error, so that no column is passed over by a mistake in its name.
    """
    if path.suffix.lower() != ".csv":
        return load_lists(path)
    text = read_bounded(path, MAX_LIST_BYTES).decode("utf-8-sig", "replace")
    found: dict[str, set[str]] = {kind: set() for kind in set(_COLUMNS.values())}
    for row in csv.DictReader(io.StringIO(text)):
        for column, cell in row.items():
            kind = _COLUMNS.get(str(column).strip().lower())
            if kind is None:
                raise DataError(f"{path} has a column that is none of {', '.join(_COLUMNS)}.")
            if cell and cell.strip():
                found[kind].add(cell.strip())
    try:
        births = frozenset(map(date.fromisoformat, found["birth_dates"]))
    except ValueError:
        raise DataError(f"{path} has a birth date that is not YYYY-MM-DD.") from None
    return Known(
        frozenset(found["persons"]),
        frozenset(found["numbers"]),
        frozenset(found["phrases"]),
        births,
    )


def _uids(file: File) -> set[str]:
    return {
        uid
        for element in file.dataset.elements
        if element.tag in _OWN_UIDS
        and (uid := value(file.data, element).decode("latin-1").strip(" \0"))
        and not is_standard_uid(uid)
    }


def subject_of(data: bytes | memoryview, dataset: Elements) -> str:
    """Return the pseudonym that a de-identified file has for a patient."""
    element = dataset.get(0x00100020)
    return "" if element is None else value(data, element).decode("latin-1").strip(" \0")
