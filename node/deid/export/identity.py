"""Whether two files say the same about their patient, without reading either element by element.

The slices of a series repeat a header of some hundred elements. Its texts, dates and codes are
compared as bytes. What ``gathering`` doesn't look at is left out: UIDs save the study's, times,
quantities, private elements that are neither a name nor a date. So most slices of a series agree,
and only the first is read.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from itertools import pairwise

from node.deid.elements import EXPLICIT, IMPLICIT, LONG, UNDEFINED, VRS, known_vr

_META_END = 2
_PATIENT_ID, _STUDY = (0x0010, 0x0020), (0x0020, 0x000D)
_ITEMS, _SEQUENCE_END, _ICON, _PIXELS = 0xFFFE, 0xE0DD, 0x0088, 0x7FE0
_LONG = frozenset(vr.encode() for vr in LONG)
_VRS = {vr.encode(): vr for vr in VRS}
_UNTELLING = (
    VRS
    - frozenset(["AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST"])
    - {*("SQ", "UC", "UN", "UR", "UT")}
)
_MOST_TEMPLATES = 256
_COMPRESSED = b"1.2.840.10008.1.2.4."
_RLE = b"1.2.840.10008.1.2.5"
_HEAD = struct.Struct("<HH2sH").unpack_from
_TAG_LENGTH = struct.Struct("<HHL").unpack_from
_LENGTH = struct.Struct("<L").unpack_from


class Identities:
    """Finds identities; heads that differ only where the last of their size did take no reading.

    A head is compared with one that was read before, save the values that tell nothing and that
    were seen to differ. What is equal has the same elements, and so the same identity.
    """

    def __init__(self) -> None:
        self._last: dict[int, _Template] = {}

    def of(self, head: bytes, size: int) -> bytes | None:
        """Return ``identity(head)``; ``size`` is the whole file's, by which layouts are told."""
        last = self._last.get(size)
        if last is not None and last.fits(head):
            return last.identity
        untelling: list[tuple[int, int]] = []
        found = identity(head, untelling)
        if found is None:
            return None
        if last is None or not last.learn(head, untelling):
            if len(self._last) >= _MOST_TEMPLATES:
                self._last.clear()
            self._last[size] = _Template(head, untelling, found)
        return found


class _Template:
    """A head that was read, and the stretches in which others must be equal to it."""

    def __init__(self, head: bytes, untelling: list[tuple[int, int]], found: bytes) -> None:
        self.identity = found
        self._end = untelling.pop()[1]
        self._untelling = untelling
        self._head = head
        self._stretches = [(0, self._end)]

    def fits(self, head: bytes) -> bool:
        mine = self._head
        return all(head[a:b] == mine[a:b] for a, b in self._stretches)

    def learn(self, head: bytes, untelling: list[tuple[int, int]]) -> bool:
        """Leave out values in which ``head``, of the same layout, differs; say whether it fits."""
        end = untelling.pop()[1]
        if end != self._end or untelling != self._untelling:
            return False
        stretches, position = [], 0
        taken = set(self._left_out())
        for start, stop in untelling:
            if (start, stop) in taken or head[start:stop] != self._head[start:stop]:
                stretches.append((position, start))
                position = stop
        self._stretches = [*stretches, (position, self._end)]
        return self.fits(head)

    def _left_out(self) -> Iterator[tuple[int, int]]:
        for (_, start), (stop, _) in pairwise(self._stretches):
            yield start, stop


def identity(head: bytes, untelling: list[tuple[int, int]] | None = None) -> bytes | None:
    """Return a digest that files share only if they say the same about their patient.

    ``head`` is a file's beginning, up to its pixels at least. None for a file that isn't as plain,
    or that has neither a patient's identifier nor a study's: it has to be read. ``untelling``
    gets the bounds of the values that were left out, and at last those of all that was looked at.
    """
    skipped: list[tuple[int, int]] = [] if untelling is None else untelling
    if head[128:132] != b"DICM":
        return None
    try:
        position, syntax = _meta(head, 132, skipped)
        if syntax == EXPLICIT.encode() or syntax.startswith((_COMPRESSED, _RLE)):
            pieces = _explicit(head, position, skipped)
        elif syntax == IMPLICIT.encode():
            pieces = _implicit(head, position, skipped)
        else:
            return None
    except struct.error:
        return None
    if pieces is None:
        return None
    return hashlib.blake2b(b"\0".join(pieces), digest_size=16).digest()


