"""A first look at files: what each says of its patient, so that the others of that patient lose it.

A report may name a patient by what only another file's header has. Headers that say the same are
read once, in effect; pixels never. What was learnt is held in memory while an intake runs, for the
patients seen last, and never kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from node.deid.elements import parse
from node.deid.export.identity import Identities
from node.deid.export.source import LONG_HEAD_BYTES, Unreadable, head, opened
from node.deid.gathering import gather
from node.deid.identifiers import Known
from node.deid.profile import Options
from node.deid.pseudonyms import Pseudonyms
from node.deid.reading import Unsafe
from node.intake.items import Item

_MOST_HEADERS = 4096
_MOST_PATIENTS = 4096
_NOBODY = "", Known()
_Told = tuple[str, Known]


@dataclass(frozen=True, repr=False)
class Looked:
    """What some files say. Its ``repr`` shows nothing of it."""

    subjects: tuple[str, ...]
    """Pseudonym of the patient that each file is of; empty for what isn't DICOM."""
    known: dict[str, Known]
    """By pseudonym."""


class Looker:
    """Looks at files; remembers which headers it has read."""

    def __init__(self, options: Options, pseudonyms: Pseudonyms) -> None:
        self._options = options
        self._pseudonyms = pseudonyms
        self._identities = Identities()
        self._seen: OrderedDict[bytes, _Told] = OrderedDict()

    def look(self, items: Iterable[Item]) -> Looked:
        """Return what the files say; one that can't be read says nothing."""
        subjects: list[str] = []
        known: dict[str, Known] = {}
        for item in items:
            try:
                subject, told = self._one(item.place)
            except Exception:
                # The second pass names what is wrong.
                subject, told = _NOBODY
            subjects.append(subject)
            if subject and known.get(subject) is not told:
                known[subject] = known[subject] | told if subject in known else told
        return Looked(tuple(subjects), known)

    def _one(self, place: str) -> _Told:
        try:
            start, size = head(place)
            if start[128:132] != b"DICM":
                return self._read(place)
            same = self._identities.of(start, size)
            if same is None and len(start) < size:
                start, size = head(place, LONG_HEAD_BYTES)
                same = self._identities.of(start, size)
            if same is None:
                return self._read(place)
            told = self._seen.get(same)
            if told is None:
                told = self._seen[same] = self._read(place)
                if len(self._seen) > _MOST_HEADERS:
                    self._seen.popitem(last=False)
            return told
        except (Unreadable, Unsafe):
            return _NOBODY

    def _read(self, place: str) -> _Told:
        with opened(place) as source:
            patient, known = gather(parse(memoryview(source.data)), self._options)
        return self._pseudonyms.source(b"patient", patient.encode()), known


class Patients:
    """What is known of the patients seen last."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Known] = OrderedDict()

    def learn(self, looked: Looked) -> None:
        """Add what files say."""
        for subject, told in looked.known.items():
            before = self._known.pop(subject, None)
            self._known[subject] = told if before is None else before | told
            if len(self._known) > _MOST_PATIENTS:
                self._known.popitem(last=False)

    def known(self, subject: str) -> Known | None:
        """Return what is known of a patient, None when it is nothing."""
        return self._known.get(subject)


def batches(items: Sequence[Item], count: int) -> Iterable[Sequence[Item]]:
    """Yield the items in pieces of ``count``."""
    return (items[start : start + count] for start in range(0, len(items), count))
