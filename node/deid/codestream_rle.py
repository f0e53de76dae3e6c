"""RLE frames with nothing in their unused offsets, before, between or after their segments.

PS3.5 annex G: a header of 64 bytes with the number of segments and up to 15 offsets; each segment
is a byte plane of Rows x Columns bytes in PackBits, padded to an even length.
"""

from __future__ import annotations

from node.deid.reading import Unsafe

_HEADER = 64
_MAX_SEGMENTS = 15


def clean_rle(data: bytes, pixels: int) -> bytes:
    """Return the frame without what no decoder reads; ``data`` itself if there is nothing of it.

    ``pixels`` is Rows x Columns; without it (0) a segment is taken to fill the space to the next.
    """
    offsets = _offsets(data)
    stops = [*offsets[1:], len(data)]
    segments = []
    for start, stop in zip(offsets, stops, strict=True):
        segment = data[start:stop]
        segments.append(_cut(segment, pixels) if pixels else segment)
    header = bytearray(len(offsets).to_bytes(4, "little"))
    position = _HEADER
    for segment in segments:
        header += position.to_bytes(4, "little")
        position += len(segment)
    cleaned = bytes(header).ljust(_HEADER, b"\0") + b"".join(segments)
    return data if cleaned == data else cleaned


def _offsets(data: bytes) -> list[int]:
    numbers = [int.from_bytes(data[at : at + 4], "little") for at in range(0, _HEADER, 4)]
    count = numbers[0]
    if len(data) < _HEADER or not 1 <= count <= _MAX_SEGMENTS:
        raise Unsafe("unreadable-codestream")
    offsets = numbers[1 : 1 + count]
    if offsets[0] < _HEADER or offsets != sorted(offsets) or offsets[-1] > len(data):
        raise Unsafe("unreadable-codestream")
    return offsets


def _cut(segment: bytes, pixels: int) -> bytes:
    """Return the segment up to the run that completes its plane, padded to an even length."""
    from imagecodecs import PackbitsError, packbits_decode

    if pixels > 64 * len(segment):
        return segment  # it can't fill its plane, and nothing is left over
    try:
        # Done in C, and nearly always so: whatever else is in a segment would decode to more.
        if len(packbits_decode(segment, out=pixels)) == pixels:
            return segment
    except PackbitsError:
        pass
    cut = _runs(segment, pixels)
    return cut + b"\0" * (len(cut) % 2)


def _runs(segment: bytes, pixels: int) -> bytes:
    position = decoded = 0
    while position + 1 < len(segment):
        head = segment[position]
        if head == 128:
            position += 1
            continue
        count = head + 1 if head < 128 else 257 - head
        missing = pixels - decoded
        if count >= missing:
            if head < 128:
                literal = segment[position + 1 : position + 1 + missing]
                return segment[:position] + bytes((missing - 1,)) + literal
            value = segment[position + 1 : position + 2]
            last = bytes((257 - missing,)) if missing > 1 else b"\0"
            return segment[:position] + last + value
        position += 1 + count if head < 128 else 2
        decoded += count
    return segment
