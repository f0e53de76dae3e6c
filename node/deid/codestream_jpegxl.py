"""JPEG XL files without the boxes that hold EXIF, XMP and what a former JPEG had beside pixels.

A bare codestream (ISO/IEC 18181-1) has no such places, and its end is known to a decoder alone.
"""

from __future__ import annotations

from node.deid.codestream_splice import Splice
from node.deid.reading import Unsafe

_CONTAINER = b"\x00\x00\x00\x0cJXL \r\n\x87\n"
_KEPT_BOXES = frozenset({b"JXL ", b"ftyp", b"jxll", b"jxlc", b"jxlp", b"jxli"})


def clean_jpegxl(data: bytes) -> bytes:
    """Return the stream with its codestream's boxes only (ISO/IEC 18181-2)."""
    if data.startswith(b"\xff\x0a"):
        return data
    if not data.startswith(_CONTAINER):
        raise Unsafe("unreadable-codestream")
    splice = Splice(data)
    position = 0
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        if length == 1:
            length = int.from_bytes(data[position + 8 : position + 16], "big")
        stop = position + length if length else len(data)
        if not position + 8 <= stop <= len(data):
            raise Unsafe("unreadable-codestream")
        if data[position + 4 : position + 8] in _KEPT_BOXES:
            splice.take(position, stop)
        position = stop
    return splice.result()