def _meta(head: bytes, position: int, skipped: list[tuple[int, int]]) -> tuple[int, bytes]:
    syntax = b""
    while True:
        group, element, vr, short = _HEAD(head, position)
        if group != _META_END:
            return position, syntax
        if vr in _LONG:
            position += 12 + _LENGTH(head, position + 8)[0]
            continue
        if element == 0x0003:
            skipped.append((position + 8, position + 8 + short))
        elif element == 0x0010:
            syntax = head[position + 8 : position + 8 + short].rstrip(b" \0")
        position += 8 + short


class _Reading:
    """What a head was found to tell so far, and whether the reader is within a sequence.

    Items and their ends are stepped over.
    """

    __slots__ = ("depth", "has_icon", "is_told", "pieces", "skipped", "until")

    def __init__(self, skipped: list[tuple[int, int]]) -> None:
        self.depth = 0
        self.until = 0
        self.has_icon = False
        self.is_told = False
        self.pieces: list[bytes] = []
        self.skipped = skipped

    def enter(self, group: int, start: int, length: int) -> None:
        """Note a sequence."""
        self.has_icon |= group == _ICON
        if length == UNDEFINED:
            self.depth += 1
        else:
            self.until = max(self.until, start + length)

    def leave(self, element: int) -> None:
        """Note the end of an item or of a sequence."""
        self.depth -= element == _SEQUENCE_END and self.depth > 0

    def is_top(self, position: int) -> bool:
        return not self.depth and position >= self.until

    def take(
        self, head: bytes, tag: tuple[int, int], vr: str, position: int, start: int, stop: int
    ) -> None:
        """Note the element at ``position``, whose value is from ``start`` to ``stop``."""
        group = tag[0]
        if vr not in _UNTELLING:
            if vr == "DT":
                stop_of_day = min(start + 8, stop)
                self.pieces.append(head[position:stop_of_day])
                self.skipped.append((stop_of_day, stop))
            elif not group & 1 or vr in ("PN", "DA"):
                self.pieces.append(head[position:stop])
                self.is_told |= tag == _PATIENT_ID and stop > start and self.is_top(position)
            else:
                self.skipped.append((start, stop))
        elif tag == _STUDY:
            self.pieces.append(head[position:stop])
            self.is_told |= stop > start and self.is_top(position)
        elif group != _PIXELS or self.is_top(position):
            self.skipped.append((start, stop))

    def end(self, group: int, start: int, end: int, *, is_whole: bool) -> list[bytes] | None:
        """Note how far the head was looked at: to its end, or to pixels that go beyond it."""
        if not self.is_told:
            return None
        if not is_whole:
            if group != _PIXELS or self.has_icon:
                return None
            self.skipped.pop()
            end = start
        self.skipped.append((0, end))
        return self.pieces


def _explicit(head: bytes, position: int, skipped: list[tuple[int, int]]) -> list[bytes] | None:
    reading, end, group, start = _Reading(skipped), len(head), 0, position
    while position + 8 <= end:
        group, element, code, length = _HEAD(head, position)
        if group == _ITEMS:
            reading.leave(element)
            position += 8
            continue
        vr = _VRS.get(code)
        if vr is None:
            return None
        start = position + 8
        if vr in LONG:
            length = _LENGTH(head, start)[0]
            start += 4
            if vr == "SQ":
                reading.enter(group, start, length)
                position = start
                continue
            if length == UNDEFINED:
                skipped.append((start, end))
                position = end + 1
                break
        reading.take(head, (group, element), vr, position, start, start + length)
        position = start + length
    return reading.end(group, start, end, is_whole=position <= end)


def _implicit(head: bytes, position: int, skipped: list[tuple[int, int]]) -> list[bytes] | None:
    reading, end, group, start = _Reading(skipped), len(head), 0, position
    while position + 8 <= end:
        group, element, length = _TAG_LENGTH(head, position)
        if group == _ITEMS:
            reading.leave(element)
            position += 8
            continue
        start = position + 8
        vr = known_vr(group << 16 | element)
        if vr == "SQ":
            reading.enter(group, start, length)
            position = start
            continue
        if length == UNDEFINED:
            return None
        reading.take(head, (group, element), vr, position, start, start + length)
        position = start + length
    return reading.end(group, start, end, is_whole=position <= end)
