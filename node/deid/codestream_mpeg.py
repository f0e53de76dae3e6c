"""Where video lies in MPEG transport and program streams, and what else is in them overwritten.

ISO/IEC 13818-1: in a transport stream, packets that no program map lists as audio or video become
null packets; in a program stream, private and padding packets are filled. Sections' stuffing,
private data in adaptation fields and bytes outside of packets go.
"""

from __future__ import annotations

from node.deid.codestream_blank import Blanks
from node.deid.reading import Unsafe

_PACKET = 188
_VIDEO_TYPES = frozenset({0x01, 0x02, 0x1B, 0x24})
_AUDIO_TYPES = frozenset({0x03, 0x04, 0x0F, 0x11, 0x80, 0x81})
_NULL = b"\x1f\xff\x10"
Ranges = list[tuple[int, int]]


def walk_transport_stream(blanks: Blanks) -> list[Ranges]:
    """Return the video streams' pieces; ``Unsafe`` without a program that has any."""
    data = blanks.data
    whole = len(data) - len(data) % _PACKET
    blanks.fill(whole, len(data))
    packets = range(0, whole, _PACKET)
    if any(data[at] != 0x47 for at in packets):
        raise Unsafe("unreadable-codestream")
    maps = _listed(blanks, packets, {0}, programs=True)
    kinds = _listed(blanks, packets, set(maps), programs=False)
    streams: dict[int, Ranges] = {
        stream: [] for stream, kind in kinds.items() if kind in _VIDEO_TYPES
    }
    if not streams:
        raise Unsafe("unreadable-codestream")
    audio = {stream for stream, kind in kinds.items() if kind in _AUDIO_TYPES}
    for at in packets:
        stream = _identifier(data, at)
        if stream in streams:
            start = _payload(blanks, at)
            if data[at + 1] & 0x40 and data.startswith(b"\0\0\1", start):
                start += 9 + data[start + 8] if start + 9 < at + _PACKET else 0
            if start < at + _PACKET:
                streams[stream].append((start, at + _PACKET))
        elif stream in audio:
            _payload(blanks, at)
        elif stream != 0 and stream not in maps:
            blanks.set(at + 1, _NULL)
            blanks.fill(at + 4, at + _PACKET, 0xFF)
    return [pieces for pieces in streams.values() if pieces]


def _identifier(data: bytes, at: int) -> int:
    return (data[at + 1] & 0x1F) << 8 | data[at + 2]


def _payload(blanks: Blanks, at: int) -> int:
    """Return where the packet's payload begins; its adaptation field keeps clocks and flags."""
    data = blanks.data
    control = data[at + 3] >> 4 & 3
    if control < 2:
        return at + 4
    length = data[at + 4]
    stop = min(at + 5 + length, at + _PACKET)
    if length:
        flags = data[at + 5]
        kept = at + 6 + 6 * (flags >> 4 & 1) + 6 * (flags >> 3 & 1) + (flags >> 2 & 1)
        if flags & 3:
            blanks.set(at + 5, bytes((flags & 0xFC,)))
        blanks.fill(min(kept, stop), stop, 0xFF)
    return stop if control == 3 else at + _PACKET


def _listed(blanks: Blanks, packets: range, tables: set[int], *, programs: bool) -> dict[int, int]:
    """Return what the tables on these streams list: program maps, or streams with their types."""
    data = blanks.data
    found: dict[int, int] = {}
    for at in packets:
        if _identifier(data, at) not in tables:
            continue
        start, stop = _payload(blanks, at), at + _PACKET
        if not data[at + 1] & 0x40 or start >= stop:
            raise Unsafe("unreadable-codestream")  # a table longer than a packet
        head = start + 1 + data[start]
        blanks.fill(start + 1, min(head, stop))
        end = head + 3 + int.from_bytes(data[head + 1 : head + 3], "big") % 4096
        if end > stop:
            raise Unsafe("unreadable-codestream")
        blanks.fill(end, stop, 0xFF)
        section = data[head : end - 4]
        if programs:
            for entry in range(8, len(section) - 3, 4):
                number = int.from_bytes(section[entry + 2 : entry + 4], "big") & 0x1FFF
                if section[entry : entry + 2] != b"\0\0":
                    found[number] = 0
            continue
        position = 12 + int.from_bytes(section[10:12], "big") % 4096
        while position + 5 <= len(section):
            number = int.from_bytes(section[position + 1 : position + 3], "big") & 0x1FFF
            found[number] = section[position]
            position += 5 + int.from_bytes(section[position + 3 : position + 5], "big") % 4096
    return found


def walk_program_stream(blanks: Blanks) -> list[Ranges]:
    """Return the video streams' pieces; ``Unsafe`` when there are none."""
    data = blanks.data
    streams: dict[int, Ranges] = {}
    position = 0
    while position < len(data):
        code = data[position + 3] if position + 4 <= len(data) else 0
        if not data.startswith(b"\0\0\1", position) or code < 0xB9:
            following = _next_packet(data, position + 1)
            blanks.fill(position, following)
            position = following
        elif code == 0xB9:
            position += 4
        elif code == 0xBA:
            mpeg2 = data[position + 4 : position + 5] >= b"\x40"
            stuffing = data[position + 13] & 7 if mpeg2 and position + 13 < len(data) else 0
            if mpeg2:
                blanks.fill(position + 14, min(position + 14 + stuffing, len(data)), 0xFF)
            position += 14 + stuffing if mpeg2 else 12
        else:
            length = int.from_bytes(data[position + 4 : position + 6], "big")
            stop = min(position + 6 + length, len(data))
            if 0xE0 <= code <= 0xEF:
                start = _packet_header(data, position, stop)
                streams.setdefault(code, []).append((start, stop))
            elif code not in (0xBB, 0xBC, 0xBD) and not 0xC0 <= code <= 0xDF:
                blanks.fill(position + 6, stop, 0xFF)
            position = stop if stop > position else len(data)
    if not streams:
        raise Unsafe("unreadable-codestream")
    return list(streams.values())


def _next_packet(data: bytes, start: int) -> int:
    at = data.find(b"\0\0\1", start)
    while 0 <= at < len(data) - 3 and data[at + 3] < 0xB9:
        at = data.find(b"\0\0\1", at + 1)
    return len(data) if at < 0 else at


def _packet_header(data: bytes, position: int, stop: int) -> int:
    """Return where a video packet's payload begins (13818-1 2.4.3.6, 11172-1 2.4.3.3)."""
    start = position + 6
    if data[start : start + 1] >= b"\x80" and data[start : start + 1] < b"\xc0":
        return min(start + 3 + (data[start + 2] if start + 2 < stop else 0), stop)
    while start < stop and data[start] == 0xFF:
        start += 1
    if start < stop and data[start] >> 6 == 1:
        start += 2
    if start < stop:
        start += {2: 5, 3: 10}.get(data[start] >> 4, 1)
    return min(start, stop)
