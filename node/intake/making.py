"""From a file's bytes to what the vault keeps of it, by the kind of file.

Nothing here decides by another file, and nothing is written but one file in the staging folder.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from node.catalog.rows import AssetRow
from node.deid.elements import Buffer, parse, value
from node.deid.engine import Deidentifier
from node.deid.identifiers import Known, Matcher, matcher
from node.deid.reading import Unsafe
from node.deid.result import Deidentified
from node.deid.slides import Format, clean_slide, drops_instance
from node.deid.slides.dicom import VISIBLE_LIGHT
from node.intake.drafts import StoredDraft
from node.intake.items import Setup, Taken
from node.intake.kinds import kind_of, read_text
from node.intake.manifest import MODALITIES, VOLUMES, Listed, lies_below_the_head, term
from node.intake.vault import remove_staged, staged_path, write_file

_SUFFIXES = {
    Format.APERIO: ".svs",
    Format.NDPI: ".ndpi",
    Format.MIRAX: ".mrxs",
    Format.TILED_TIFF: ".tif",
    Format.PLAIN_TIFF: ".tif",
}
_PHOTOGRAPHS = {"jpeg": ".jpg", "png": ".png", "tiff": ".tif"}


@dataclass(frozen=True)
class Given:
    """A file that was opened."""

    data: Buffer
    descriptor: int | None
    """The open file that ``data`` is mapped from, if it is."""
    path: Path | None
    listed: Listed | None
    known: Known | None
    source: str
    now: datetime


class Maker:
    """Makes one file after the other safe."""

    def __init__(self, setup: Setup, deidentifier: Deidentifier) -> None:
        self._staging = setup.staging
        self._sync = setup.sync
        self._faces = setup.faces
        self._lists = setup.lists
        self._deidentifier = deidentifier
        self._pseudonyms = deidentifier.pseudonyms

    def make(self, given: Given) -> Taken:
        """Return what became of a file; ``Unsafe`` when it has to go to quarantine."""
        kind, form = kind_of(given.data, given.path, listed=given.listed is not None)
        if kind == "dicom":
            return self._dicom(given)
        if given.listed is None:
            raise Unsafe("no-subject")
        if kind == "report":
            return self._report(given, given.listed)
        if kind == "slide":
            assert form is not None
            return self._slide(given, given.listed, form)
        if kind == "volume":
            return self._volume(given, given.listed)
        return self._photograph(given, given.listed)

    def _dicom(self, given: Given) -> Taken:
        if _shows_label(given.data):
            return Taken(given.source, "dropped", "slide-label")
        known = given.known or Known()
        if given.listed is not None:
            known |= given.listed.known()
        result = self._deidentifier.deidentify(given.data, known)
        digest, staged = self._written_dicom(result, given.descriptor)
        row = AssetRow(
            digest=digest,
            subject=result.subject,
            study_uid=result.study_uid,
            series_uid=result.series_uid,
            sop_instance_uid=result.sop_instance_uid,
            sop_class_uid=result.sop_class_uid,
            modality=result.modality,
            body_part=result.body_part,
            manufacturer=result.manufacturer,
            rows=result.rows,
            columns=result.columns,
            frames=result.frames,
            size_bytes=result.size_bytes,
            ingested_at=given.now,
            kind="dicom",
            suffix=".dcm",
            study_date=result.study_date,
            laterality=result.laterality,
            stain=result.stain,
            magnification=result.magnification,
            device_model=result.device_model,
        )
        return self._accepted(given, row, staged)

    def _photograph(self, given: Given, listed: Listed) -> Taken:
        from node.deid.photographs import clean_photograph

        subject, find = self._of(listed)
        made = clean_photograph(
            bytes(given.data),
            faces="keep" if listed.consent_faces else self._faces,
            matcher=find,
            subject=subject,
        )
        row = self._row(
            given,
            listed,
            subject,
            find,
            digest=hashlib.sha256(made.data).hexdigest(),
            modality=MODALITIES[listed.kind] or "XC",
            rows=made.height,
            columns=made.width,
            size_bytes=len(made.data),
            kind="photograph",
            suffix=_PHOTOGRAPHS[made.format],
        )
        return self._accepted(given, row, self._written(made.data))

    def _volume(self, given: Given, listed: Listed) -> Taken:
        from node.deid.volume import clean_volume

        if listed.kind not in VOLUMES:
            raise Unsafe("nifti")
        subject, find = self._of(listed)
        refused = self._deidentifier.profile.settings.options.visual_features == "refused"
        # A mask has its outline, too.
        if refused and not listed.consent_faces and not lies_below_the_head(listed.body_site):
            raise Unsafe("recognizable-visual-features")
        made = clean_volume(given.data, matcher=find, subject=subject)
        row = self._row(
            given,
            listed,
            subject,
            find,
            digest=hashlib.sha256(made.data).hexdigest(),
            modality=MODALITIES[listed.kind],
            rows=made.rows,
            columns=made.columns,
            frames=made.slices,
            size_bytes=len(made.data),
            kind="volume",
            suffix=".nii",
        )
        return self._accepted(given, row, self._written(made.data))

    def _slide(self, given: Given, listed: Listed, form: Format) -> Taken:
        assert given.path is not None
        subject, find = self._of(listed)
        with ExitStack() as stack:
            # What would become of it is known only when it is made, in a dry run too.
            folder = self._staging or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            target = staged_path(folder, _SUFFIXES[form])
            try:
                facts = clean_slide(
                    given.path, target, matcher=find, pseudonyms=self._pseudonyms, subject=subject
                )
                size = _name_members(target)
                digest = _digest(target)
            except BaseException:
                remove_staged(target)
                raise
        row = self._row(
            given,
            listed,
            subject,
            find,
            digest=digest,
            modality=MODALITIES[listed.kind] or "SM",
            manufacturer=(facts.vendor or "")[:64],
            rows=facts.height,
            columns=facts.width,
            size_bytes=size,
            kind="slide",
            suffix=_SUFFIXES[form],
            stain=term(listed.stain, find) or (facts.stain or "")[:64],
            magnification=facts.objective or 0.0,
            device_model=(facts.model or "")[:64],
        )
        return self._accepted(given, row, target)

    def _report(self, given: Given, listed: Listed) -> Taken:
        from node.deid.photographs import clean_report

        subject, find = self._of(listed)
        cleaned = clean_report(read_text(given.data), find)
        draft = StoredDraft(subject, cleaned.text, given.now)
        staged = self._written(draft.to_bytes())
        return Taken(
            given.source,
            "draft",
            "report",
            subject=subject,
            staged=staged,
            draft=draft.identifier,
        )

    # ---- what kinds have in common -------------------------------------------------------------

    def _of(self, listed: Listed) -> tuple[str, Matcher]:
        """Return the patient's pseudonym, and what finds the patient in texts."""
        subject = self._pseudonyms.subject(listed.patient)
        dates = self._deidentifier.profile.dates
        days = self._pseudonyms.days(subject) if dates == "modified" else None
        known = listed.known() | self._lists
        return subject, matcher(known, days, dates == "kept", self._pseudonyms.uid)

    def _row(
        self, given: Given, listed: Listed, subject: str, find: Matcher, **values: Any
    ) -> AssetRow:
        common: dict[str, Any] = {
            "subject": subject,
            "study_uid": "",
            "series_uid": "",
            "sop_instance_uid": "",
            "sop_class_uid": "",
            "body_part": term(listed.body_site, find),
            "manufacturer": "",
            "frames": 1,
            "ingested_at": given.now,
            "laterality": listed.laterality,
            "stain": term(listed.stain, find),
        }
        return AssetRow(**{**common, **values})

    def _written_dicom(
        self, result: Deidentified, descriptor: int | None
    ) -> tuple[str, Path | None]:
        """Write the result and return its digest; one that is mapped is read from its new file."""
        if descriptor is None or self._staging is None:
            digest = hashlib.sha256()
            for piece in result.pieces:
                digest.update(piece)
            return digest.hexdigest(), self._staged(lambda target: result.write(target, None))
        staged = self._staged(lambda target: result.write(target, descriptor))
        assert staged is not None
        return _digest(staged), staged

    def _written(self, data: bytes) -> Path | None:
        return self._staged(lambda target: _write(target, data))

    def _staged(self, write: Callable[[int], None]) -> Path | None:
        """Have a new file written and synced; in a dry run none."""
        if self._staging is None:
            return None
        staged = staged_path(self._staging)
        write_file(staged, write, sync=self._sync)
        return staged

    def _accepted(self, given: Given, row: AssetRow, staged: Path | None) -> Taken:
        group = role = ""
        listed = given.listed
        if listed is not None and listed.group:
            name = (b"group", row.subject.encode(), listed.group.encode())
            group = self._pseudonyms.source(*name)[:32]
            role = listed.kind or row.kind
        if self._staging is None:
            staged = None
        subject = "" if row.kind == "dicom" else row.subject
        return Taken(given.source, "accepted", "", subject, row, staged, group, role)


def _shows_label(data: Buffer) -> bool:
    """Say whether a DICOM instance is a picture of a slide's label."""
    if VISIBLE_LIGHT.encode() not in bytes(data[:2048]):
        return False
    try:
        dataset = parse(data).dataset
    except Unsafe:
        return False
    values = []
    for tag in (0x00080008, 0x00080016):
        element = dataset.get(tag)
        values.append("" if element is None else value(data, element).decode("latin-1"))
    return drops_instance(tuple(values[0].split("\\")), values[1].strip(" \0"))


def _name_members(target: Path) -> int:
    """Return the size of a slide; a MIRAX slide's .mrxs gets the list of its further files.

    Readers look at the folder beside it only. So the .mrxs's own digest covers all.
    """
    folder = target.with_suffix("")
    if not target.suffix or not folder.is_dir():
        return target.stat().st_size
    lines = []
    total = 0
    for path in sorted(folder.iterdir()):
        size = path.stat().st_size
        total += size
        lines.append(f"{_digest(path)} {size} {path.name}\n")
    listing = "".join(lines).encode()
    target.unlink()
    write_file(target, lambda descriptor: _write(descriptor, listing), sync=True)
    return total + len(listing)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
