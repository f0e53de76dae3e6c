"""What a file says of itself: file meta group (PS3.10 section 7.1) and methods (PS3.15 E.1.1)."""

from __future__ import annotations

import struct
from functools import lru_cache

from pydicom.dataset import Dataset

from node.deid import dummies

IMPLEMENTATION_UID = "2.25.312040188316105632467325913823094672431"
IMPLEMENTATION_VERSION = "WARDGATE_1"


@lru_cache(maxsize=64)
def declaration(
    label: str, methods: tuple[tuple[str, str], ...], implicit: bool, little: bool
) -> tuple[tuple[int, bytes], ...]:
    """Return elements that say that identity was removed, and by which methods."""
    dataset = Dataset()
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = f"Wardgate: PS3.15 2026d, {label}"[:64]
    codes = []
    for value, meaning in methods:
        code = Dataset()
        code.CodeValue, code.CodeMeaning = value, meaning
        code.CodingSchemeDesignator = "DCM"
        codes.append(code)
    dataset.DeidentificationMethodCodeSequence = codes
    encoded = []
    for element in dataset:
        one = Dataset()
        one[element.tag] = element
        encoded.append((int(element.tag), dummies.encode(one, implicit, little)))
    return tuple(encoded)


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
