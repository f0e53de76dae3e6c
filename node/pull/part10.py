"""The beginning of a DICOM file (PS3.10 section 7.1): whose instance it is, before it is parsed."""

from __future__ import annotations

import re
import struct

PREAMBLE = bytes(128) + b"DICM"
HEAD_BYTES = 16 * 1024
"""Enough of a file for its meta information."""
_INSTANCE = 0x00020003
_SOP_INSTANCE = re.compile(rb"\x08\x00\x18\x00(?:UI(..)|(..)\x00\x00)", re.DOTALL)
"""(0008,0018), with its VR or without, and its length."""
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT"}


def instances_of(head: bytes | bytearray | memoryview) -> list[str]:
    """Return what a file's first bytes may call it: by its meta information, by its data set.

    They should be one, and are not where an archive keeps what a bad sender wrote.
    """
    head = bytes(head[:HEAD_BYTES])
    found = [instance_of(head)]
    if found[0]:
        for match in _SOP_INSTANCE.finditer(head):
            (length,) = struct.unpack("<H", match[1] or match[2])
            raw = head[match.end() : match.end() + length]
            found.append(raw.rstrip(b"\0 ").decode("ascii", "replace"))
    return list(dict.fromkeys(filter(None, found)))


def instance_of(head: bytes | bytearray | memoryview) -> str:
    """Return the Media Storage SOP Instance UID that a file's first bytes name; empty: none."""
    head = bytes(head[:HEAD_BYTES])
    if head[128:132] != PREAMBLE[128:]:
        return ""
    at = 132
    while at + 8 <= len(head):
        group, element = struct.unpack_from("<HH", head, at)
        vr = head[at + 4 : at + 6]
        if group != 2:
            return ""
        if vr in _LONG:
            if at + 12 > len(head):
                return ""
            (length,) = struct.unpack_from("<I", head, at + 8)
            start = at + 12
        else:
            (length,) = struct.unpack_from("<H", head, at + 6)
            start = at + 8
        if group << 16 | element == _INSTANCE:
            raw = head[start : start + length]
            return raw.rstrip(b"\0 ").decode("ascii", "replace") if len(raw) == length else ""
        at = start + length
    return ""
