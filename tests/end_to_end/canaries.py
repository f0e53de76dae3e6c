"""A search for planted identifiers in bytes, in the forms in which they could be smuggled out."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable, Mapping

MIDDLE = slice(2, -3)
"""What of a base64 text doesn't depend on the bytes before and after."""


def traces(texts: Iterable[str], numbers: Iterable[float]) -> Mapping[bytes, str]:
    """Return what to search for, and its form. Text is in lower case and found in any case."""
    found: dict[bytes, str] = {}
    for text in texts:
        for spelled in (text, text.lower(), text.upper()):
            raw = spelled.encode()
            for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
                found[spelled.encode(encoding).lower()] = f"{text} as {encoding}"
            found[raw[::-1].lower()] = f"{text} backwards"
            found[raw.hex().encode()] = f"{text} in hexadecimal"
            for shift in range(3):
                coded = base64.b64encode(b"\0" * shift + raw)[MIDDLE].rstrip(b"=")
                inner = coded[1 if shift else 0 :]
                found[inner.lower()] = f"{text} in base64"
                safe = inner.replace(b"+", b"-").replace(b"/", b"_")
                found[safe.lower()] = f"{text} in base64 for addresses"
    for number in numbers:
        found[repr(number).encode()] = f"{number} as text"
        for form in ("<d", ">d"):
            found[struct.pack(form, number)] = f"{number} packed {form}"
    return found


def packed_singles(numbers: Iterable[float]) -> Mapping[bytes, str]:
    """Return numbers in single precision: four bytes, which chance may bring in much data."""
    return {
        struct.pack(form, number): f"{number} packed {form}"
        for number in numbers
        for form in ("<f", ">f")
    }


def find(data: bytes, wanted: Mapping[bytes, str], depth: int = 2) -> list[str]:
    """Return what of ``wanted`` is in ``data``, also in what deflated streams in it hold."""
    lowered = data.lower()
    found = [form for trace, form in wanted.items() if trace in lowered or trace in data]
    if depth:
        for inner in _inflated(data):
            found += [f"deflated: {form}" for form in find(inner, wanted, depth - 1)]
    return found


def _inflated(data: bytes) -> Iterable[bytes]:
    at = data.find(b"\x78")
    while at >= 0:
        if int.from_bytes(data[at : at + 2], "big") % 31 == 0:
            try:
                inner = zlib.decompressobj().decompress(data[at : at + 2**20], 2**20)
            except zlib.error:
                inner = b""
            if len(inner) > 8:
                yield inner
        at = data.find(b"\x78", at + 1)
