"""Dummy values: what stands where an attribute may not be empty (action D of PS3.15 Table E.1-1a).

A dummy says nothing of the value that it replaces. For a sequence it is one item with what its
macro requires (PS3.3), because a nested attribute that the table doesn't name could tell as much
as the sequence itself.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from node.deid.dictionary import tag_of, vr_of
from node.deid.elements import encode_header

WORD = "REMOVED"
DUMMY_UID = "2.25.205797653866853214968213409153823870491"
_MPPS_CLASS = "1.2.840.10008.3.1.2.3.3"

Item = dict[int, "Value"]
"""An item of a sequence: values by tag; each has the VR of the dictionary."""
Value = str | int | bytes | tuple[float, ...] | list[Item]

_BY_VR: dict[str, Value] = {
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
_NUMBERS = {"FD": "d", "FL": "f", "SL": "l", "SS": "h", "SV": "q", "UL": "L", "US": "H", "UV": "Q"}
_ITEM = 0xFFFEE000


def value(tag: int, vr: str) -> Value:
    """Return a dummy of a value representation for the attribute ``tag``."""
    if vr == "SQ":
        return [_ITEMS[tag]] if tag in _ITEMS else []
    if vr == "CS" and tag in _BY_TAG:
        return _BY_TAG[tag]
    return _BY_VR.get(vr, b"\0" * 8)


@lru_cache(maxsize=4096)
def encoded(tag: int, vr: str, implicit: bool, little: bool) -> bytes:
    """Return the bytes of the attribute with its dummy, in a transfer syntax's encoding."""
    return encode(tag, vr, value(tag, vr), implicit, little)


def encode(tag: int, vr: str, given: Value, implicit: bool, little: bool) -> bytes:
    """Return the bytes of an element of our own, its value padded (PS3.5 section 6.2)."""
    body = _body(vr, given, implicit, little)
    if len(body) & 1:
        body += b"\0" if vr == "UI" else b" "
    return encode_header(tag, vr, len(body), implicit=implicit, little=little) + body


def _body(vr: str, given: Value, implicit: bool, little: bool) -> bytes:
    order = "<" if little else ">"
    if isinstance(given, bytes):
        return given
    if isinstance(given, str):
        return given.encode("ascii")
    if isinstance(given, list):
        items = [_item_body(item, implicit, little) for item in given]
        header = struct.Struct(order + "HHL")
        return b"".join(
            header.pack(_ITEM >> 16, _ITEM & 0xFFFF, len(item)) + item for item in items
        )
    if vr == "AT":
        assert isinstance(given, int)
        return struct.pack(order + "HH", given >> 16, given & 0xFFFF)
    numbers = given if isinstance(given, tuple) else (given,)
    whole = vr not in ("FD", "FL")
    return struct.pack(
        f"{order}{len(numbers)}{_NUMBERS[vr]}", *(int(n) if whole else n for n in numbers)
    )


def _item_body(item: Item, implicit: bool, little: bool) -> bytes:
    return b"".join(
        encode(tag, vr_of(tag), given, implicit, little) for tag, given in sorted(item.items())
    )


def item(**values: Value) -> Item:
    """Return an item, its attributes given by keyword."""
    found: Item = {}
    for keyword, given in values.items():
        tag = tag_of(keyword)
        assert tag is not None, keyword
        found[tag] = given
    return found


def _code() -> Item:
    """Return a coded entry that says that there was one (PS3.3 section 8.8)."""
    return item(CodeValue=WORD, CodingSchemeDesignator="99WARDGATE", CodeMeaning="Removed")


_ITEMS: dict[int, Item] = {
    0x0040A730: item(
        RelationshipType="CONTAINS",
        ValueType="TEXT",
        ConceptNameCodeSequence=[_code()],
        TextValue=WORD,
    ),
    0x00340001: item(FlowIdentifier=b"\0" * 8),
    0x00700001: item(
        GraphicLayer=WORD,
        TextObjectSequence=[
            item(
                UnformattedTextValue=WORD,
                AnchorPointAnnotationUnits="PIXEL",
                AnchorPoint=(0.0, 0.0),
                AnchorPointVisibility="N",
            )
        ],
    ),
    0x00401101: _code(),
    0x0040A073: item(
        VerifyingObserverName=WORD,
        VerifyingOrganization=WORD,
        VerificationDateTime="19000101000000",
        VerifyingObserverIdentificationCodeSequence=[],
    ),
    0x00080082: _code(),
    0x00081111: item(ReferencedSOPClassUID=_MPPS_CLASS, ReferencedSOPInstanceUID=DUMMY_UID),
    0x00081072: item(PersonIdentificationCodeSequence=[_code()], InstitutionName=WORD),
    0x0040B020: item(UnformattedTextValue=WORD, ReferencedWaveformChannels=(1, 0)),
}
SEQUENCES = frozenset(_ITEMS)
"""The sequences for which there is a dummy."""
