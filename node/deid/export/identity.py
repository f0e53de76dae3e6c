"""Whether two files say the same about their patient, without reading either element by element.

The slices of a series repeat a header of some hundred elements. Its texts, dates and codes are
compared as bytes. What ``gathering`` doesn't look at is left out: UIDs save the study's, times,
quantities, private elements that are neither a name nor a date. So most slices of a series agree,
and only the first is read.
"""

from __future__ import annotations

import hashlib
import struct

from node.deid.elements import EXPLICIT, IMPLICIT, LONG, UNDEFINED, VRS, known_vr

_META_END = 2
_ITEMS, _SEQUENCE_END, _ICON, _PIXELS = 0xFFFE, 0xE0DD, 0x0088, 0x7FE0
_LONG = frozenset(vr.encode() for vr in LONG)
_VRS = frozenset(vr.encode() for vr in VRS)
_UNTELLING = (
    VRS
    - frozenset(["AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST"])
    - {*("SQ", "UC", "UN", "UR", "UT")}
)
_UNTELLING_BYTES = frozenset(vr.encode() for vr in _UNTELLING)
_COMPRESSED = b"1.2.840.10008.1.2.4."
_RLE = b"1.2.840.10008.1.2.5"
_HEAD = struct.Struct("<HH2sH").unpack_from
_TAG_LENGTH = struct.Struct("<HHL").unpack_from
_LENGTH = struct.Struct("<L").unpack_from


def identity(head: bytes) -> bytes | None:
    """Return a digest that files share only if they say the same about their patient.

    ``head`` is a file's beginning, up to its pixels at least. None for a file that isn't as plain,
    or that has neither a patient's identifier nor a study's: it has to be read.
    """
    if head[128:132] != b"DICM":
        return None
    try:
        position, syntax = _meta(head, 132)
        if syntax == EXPLICIT.encode() or syntax.startswith((_COMPRESSED, _RLE)):
            pieces = _explicit(head, position)
        elif syntax == IMPLICIT.encode():
            pieces = _implicit(head, position)
        else:
            return None
    except struct.error:
        return None
    if pieces is None:
        return None
    return hashlib.blake2b(b"\0".join(pieces), digest_size=16).digest()


def _meta(head: bytes, position: int) -> tuple[int, bytes]:
    syntax = b""
    while True:
        group, element, vr, short = _HEAD(head, position)
        if group != _META_END:
            return position, syntax
        if vr in _LONG:
            position += 12 + _LENGTH(head, position + 8)[0]
            continue
        if element == 0x0010:
            syntax = head[position + 8 : position + 8 + short].rstrip(b" \0")
        position += 8 + short


class _Place:
    """Whether the reader is within a sequence; items and their ends are stepped over."""

    __slots__ = ("depth", "has_icon", "until")

    def __init__(self) -> None:
        self.depth = 0
        self.until = 0
        self.has_icon = False

    def enter(self, group: int, start: int, length: int) -> None:
        self.has_icon |= group == _ICON
        if length == UNDEFINED:
            self.depth += 1
        else:
            self.until = max(self.until, start + length)

    def is_top(self, position: int) -> bool:
        return not self.depth and position >= self.until


def _explicit(head: bytes, position: int) -> list[bytes] | None:
    pieces: list[bytes] = []
    end, place, is_told = len(head), _Place(), False
    while position + 8 <= end:
        group, element, vr, length = _HEAD(head, position)
        if group == _ITEMS:
            place.depth -= element == _SEQUENCE_END and place.depth > 0
            position += 8
            continue
        if vr not in _VRS:
            return None
        start = position + 8
        if vr in _LONG:
            length = _LENGTH(head, start)[0]
            start += 4
            if vr == b"SQ":
                place.enter(group, start, length)
                position = start
                continue
            if length == UNDEFINED:
                return pieces if group == _PIXELS and is_told and not place.has_icon else None
        if vr not in _UNTELLING_BYTES:
            if vr == b"DT":
                pieces.append(head[position : start + min(length, 8)])
            elif not group & 1 or vr in (b"PN", b"DA"):
                pieces.append(head[position : start + length])
                if group == 0x0010 and element == 0x0020 and length and place.is_top(position):
                    is_told = True
        elif group == 0x0020 and element == 0x000D:
            pieces.append(head[position : start + length])
            is_told |= bool(length) and place.is_top(position)
        position = start + length
        if position > end:
            return pieces if group == _PIXELS and is_told and not place.has_icon else None
    return pieces if is_told else None


def _implicit(head: bytes, position: int) -> list[bytes] | None:
    pieces: list[bytes] = []
    end, place, is_told = len(head), _Place(), False
    while position + 8 <= end:
        group, element, length = _TAG_LENGTH(head, position)
        if group == _ITEMS:
            place.depth -= element == _SEQUENCE_END and place.depth > 0
            position += 8
            continue
        start = position + 8
        vr = known_vr(group << 16 | element)
        if vr == "SQ":
            place.enter(group, start, length)
            position = start
            continue
        if length == UNDEFINED:
            return None
        if vr not in _UNTELLING:
            if vr == "DT":
                pieces.append(head[position : start + min(length, 8)])
            elif not group & 1:
                pieces.append(head[position : start + length])
                if group == 0x0010 and element == 0x0020 and length and place.is_top(position):
                    is_told = True
        elif group == 0x0020 and element == 0x000D:
            pieces.append(head[position : start + length])
            is_told |= bool(length) and place.is_top(position)
        position = start + length
        if position > end:
            return pieces if group == _PIXELS and is_told and not place.has_icon else None
    return pieces if is_told else None
