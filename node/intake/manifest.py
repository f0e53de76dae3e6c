"""The hospital's list of files that don't say themselves whose they are: a CSV file.

It is identified data: it is read, used to find the patient's pseudonym and what identifies the
patient in texts and pictures, and never kept. Messages name a line by its number.

Columns: ``path`` (from the manifest's own folder, or absolute) and ``patient`` (the hospital's
number) are needed; ``name``, ``birth_date`` (YYYY-MM-DD), ``identifiers`` (others, by ``;``),
``kind``, ``consent_faces`` (yes or no), ``group``, ``body_site``, ``laterality`` and ``stain`` may
be there.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from contract.errors import DataError
from foundation.files import read_bounded
from node.deid.identifiers import Known, Matcher

MAX_BYTES = 256 * 2**20
NEEDED = ("path", "patient")
OTHERS = (
    "name",
    "birth_date",
    "identifiers",
    "kind",
    "consent_faces",
    "group",
    "body_site",
    "laterality",
    "stain",
)
MODALITIES: Mapping[str, str] = {
    "clinical": "XC",
    "dermoscopy": "DMS",
    "confocal": "CFM",
    "microscopy": "GM",
    "endoscopy": "ES",
    "fundus": "OP",
    "slide": "SM",
    "ct": "CT",
    "mr": "MR",
    "pet": "PT",
    "mask": "SEG",
    "report": "",
    "": "",
}
"""Modality by kind (PS3.16 CID 29 and 33); without a kind, what the file is decides."""
VOLUMES = ("ct", "mr", "pet", "mask")
"""What a NIfTI volume can be: tomography, and outlines in it."""
_PARTS = """
abdomen adrenal ankle anus aorta appendix arm axilla biceps bladder bowel breast breasts
bronchus calf calves cardiac chest clavicle coccyx colon duodenum elbow extremity feet femur
fibula finger fingers foot forearm gallbladder hand hands heart hip hips humerus ileum jejunum
kidney kidneys knee knees leg legs liver lspine lumbar lung lungs mediastinum myocardium ovary
pancreas pelvis prostate radius rectum rib ribs sacrum scapula shoulder shoulders spleen sternum
stomach testis thigh thighs thoracic thorax tibia toe toes tspine ulna ureter uterus wrist
"""
_BESIDE = "and both cavity gland left lower of right spine the upper wall"
"""Words of parts of the body that show no face, and words that may stand beside them."""
_SIDES: Mapping[str, str] = {
    "": "",
    "l": "L",
    "left": "L",
    "r": "R",
    "right": "R",
    "b": "B",
    "both": "B",
    "u": "U",
    "unpaired": "U",
}

_FACES: Mapping[str, bool] = {
    "": False,
    "no": False,
    "false": False,
    "0": False,
    "yes": True,
    "true": True,
    "1": True,
}


@dataclass(frozen=True, repr=False)
class Listed:
    """A line of the manifest. Its ``repr`` shows nothing of it."""

    patient: str
    name: str
    birth_date: date | None
    identifiers: tuple[str, ...]
    kind: str
    consent_faces: bool
    group: str
    body_site: str
    laterality: str
    stain: str

    def known(self) -> Known:
        """Return what is known to identify the patient."""
        return Known(
            persons=frozenset({self.name} - {""}),
            numbers=frozenset({self.patient, *self.identifiers} - {""}),
            birth_dates=frozenset() if self.birth_date is None else frozenset({self.birth_date}),
        )

    def digest(self) -> bytes:
        """Return 16 bytes that change when the line does."""
        values = (self.patient, self.name, self.birth_date, self.identifiers, self.kind)
        more = (self.consent_faces, self.group, self.body_site, self.laterality, self.stain)
        return hashlib.blake2b(repr((values, more)).encode(), digest_size=16).digest()


class Manifest:
    """The lines of a manifest, by file."""

    def __init__(self, lines: Mapping[bytes, Listed], path: Path | None = None) -> None:
        self._lines = lines
        self.path = path

    def __len__(self) -> int:
        return len(self._lines)

    def __repr__(self) -> str:
        return f"Manifest({len(self._lines)} lines)"

    def without_file(self) -> int:
        """Return how many lines name no file that is there."""
        return sum(not os.path.lexists(place) for place in self._lines)

    def get(self, place: str) -> Listed | None:
        """Return the line of the file at an absolute place, None without one."""
        return self._lines.get(os.fsencode(place)) if self._lines else None


def read_manifest(path: Path) -> Manifest:
    """Return the manifest at ``path``; ``DataError`` names the first line that is wrong."""
    text = _decoded(read_bounded(path, MAX_BYTES))
    folder = path.resolve().parent
    lines: dict[bytes, Listed] = {}
    for number, row in _rows(text):
        place = row["path"]
        if not place or not row["patient"]:
            raise DataError(f"Manifest, line {number}: path or patient is empty.")
        at = os.fsencode(os.path.normpath(folder / place))
        if at in lines:
            raise DataError(f"Manifest, line {number}: the file was named before.")
        lines[at] = _listed(number, row)
    return Manifest(lines, path.resolve())


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError("The manifest is not UTF-8; save it as CSV in UTF-8.") from None


def _rows(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        header = [cell.strip().lower() for cell in next(reader, [])]
        for column in NEEDED:
            if column not in header:
                raise DataError(f"The manifest has no column {column!r}.")
        if len(set(header)) != len(header) or not set(header) <= {*NEEDED, *OTHERS}:
            known = ", ".join((*NEEDED, *OTHERS))
            raise DataError(f"The manifest has an unknown or doubled column; known: {known}.")
        for cells in reader:
            if any(cells):
                if len(cells) != len(header):
                    raise DataError(
                        f"Manifest, line {reader.line_num}: not as many cells as names."
                    )
                found = dict(zip(header, (cell.strip() for cell in cells), strict=True))
                yield reader.line_num, {name: found.get(name, "") for name in (*NEEDED, *OTHERS)}
    except csv.Error:
        raise DataError(f"Manifest, line {reader.line_num}: not CSV.") from None


def _listed(number: int, row: Mapping[str, str]) -> Listed:
    def wrong(column: str, wanted: str) -> DataError:
        return DataError(f"Manifest, line {number}: {column} is not {wanted}.")

    kind = row["kind"].lower()
    if kind not in MODALITIES:
        raise wrong("kind", f"one of {', '.join(sorted(filter(None, MODALITIES)))}")
    faces = _FACES.get(row["consent_faces"].lower())
    if faces is None:
        raise wrong("consent_faces", "yes or no")
    side = _SIDES.get(row["laterality"].lower())
    if side is None:
        raise wrong("laterality", "left, right, both or unpaired")
    try:
        born = date.fromisoformat(row["birth_date"]) if row["birth_date"] else None
    except ValueError:
        raise wrong("birth_date", "YYYY-MM-DD") from None
    return Listed(
        patient=row["patient"],
        name=row["name"],
        birth_date=born,
        identifiers=tuple(part for p in row["identifiers"].split(";") if (part := p.strip())),
        kind=kind,
        consent_faces=faces,
        group=row["group"],
        body_site=row["body_site"],
        laterality=side,
        stain=row["stain"],
    )


def lies_below_the_head(body_site: str) -> bool:
    """Say whether a part of the body is known to show no face: in English, as DICOM names parts.

    A part in another language, by a code, or of the whole body may.
    """
    words = re.findall(r"[^\W_]+", body_site.lower())
    named = set(words) - set(_BESIDE.split())
    return bool(named) and named <= set(_PARTS.split())


def term(value: str, find: Matcher, limit: int = 64) -> str:
    """Return a manifest's word for the catalogue: printable ASCII, "" if it identifies."""
    word = "".join(c for c in value if c.isascii() and c.isprintable())[:limit].strip()
    return "" if find.spans(word) else word
