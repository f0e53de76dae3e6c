"""Dummy values: what stands where an attribute may not be empty (action D of PS3.15 Table E.1-1a).

A dummy says nothing of the value that it replaces. For a sequence it is one item with what its
macro requires (PS3.3), because a nested attribute that the table doesn't name could tell as much
as the sequence itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

WORD = "REMOVED"
DUMMY_UID = "2.25.205797653866853214968213409153823870491"
_MPPS_CLASS = "1.2.840.10008.3.1.2.3.3"

_BY_VR: dict[str, Any] = {
    **dict.fromkeys(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"), WORD),
    "AS": "000Y",
    "DA": "19000101",
    "DT": "19000101000000",
    "TM": "000000",
    "UR": "urn:removed",
    "UI": DUMMY_UID,
    **dict.fromkeys(("DS", "IS"), "0"),
    **dict.fromkeys(("FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"), 0),
    "AT": 0x00080000,
    **dict.fromkeys(("OB", "OD", "OF", "OL", "OV", "OW", "UN"), b"\0" * 8),
}
# Attributes whose values the standard enumerates (PS3.3).
_BY_TAG: dict[int, str] = {0x04000565: "COERCE"}


def element(tag: int, vr: str) -> DataElement:
    """Return the attribute ``tag`` with a dummy of its value representation."""
    if vr == "SQ":
        make = _ITEMS.get(tag)
        return DataElement(Tag(tag), "SQ", Sequence([make()] if make else []))
    return DataElement(Tag(tag), vr, _BY_TAG.get(tag, _BY_VR.get(vr, b"\0" * 8)))


@lru_cache(maxsize=4096)
def encoded(tag: int, vr: str, implicit: bool, little: bool) -> bytes:
    """Return the bytes of ``element(tag, vr)`` in a transfer syntax's encoding."""
    dataset = Dataset()
    dataset[tag] = element(tag, vr)
    return encode(dataset, implicit, little)


def encode(dataset: Dataset, implicit: bool, little: bool) -> bytes:
    """Return the bytes of a small data set of our own."""
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = implicit, little
    write_dataset(file, dataset)
    written: bytes = file.getvalue()
    return written


def code() -> Dataset:
    """Return a coded entry that says that there was one (PS3.3 section 8.8)."""
    return _item(CodeValue=WORD, CodingSchemeDesignator="99WARDGATE", CodeMeaning="Removed")


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _content() -> Dataset:
    return _item(
        RelationshipType="CONTAINS",
        ValueType="TEXT",
        ConceptNameCodeSequence=[code()],
        TextValue=WORD,
    )


def _graphic_annotation() -> Dataset:
    text = _item(
        UnformattedTextValue=WORD,
        AnchorPointAnnotationUnits="PIXEL",
        AnchorPoint=[0.0, 0.0],
        AnchorPointVisibility="N",
    )
    return _item(GraphicLayer=WORD, TextObjectSequence=[text])


def _verifying_observer() -> Dataset:
    return _item(
        VerifyingObserverName=WORD,
        VerifyingOrganization=WORD,
        VerificationDateTime=_BY_VR["DT"],
        VerifyingObserverIdentificationCodeSequence=[],
    )


def _operator() -> Dataset:
    return _item(PersonIdentificationCodeSequence=[code()], InstitutionName=WORD)


def _performed_step() -> Dataset:
    return _item(ReferencedSOPClassUID=_MPPS_CLASS, ReferencedSOPInstanceUID=DUMMY_UID)


def _waveform_annotation() -> Dataset:
    return _item(UnformattedTextValue=WORD, ReferencedWaveformChannels=[1, 0])


def _flow() -> Dataset:
    return _item(FlowIdentifier=b"\0" * 8)


_ITEMS: dict[int, Callable[[], Dataset]] = {
    0x0040A730: _content,
    0x00340001: _flow,
    0x00700001: _graphic_annotation,
    0x00401101: code,
    0x0040A073: _verifying_observer,
    0x00080082: code,
    0x00081111: _performed_step,
    0x00081072: _operator,
    0x0040B020: _waveform_annotation,
}
SEQUENCES = frozenset(_ITEMS)
"""The sequences for which there is a dummy."""
