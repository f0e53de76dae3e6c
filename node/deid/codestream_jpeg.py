"""JPEG and JPEG-LS without comments and application segments.

The markers are walked (ITU-T T.81 annex B, T.87 annex C); entropy-coded data is skipped to its next
marker, in which a stuffed byte or a restart marker is none. Kept are the segments that decoding
reads, cut to what their own counts say, and of the application segments those that say how
components are to be understood: JFIF or LJIF (without its thumbnail), Adobe's transform, a SPIFF
header and the colour transform of JPEG-LS by HP. Of comments, encoders' signatures stay.
"""

from __future__ import annotations

import re

from node.deid.codestream_signatures import is_signature
from node.deid.codestream_splice import Splice
from node.deid.reading import Unsafe

_SOI, _EOI, _SOS, _DNL, _DRI, _DQT, _DHT, _DAC = 0xD8, 0xD9, 0xDA, 0xDC, 0xDD, 0xDB, 0xC4, 0xCC
_DHP, _EXP, _LSE, _SOF55 = 0xDE, 0xDF, 0xF8, 0xF7
_APP0, _APP8, _APP14, _COM = 0xE0, 0xE8, 0xEE, 0xFE
_FRAMES = (*(code for code in range(0xC0, 0xD0) if code not in (_DHT, 0xC8, _DAC)), _DHP, _SOF55)
_KEPT = (_DQT, _DHT, _DAC, _DRI, _DNL, _EXP, _LSE, _SOS, *_FRAMES)
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
"""No restart marker, and none of those that T.81 reserves: in a damaged stream they are data."""
_SPIFF_END = b"\0\0\0\1\xff\xd8"


def walk_jpeg(splice: Splice, start: int = 0) -> int:
    """Keep what decodes of the image that starts at or after ``start``; return where it ends.

    ``Unsafe`` without a frame and a scan. A stream that ends inside a scan is kept to its end.
    """
    data = splice.data
    begin = data.find(b"\xff\xd8\xff", start)
    if begin < 0:
        raise Unsafe("unreadable-codestream")
    splice.take(begin, begin + 2)
    position = begin + 2
    framed = scanned = False
    while True:
        marker = _MARKER.search(data, position)
        if marker is None:
            if not scanned:
                raise Unsafe("unreadable-codestream")
            return len(data)
        if data[position : marker.start()].strip(b"\xff") == b"":
            splice.take(position, marker.start())  # fill bytes
        position, code = marker.end(), data[marker.start() + 1]
        if code == _EOI:
            if not scanned:
                raise Unsafe("unreadable-codestream")
            splice.take(marker.start(), position)
            return position
        if code == _SOI:
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        stop = position + length
        if code not in _KEPT and length < 2:
            continue  # a comment without a length: what follows is searched for the next marker
        if length < 2 or stop > len(data):
            if not scanned:
                raise Unsafe("unreadable-codestream")
            splice.put(b"\xff\xd9", marker.start(), len(data))
            return len(data)
        payload = _kept_payload(code, data[position + 2 : stop])
        if payload is not None:
            segment = (len(payload) + 2).to_bytes(2, "big") + payload
            splice.take(marker.start(), position)
            splice.put(segment, position, stop)
        position = stop
        framed = framed or code in _FRAMES
        if code == _SOS:
            if not framed:
                raise Unsafe("unreadable-codestream")
            scanned = True
            following = _MARKER.search(data, position)
            position = len(data) if following is None else following.start()
            splice.take(stop, position)


def _kept_payload(code: int, payload: bytes) -> bytes | None:
    """Return what a segment may hold after its length, None if it goes."""
    if code in _FRAMES:
        return _counted(payload, 6, 5, 3)
    if code == _SOS:
        return _counted(payload, 4, 0, 2)
    if code in (_DQT, _DHT):
        return payload[: _tables(payload, quantization=code == _DQT)]
    if code in (_DRI, _DNL):
        return payload[:4]  # two bytes; JPEG-LS may have up to four
    if code in _KEPT or (code == _COM and is_signature(payload)):
        return payload
    return _application(code, payload)


def _counted(payload: bytes, fixed: int, count_at: int, size: int) -> bytes:
    """Return a header that has a number of components, without what follows them."""
    if len(payload) < fixed:
        raise Unsafe("unreadable-codestream")
    return payload[: fixed + payload[count_at] * size]


def _tables(payload: bytes, *, quantization: bool) -> int:
    """Return how many bytes of a DQT or DHT segment are whole tables (T.81 B.2.4)."""
    position = 0
    while position < len(payload):
        if quantization:
            following = position + (129 if payload[position] >> 4 else 65)
        else:
            following = position + 17 + sum(payload[position + 1 : position + 17])
        if following > len(payload):
            break
        position = following
    return position


def _adobe(payload: bytes) -> bytes | None:
    """Return version, flags and transform (T.872 section 6.5.3); nothing of what else stands there.

    A segment that is as it should be stays byte for byte, and so does one that is cut and empty.
    """
    if len(payload) < 12:
        return None if any(payload[5:]) else payload
    version = b"\0\x65" if payload[5:7] == b"\0\x65" else b"\0\x64"
    # Of each word of flags, only the two highest bits are in use.
    flags = bytes(byte & (0 if place % 2 else 0xC0) for place, byte in enumerate(payload[7:11]))
    return b"Adobe" + version + flags + payload[11:12]


def _application(code: int, payload: bytes) -> bytes | None:
    if code == _APP0 and payload.startswith((b"JFIF\0", b"LJIF\0")) and len(payload) >= 12:
        return payload[:12] + b"\0\0"
    if code == _APP14 and payload.startswith(b"Adobe"):
        return _adobe(payload)
    if code == _APP8:
        if payload.startswith(b"mrfx"):
            return payload[:5]
        if payload.startswith(b"SPIFF\0") and len(payload) >= 30:
            return payload[:30]
        if payload == _SPIFF_END:
            return payload
    return None
