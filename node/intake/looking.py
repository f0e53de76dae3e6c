"""A first look at files: what each says of its patient, so that the others of that patient lose it.

A report may name a patient by what only another file's header has. Headers that say the same are
read once, in effect; pixels never. What was learnt is held in memory while an intake runs, for the
patients seen last, and never kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from node.deid.export.headers import Headers
from node.deid.export.source import head
from node.deid.identifiers import Known
from node.deid.profile import Options
from node.deid.pseudonyms import Pseudonyms
from node.intake.items import Item
from node.intake.landing import LandingEntry

_MOST_PATIENTS = 4096


@dataclass(frozen=True, repr=False)
class Looked:
    """What some files say. Its ``repr`` shows nothing of it."""

    subjects: tuple[str, ...]
    """Pseudonym of the patient that each file is of; empty for what isn't DICOM."""
    known: dict[str, Known]
    """By pseudonym."""


class Looker:
    """Looks at files; remembers which headers it has read."""

    def __init__(
        self,
        options: Options,
        pseudonyms: Pseudonyms,
        beginning: Callable[[LandingEntry], bytes],
    ) -> None:
        """``beginning`` returns an arrival's first bytes."""
        self._headers = Headers(options)
        self._beginning = beginning
        self._pseudonyms = pseudonyms

    def look(self, items: Iterable[Item]) -> Looked:
        """Return what the files say; one that can't be read says nothing."""
        subjects: list[str] = []
        known: dict[str, Known] = {}
        for item in items:
            try:
                if item.entry is None:
                    told = self._headers.told(item.place, *head(item.place))
                else:
                    told = self._headers.told_by(self._beginning(item.entry), item.size_bytes)
                subject = self._pseudonyms.source(b"patient", told.patient.encode())
            except Exception:
                # A stranger's bytes raise whatever they like; the second pass names what is wrong.
                subjects.append("")
                continue
            subjects.append(subject)
            if known.get(subject) is not told.known:
                before = known.get(subject)
                known[subject] = told.known if before is None else before | told.known
        return Looked(tuple(subjects), known)


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
