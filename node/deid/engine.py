"""De-identification of a DICOM file: a profile's actions, applied to every element of every level.

Steps, in this order (PS3.15 section E.1.1): read the whole file or refuse it; refuse what can't be
made safe yet (text burned into pixels, overlays in their unused bits); act on each element, in
sequences too; say what was done in the attributes meant for it; write the file anew, with a zeroed
preamble and a file meta group that tells nothing of where it came from. Pixels stay as they are,
bit for bit.
"""

from __future__ import annotations

import warnings
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from node.deid import dummies
from node.deid.dates import shift_date, shift_datetime
from node.deid.profile import Action, Profile
from node.deid.pseudonyms import Pseudonyms
from node.deid.reading import (
    Unsafe,
    check_length,
    check_pixels,
    number,
    read_dicom,
    text,
)

IMPLEMENTATION_UID = "2.25.312040188316105632467325913823094672431"
IMPLEMENTATION_VERSION = "WARDGATE_1"
_PATIENT_NAME, _PATIENT_ID = 0x00100010, 0x00100020
_NATIVE = {
    (True, True): ImplicitVRLittleEndian,
    (False, True): ExplicitVRLittleEndian,
    (False, False): ExplicitVRBigEndian,
}


@dataclass(frozen=True)
class Deidentified:
    """A de-identified file, and what the catalogue keeps of it."""

    data: bytes
    subject: str
    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    modality: str
    body_part: str
    manufacturer: str
    rows: int
    columns: int
    frames: int
    actions: Mapping[str, int]
    """Elements by what was done to them: D, Z, X, K, U or C (moved date)."""


@dataclass
class _Walk:
    subject: str
    days: int
    actions: Counter[str]


