"""Deflated image frames without what follows the deflated stream (PS3.5 section 8.2.16)."""

from __future__ import annotations

import zlib

from node.deid.reading import Unsafe

_CHUNK = 1 << 20
_MAX_FRAME = 1 << 32


def clean_deflated(data: bytes) -> bytes:
    """Return the stream up to its end, ``data`` itself if only zeros follow."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    pending, inflated = data, 0
    try:
        while not stream.eof and pending:
            inflated += len(stream.decompress(pending, _CHUNK))
            pending = stream.unconsumed_tail
            if inflated > _MAX_FRAME:
                raise Unsafe("too-large")
    except zlib.error:
        raise Unsafe("unreadable-codestream") from None
    if not stream.eof:
        raise Unsafe("unreadable-codestream")
    if not stream.unused_data.strip(b"\0"):
        return data
    return data[: len(data) - len(stream.unused_data)]
