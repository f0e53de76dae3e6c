"""The search of one written file; what it returns says where and what kind, never the value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from node.deid.audit.identifiers import (
    BIRTH_DATE,
    NUMBER,
    PERSON,
    PLACE,
    UID,
    Identifiers,
    Terms,
    is_telling,
    reduce,
    split,
    subject_of,
    terms,
)
from node.deid.audit.texts import Text, as_dicom, inflated, of_bytes, of_dicom, of_parquet
from node.deid.elements import File
from node.deid.identifiers import Known, Matcher, Rules
from node.deid.notations import find_dates
from node.deid.pixels.image import PixelSettings
from node.deid.reading import Unsafe
from node.deid.shapes import find_uids

PIXELS = "text-in-pixels"
_FREE_FROM = 6
"""A term of so many characters is found within a longer word, too."""
_RAW_FROM = 6
_MOST_PATIENTS = 64
"""With more patients, a file that says no patient is searched for numbers and whole names only."""


@dataclass(frozen=True)
class Leak:
    """Something that identifies, in a written file."""

    place: str
    category: str


@dataclass
class Search:
    """Searches files for identifiers."""

    identifiers: Identifiers
    pixels: bool = False
    _terms: dict[str, tuple[Terms, Matcher]] = field(default_factory=dict)
    _numbers: frozenset[str] | None = None

    def file(self, data: bytes | memoryview, name: str) -> list[Leak]:
        """Return the leaks of a file, each place and category once."""
        found = as_dicom(data)
        leaks: dict[Leak, None] = {}
        subject = "" if found is None else subject_of(found.data, found.dataset)
        own, matcher = self._own(subject)
        for text in self._texts(data, name, found):
            if text.text == subject:
                continue
            for category in self._in_text(text, own, matcher):
                leaks[Leak(text.place, category)] = None
        if self.pixels and found is not None and self._shows_text(found, matcher):
            leaks[Leak("(7fe0,0010)", PIXELS)] = None
        return list(leaks)

    def _texts(self, data: bytes | memoryview, name: str, found: File | None) -> Iterator[Text]:
        yield Text("name", name)
        if found is not None:
            yield from of_dicom(found)
            yield from of_bytes(inflated(found, data))
        elif name.endswith(".parquet"):
            yield from of_parquet(bytes(data))
        yield from of_bytes(data)

    def _own(self, subject: str) -> tuple[Terms, Matcher]:
        """Return what is searched for in a file of this subject, all patients' if it has none."""
        if subject not in self._terms:
            known = self.identifiers.common | self.identifiers.by_subject.get("", Known())
            if subject in self.identifiers.by_subject:
                known |= self.identifiers.by_subject[subject]
            elif len(self.identifiers.by_subject) <= _MOST_PATIENTS:
                for one in self.identifiers.by_subject.values():
                    known |= one
            self._terms[subject] = terms(known), Matcher(known, Rules(keep_dates=True))
        return self._terms[subject]

    def _others(self) -> frozenset[str]:
        """Return every patient's numbers: they are looked for in all files."""
        if self._numbers is None:
            everyone = (one.numbers for one in self.identifiers.by_subject.values())
            numbers = frozenset(number for one in everyone for number in one)
            self._numbers = terms(Known(numbers=numbers)).by_category[NUMBER]
        return self._numbers

    def _in_text(self, text: Text, own: Terms, matcher: Matcher) -> Iterator[str]:
        uids = find_uids(text.text)
        held = {text.text[start:end] for start, end in uids}
        if text.is_uid:
            held |= {part.strip(" \0") for part in text.text.split("\\")}
        if not held.isdisjoint(self.identifiers.uids):
            yield UID
        if text.is_uid:
            return
        rest = _without(text.text, uids)
        tokens = _tokens(rest)
        if not self._others().isdisjoint(tokens):
            yield NUMBER
        squeezed = reduce(rest)
        for category, found in own.by_category.items():
            if any(_holds(term, squeezed, tokens, text.is_raw) for term in found):
                yield category
        if text.is_raw:
            return
        if any(is_telling(rest[start:end]) for start, end in matcher.known_spans(rest)):
            yield PERSON if _is_name(rest, matcher) else PLACE
        if own.birth_dates and any(
            one.day in own.birth_dates for one in find_dates(rest, own.birth_dates)
        ):
            yield BIRTH_DATE

    def _shows_text(self, file: File, matcher: Matcher) -> bool:
        from node.deid.image_header import Header
        from node.deid.pixel_data import clean_pixel_data

        try:
            outcome = clean_pixel_data(Header(file), matcher, PixelSettings(mode="ocr"), None)
        except Unsafe:
            return False
        return any(outcome.boxes.values())


def _holds(term: str, squeezed: str, tokens: frozenset[str], is_raw: bool) -> bool:
    if is_raw and len(term.encode()) < _RAW_FROM:
        return False
    if term in tokens:
        return True
    if term.isdigit():
        return False  # digits of two numbers run together mean nothing
    return len(term.encode()) >= _FREE_FROM and term in squeezed and not is_raw


def _tokens(text: str) -> frozenset[str]:
    """Return the words and numbers of a text, reduced, and those that only blanks part."""
    single = [reduce(word) for word in split(text)]
    pairs = ("".join(pair) for pair in pairwise(single))
    triples = ("".join(three) for three in zip(single, single[1:], single[2:], strict=False))
    return frozenset((*single, *pairs, *triples))


def _without(text: str, spans: Iterable[tuple[int, int]]) -> str:
    pieces, position = [], 0
    for start, end in spans:
        pieces.append(text[position:start])
        position = end
    return " ".join([*pieces, text[position:]])


def _is_name(text: str, matcher: Matcher) -> bool:
    persons = Matcher(Known(persons=matcher.known.persons), Rules(keep_dates=True))
    return bool(persons.known_spans(text))