class Deidentifier:
    """Applies one profile under one node's pseudonyms. May be used for any number of files."""

    def __init__(self, profile: Profile, pseudonyms: Pseudonyms) -> None:
        self.profile = profile
        self.pseudonyms = pseudonyms

    def deidentify(self, data: bytes) -> Deidentified:
        """Return the de-identified file; ``Unsafe`` says why there can be none.

        The same bytes under the same profile and key give the same result.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's quote values
            dataset = read_dicom(data)
            try:
                _check_what_pixels_show(dataset)
                return self._deidentify(dataset)
            except Unsafe:
                raise
            except Exception:
                # Deeper levels are read on the way; whatever is wrong there, nothing is kept.
                raise Unsafe("unreadable") from None

    def _deidentify(self, dataset: FileDataset) -> Deidentified:
        syntax = _transfer_syntax(dataset)
        subject = self._subject(dataset)
        walk = _Walk(subject, self.pseudonyms.days(subject), Counter())
        self._act(dataset, walk)
        check_pixels(dataset)
        self._declare(dataset, subject)
        try:
            written = _write(dataset, syntax)
        except Exception:
            raise Unsafe("unwritable") from None
        return Deidentified(
            data=written,
            subject=subject,
            study_uid=text(dataset, 0x0020000D)[:64],
            series_uid=text(dataset, 0x0020000E)[:64],
            sop_instance_uid=text(dataset, 0x00080018),
            sop_class_uid=text(dataset, 0x00080016)[:64],
            modality=_word(text(dataset, 0x00080060), 16),
            body_part=_word(text(dataset, 0x00180015), 64),
            manufacturer=_word(text(dataset, 0x00080070), 64),
            rows=number(dataset, 0x00280010) or 0,
            columns=number(dataset, 0x00280011) or 0,
            frames=number(dataset, 0x00280008) or 1,
            actions=dict(sorted(walk.actions.items())),
        )

    def _subject(self, dataset: Dataset) -> str:
        identifier = text(dataset, _PATIENT_ID)
        if identifier:
            return self.pseudonyms.subject(identifier)
        # Without an identifier, all that is known to be one subject's is one study.
        study = text(dataset, 0x0020000D) or text(dataset, 0x00080018)
        return self.pseudonyms.unnamed_subject(study)

    def _act(self, dataset: Dataset, walk: _Walk) -> None:
        for tag in list(dataset.keys()):
            element: Any = dataset.get_item(tag)
            check_length(element)
            given = element.VR or ""
            action = self.profile.action(int(tag), given)
            kind = _kind(tag, given)
            if given == "UN" and kind == "SQ" and isinstance(element, RawDataElement):
                action = Action.REMOVE  # its inside can't be seen
            walk.actions[action.value] += 1
            if action is Action.REMOVE:
                del dataset[tag]
            elif action in (Action.KEEP, Action.UID) and kind == "SQ":
                for item in dataset[tag].value:
                    self._act(item, walk)
            elif action is not Action.KEEP:
                dataset[tag] = self._replace(element, action, kind, walk)

    def _replace(self, element: Any, action: Action, kind: str, walk: _Walk) -> DataElement:
        tag = element.tag
        if tag in (_PATIENT_ID, _PATIENT_NAME) and action in (Action.ZERO, Action.DUMMY):
            return DataElement(tag, kind, walk.subject)
        values = _values(element) if kind in ("UI", "DA", "DT") else []
        if kind == "UI" and action in (Action.UID, Action.DUMMY) and any(values):
            return DataElement(tag, kind, [self.pseudonyms.uid(value) for value in values])
        if action is Action.SHIFT:
            shift = shift_date if kind == "DA" else shift_datetime
            moved = [shift(value, walk.days) for value in values if value]
            if None not in moved:
                return DataElement(tag, kind, moved)
        if action is Action.DUMMY:
            return dummies.element(int(tag), kind)
        return DataElement(tag, kind, Sequence([]) if kind == "SQ" else None)

    def _declare(self, dataset: Dataset, subject: str) -> None:
        """Say what was done (PS3.3 C.7.1.1 and C.12.1.1, PS3.15 section E.1.1)."""
        dataset.PatientID = subject
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = f"Wardgate: PS3.15 2026d, {self.profile.label}"[:64]
        methods = []
        for value, meaning in self.profile.methods:
            code = Dataset()
            code.CodeValue, code.CodeMeaning = value, meaning
            code.CodingSchemeDesignator = "DCM"
            methods.append(code)
        dataset.DeidentificationMethodCodeSequence = methods
        dataset.LongitudinalTemporalInformationModified = (
            "MODIFIED" if self.profile.modifies_dates else "REMOVED"
        )


def _check_what_pixels_show(dataset: Dataset) -> None:
    if _holds(dataset, 0x00280301) and text(dataset, 0x00280301).upper() != "NO":
        # YES, several values, or what can't be read: only a plain NO lets the pixels pass.
        raise Unsafe("burned-in-annotation")
    for group in range(0x6000, 0x6100, 2):
        # Overlays in unused bits of the pixels (retired): the pixels stay, and so would they.
        if (group << 16 | 0x0010) in dataset and (group << 16 | 0x3000) not in dataset:
            raise Unsafe("embedded-overlay")


def _holds(dataset: Dataset, tag: int) -> bool:
    """Say whether the attribute is there with anything but padding for its value."""
    if tag not in dataset:
        return False
    value: Any = dataset.get_item(tag).value
    return bool(value.strip(b" \0") if isinstance(value, bytes) else value)


def _transfer_syntax(dataset: FileDataset) -> UID:
    """Return the syntax that the elements really have; what the file meta group says may differ."""
    declared = dataset.file_meta.get("TransferSyntaxUID")
    first: Any = next(
        (e for tag in dataset.keys() if isinstance(e := dataset.get_item(tag), RawDataElement)),  # noqa: SIM118
        None,
    )
    if first is None:
        raise Unsafe("unreadable")
    real = (bool(first.is_implicit_VR), bool(first.is_little_endian))
    dataset.set_original_encoding(*real, dataset.original_character_set)
    if declared is None or declared in _NATIVE.values():
        return _NATIVE[real]
    return UID(declared)


def _write(dataset: FileDataset, syntax: UID) -> bytes:
    """Return the file of ``dataset`` (PS3.10 section 7.1), its elements in ``syntax``."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(text(dataset, 0x00080016))
    meta.MediaStorageSOPInstanceUID = UID(text(dataset, 0x00080018))
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION
    file = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = True, False
    file.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(file, meta, enforce_standard=True)
    body = DicomBytesIO()
    body.is_implicit_VR, body.is_little_endian = dataset.original_encoding
    write_dataset(body, dataset)
    written: bytes = body.getvalue()
    if syntax == DeflatedExplicitVRLittleEndian:
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        written = deflate.compress(written) + deflate.flush()
        written += b"\0" * (len(written) % 2)
    file.write(written)
    result: bytes = file.getvalue()
    return result


def _kind(tag: BaseTag, given: str) -> str:
    """Return the value representation that counts: the dictionary's, unless the file has items."""
    if given == "SQ":
        return given
    try:
        known = str(dictionary_VR(tag))
    except KeyError:
        return given or "UN"
    return known if len(known) == 2 else given or "UN"


def _values(element: Any) -> list[str]:
    value = element.value
    if isinstance(value, bytes):
        return [part.strip(" \0") for part in value.decode("latin-1").split("\\")]
    if value is None:
        return []
    if isinstance(value, str):
        return [value.strip(" \0")]
    return [str(part).strip(" \0") for part in value]


def _word(value: str, limit: int) -> str:
    return "".join(c for c in value if c.isascii() and c.isprintable())[:limit]
