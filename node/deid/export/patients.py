"""The first pass: whose file each is, and all that is known of a patient from all of the files.

A report may name a patient by what only another file's header has. Headers are read once for each
series, in effect; pixels never.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date

from node.deid.export.forks import Row, work_through
from node.deid.export.headers import Headers
from node.deid.export.kinds import kind_of
from node.deid.export.source import Unreadable, head
from node.deid.export.tree import Tree
from node.deid.identifiers import Known
from node.deid.profile import Options
from node.deid.reading import Unsafe

NOBODY = -1


@dataclass
class Patients:
    """Patients by number, and each file's."""

    keys: list[str] = field(default_factory=list)
    known: list[Known] = field(default_factory=list)
    of_file: array[int] = field(default_factory=lambda: array("l"))
    """By position, from 1 on: the patient's number or ``NOBODY``."""
    directories: list[int] = field(default_factory=list)
    """Positions of DICOMDIR files."""
    of_folder: dict[str, int] = field(default_factory=dict)
    """The patient whose files alone are in a folder, for folders that have pictures too."""

    def known_of(self, position: int) -> Known:
        """Return what is known of the patient of a file, from all files."""
        number = self.of_file[position]
        return Known() if number == NOBODY else self.known[number]


def gather_patients(
    tree: Tree, options: Options, *, workers: int, observe: Callable[[int], None]
) -> Patients:
    """Look at every file's header; ``observe`` sees how many were looked at."""
    patients = Patients(of_file=array("l", [NOBODY]) * (len(tree) + 1))
    numbers: dict[str, int] = {}
    pictures: set[str] = set()
    look = _Look(tree, options)
    rows = work_through(
        range(1, len(tree) + 1),
        look,
        workers=workers,
        died=_died,
        together=lambda position: tree.path(position).rpartition("/")[0],
    )
    for count, row in enumerate(rows, 1):
        if row["kind"] in ("photograph", "slide"):
            pictures.add(tree.path(row["position"]).rpartition("/")[0])
        elif row["kind"] == "dicomdir":
            patients.directories.append(row["position"])
        if "patient" in row:
            key = row["patient"]
            number = numbers.setdefault(key, len(numbers))
            if number == len(patients.keys):
                patients.keys.append(key)
                patients.known.append(Known())
            patients.of_file[row["position"]] = number
            if "known" in row:
                patients.known[number] |= _read(row["known"])
        observe(count)
    patients.directories.sort()
    if pictures:
        _find_folders(tree, patients, pictures)
    return patients


def _find_folders(tree: Tree, patients: Patients, pictures: set[str]) -> None:
    found: dict[str, set[int]] = {folder: set() for folder in pictures}
    for path, number in zip(tree.paths, patients.of_file[1:], strict=True):
        folder = path.rpartition("/")[0]
        if number != NOBODY and folder in found:
            found[folder].add(number)
    patients.of_folder = {folder: min(one) for folder, one in found.items() if len(one) == 1}


class _Look:
    """Looks at one file; remembers which headers it has read (each worker has its own)."""

    def __init__(self, tree: Tree, options: Options) -> None:
        self._tree = tree
        self._headers = Headers(options)

    def __call__(self, position: int, worker: str) -> Row:
        row: Row = {"position": position, "kind": "other"}
        if position in self._tree.others:
            return row
        path = self._tree.path(position)
        try:
            start, size = head(path)
            row["kind"] = kind = kind_of(start, path)
            if kind in ("dicom", "other"):
                told = self._headers.told(path, start, size)
                row["patient"] = told.patient
                if told.is_new:
                    row["known"] = _write(told.known)
        except (Unreadable, Unsafe):
            pass
        except Exception:
            # A stranger's bytes raise whatever they like; the second pass names what is wrong.
            row.pop("patient", None)
        return row


def _died(position: int) -> Row:
    return {"position": position, "kind": "other"}


def _write(known: Known) -> list[list[str]]:
    return [
        sorted(known.persons),
        sorted(known.numbers),
        sorted(known.phrases),
        sorted(map(date.isoformat, known.birth_dates)),
        sorted(map(date.isoformat, known.dates)),
    ]


def _read(row: list[list[str]]) -> Known:
    persons, numbers, phrases, births, dates = map(frozenset, row)
    return Known(
        persons,
        numbers,
        phrases,
        frozenset(map(date.fromisoformat, births)),
        frozenset(map(date.fromisoformat, dates)),
    )
