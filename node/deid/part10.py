"""What a file says of itself: file meta group (PS3.10 section 7.1) and methods (PS3.15 E.1.1)."""

from __future__ import annotations

import struct
from functools import lru_cache

from node.deid import dummies
from node.deid.dictionary import vr_of

IMPLEMENTATION_UID = "2.25.312040188316105632467325913823094672431"
IMPLEMENTATION_VERSION = "WARDGATE_1"


@lru_cache(maxsize=64)
def declaration(
    label: str, methods: tuple[tuple[str, str], ...], implicit: bool, little: bool
) -> tuple[tuple[int, bytes], ...]:
    """Return elements that say that identity was removed, and by which methods."""
    codes: dummies.Value = [
        dummies.item(CodeValue=value, CodingSchemeDesignator="DCM", CodeMeaning=meaning)
        for value, meaning in methods
    ]
    said = dummies.item(
        PatientIdentityRemoved="YES",
        DeidentificationMethod=f"Wardgate: PS3.15 2026d, {label}"[:64],
        DeidentificationMethodCodeSequence=codes,
    )
    return tuple(
        (tag, dummies.encode(tag, vr_of(tag), value, implicit, little))
        for tag, value in said.items()
    )


def prologue(sop_class: str, instance: str, syntax: str) -> bytes:
    """Return preamble, prefix and file meta group (PS3.10 section 7.1)."""
    before, after = _prologue_around(sop_class, syntax)
    middle = _meta(0x0003, "UI", instance.encode())
    length = struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(before) + len(middle) + len(after))
    return b"\0" * 128 + b"DICM" + length + before + middle + after


@lru_cache(maxsize=256)
def _prologue_around(sop_class: str, syntax: str) -> tuple[bytes, bytes]:
    before = struct.pack("<HH2s2xL", 2, 1, b"OB", 2) + b"\0\1"
    before += _meta(0x0002, "UI", sop_class.encode("ascii", "replace"))
    after = _meta(0x0010, "UI", syntax.encode("ascii", "replace"))
    after += _meta(0x0012, "UI", IMPLEMENTATION_UID.encode())
    after += _meta(0x0013, "SH", IMPLEMENTATION_VERSION.encode())
    return before, after


def _meta(number: int, vr: str, value: bytes) -> bytes:
    if len(value) & 1:
        value += b"\0" if vr == "UI" else b" "
    return struct.pack("<HH2sH", 2, number, vr.encode(), len(value)) + value
