"""MPEG-2, AVC and HEVC video without user data, in place: no length changes.

Start codes are walked by search. What a video carries beside pictures is overwritten: user data of
MPEG-2 (ISO/IEC 13818-2 6.2.2.2), SEI messages that no decoder needs and units of unspecified kinds
in AVC and HEVC (ITU-T H.264 7.4.1 and annex D, H.265 7.4.2 and annex D), and what follows the end
of a sequence. Containers are taken apart first: MP4, MPEG transport and program streams.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import pairwise
from typing import Literal

from node.deid.codestream_blank import Blanks, Payload
from node.deid.codestream_mp4 import Samples, walk_mp4
from node.deid.codestream_mpeg import walk_program_stream, walk_transport_stream
from node.deid.reading import Unsafe

Coding = Literal["mpeg2", "avc", "hevc"]
_START = b"\0\0\1"
_KEPT_SEI = frozenset(
    {
        *(0, 1, 2, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29),
        *(30, 31, 32, 33, 34, 35, 36, 37, 45, 46, 47, 128, 129, 130, 131, 132, 133, 134, 136, 137),
        *(144, 147, 148, 149, 150, 151, 152, 153, 154, 155, 156),
    }
)
"""Messages with nothing but numbers of a closed meaning; 4 and 5, user data, are not among them."""
_MPEG2 = re.compile(rb"\x00\x00\x01[\xb0\xb1\xb2\xb6\xb7]")


def _units(types: set[int], shift: int, mask: int) -> re.Pattern[bytes]:
    heads = bytes(head for head in range(128) if (head >> shift & mask) in types)
    return re.compile(rb"\x00\x00\x01[" + re.escape(heads) + rb"]")


_AVC_EMPTY = {0, 12, *range(22, 32)}
_HEVC_EMPTY = {38, *range(41, 64)}
_AVC = _units({6, 9, 10, 11, *_AVC_EMPTY}, 0, 31)
_HEVC = _units({35, 36, 37, 39, 40, *_HEVC_EMPTY}, 1, 63)


def clean_video(data: bytes, coding: Coding) -> bytes:
    """Return the video of the same length; ``data`` itself if there is nothing to overwrite."""
    blanks = Blanks(data)
    if data[4:8] == b"ftyp":
        samples = walk_mp4(blanks)
        _clean_samples(blanks, samples, coding)
        return blanks.result()
    if data[:1] == b"\x47" and data[188:189] in (b"\x47", b"") and len(data) >= 188:
        ranges = walk_transport_stream(blanks)
    elif data.startswith(b"\0\0\1\xba"):
        ranges = walk_program_stream(blanks)
    else:
        ranges = [[(0, len(data))]]
    for pieces in ranges:
        _clean_stream(Payload(blanks, pieces), coding)
    return blanks.result()


def _clean_stream(stream: Payload, coding: Coding) -> None:
    data = stream.data
    first = data.find(_START)
    if first < 0:
        raise Unsafe("unreadable-codestream")
    stream.fill(0, first)
    pattern = {"mpeg2": _MPEG2, "avc": _AVC, "hevc": _HEVC}[coding]
    found = pattern.search(data, first)
    while found is not None:
        begin = found.start() + 3
        stop = data.find(_START, begin)
        stop = len(data) if stop < 0 else stop
        if coding == "mpeg2":
            stream.fill(begin + 1, stop, 0 if data[begin] == 0xB7 else 0xFF)
        else:
            _clean_unit(stream, begin, stop, coding)
        found = pattern.search(data, stop)


def _clean_samples(blanks: Blanks, samples: Samples, coding: Coding) -> None:
    """Clean units that have their length before them, as in MP4 (ISO/IEC 14496-15 5.3)."""
    whole = Payload(blanks, [(0, len(blanks.data))])
    for start, stop in samples.parameter_sets:
        _clean_unit(whole, start, stop, coding)
    for start, stop, size in samples.pictures:
        position = start
        while position + size < stop:
            length = int.from_bytes(blanks.data[position : position + size], "big")
            position += size
            if position + length > stop:
                raise Unsafe("unreadable-codestream")
            if length:
                _clean_unit(whole, position, position + length, coding)
            position += length
        blanks.fill(position, stop)


def _clean_unit(stream: Payload, start: int, stop: int, coding: Coding) -> None:
    """Overwrite what a NAL unit holds beside pictures."""
    head = stream.data[start]
    kind, size = (head & 31, 1) if coding == "avc" else (head >> 1 & 63, 2)
    if kind in ((6,) if coding == "avc" else (39, 40)):
        _clean_messages(stream, start + size, stop)
    elif kind in (_AVC_EMPTY if coding == "avc" else _HEVC_EMPTY):
        stream.fill(start + size, stop, 0xFF)
    elif kind in ((10, 11) if coding == "avc" else (36, 37)):
        stream.fill(start + size, stop)
    elif kind == (9 if coding == "avc" else 35):
        stream.fill(start + size + 1, stop)


def _clean_messages(stream: Payload, start: int, stop: int) -> None:
    """Overwrite the payloads of SEI messages (H.264 7.3.2.3.1) but those that are kept."""
    data = stream.data
    escapes: list[int] = []  # each 03 after two zeros, which isn't counted in sizes (7.4.1.1)
    at = data.find(b"\0\0\3", start, stop)
    while at >= 0:
        escapes.append(at + 2)
        at = data.find(b"\0\0\3", at + 3, stop)
    counted = [escape - start - index for index, escape in enumerate(escapes)]
    edges = [start - 1, *escapes, stop]
    plain = b"".join(data[before + 1 : after] for before, after in pairwise(edges))

    def raw(index: int) -> int:
        return start + index + bisect_right(counted, index)

    end = len(plain.rstrip(b"\0")) - 1  # the last byte is rbsp_trailing_bits
    position = 0
    while position < end:
        numbers = []
        for _ in range(2):
            number = 0
            while position < end and plain[position] == 0xFF:
                number += 255
                position += 1
            numbers.append(number + (plain[position] if position < end else 0))
            position += 1
        kind, size = numbers
        last = min(position + size, end)
        if kind not in _KEPT_SEI and position < last:
            _fill_between(stream, raw(position), raw(last), escapes)
        position = last


def _fill_between(stream: Payload, start: int, stop: int, escapes: list[int]) -> None:
    """Overwrite a message, without its zeros before an escape: the count of escapes must stay."""
    position = start
    for escape in escapes[bisect_right(escapes, start) : bisect_right(escapes, stop - 1)]:
        stream.fill(position, escape - 2, 1)
        position = escape + 1
    stream.fill(position, stop, 1)
