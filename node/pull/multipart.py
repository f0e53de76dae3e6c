"""Multipart bodies (RFC 2046 section 5.1) read as they come, in bounded memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from contract.errors import DataError

MAX_HEADER_BYTES = 16 * 1024
_BOUNDARY = re.compile(
    r';\s*boundary=(?:"([^"\r\n]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE | re.ASCII
)


@dataclass(frozen=True)
class Begin:
    """A part begins; its header fields by lower-case name."""

    fields: dict[str, str]


@dataclass(frozen=True)
class Data:
    """More bytes of the part."""

    data: bytes


@dataclass(frozen=True)
class End:
    """The part is whole."""


Piece = Begin | Data | End


def boundary_of(content_type: str) -> bytes | None:
    """Return the boundary that a Content-Type names; None when it isn't multipart."""
    if not content_type.lower().startswith("multipart/"):
        return None
    found = _BOUNDARY.search(content_type)
    return None if found is None else (found[1] or found[2]).encode("ascii", "replace")


def parts(chunks: Iterable[bytes], boundary: bytes) -> Iterator[Piece]:
    """Yield the parts of a body, however it is cut into chunks.

    What comes before the first boundary and after the last is passed over. ``DataError`` for a
    body that ends before its last boundary, or has a part with more than 16 KiB of header.
    """
    source = iter(chunks)
    delimiter = b"\r\n--" + boundary
    # The first boundary may be the body's first line.
    buffer = bytearray(b"\r\n")
    for _ in _until(source, buffer, delimiter):
        pass
    while True:
        _need(source, buffer, 2)
        if buffer.startswith(b"--"):
            return
        # Boundary lines may end with blanks.
        _line(source, buffer)
        yield Begin(_fields(source, buffer))
        # The line break before a boundary is the boundary's, also that which ends the header.
        _need(source, buffer, len(delimiter) - 2)
        if buffer.startswith(delimiter[2:]):
            buffer[:0] = b"\r\n"
        for data in _until(source, buffer, delimiter):
            yield Data(data)
        yield End()


def _until(source: Iterator[bytes], buffer: bytearray, delimiter: bytes) -> Iterator[bytes]:
    """Yield the bytes before ``delimiter`` and take it and them out of ``buffer``."""
    while True:
        at = buffer.find(delimiter)
        if at >= 0:
            if at:
                yield bytes(buffer[:at])
            del buffer[: at + len(delimiter)]
            return
        safe = len(buffer) - len(delimiter) + 1
        if safe > 0:
            yield bytes(buffer[:safe])
            del buffer[:safe]
        _more(source, buffer)


def _line(source: Iterator[bytes], buffer: bytearray) -> bytes:
    while (at := buffer.find(b"\r\n")) < 0:
        if len(buffer) > MAX_HEADER_BYTES:
            raise DataError("A multipart body has a header that is too long.")
        _more(source, buffer)
    line = bytes(buffer[:at])
    del buffer[: at + 2]
    if len(line) > MAX_HEADER_BYTES:
        raise DataError("A multipart body has a header that is too long.")
    return line


def _fields(source: Iterator[bytes], buffer: bytearray) -> dict[str, str]:
    fields: dict[str, str] = {}
    size = 0
    while line := _line(source, buffer):
        size += len(line)
        if size > MAX_HEADER_BYTES:
            raise DataError("A multipart body has a header that is too long.")
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            fields[name.strip().lower()] = value.strip()
    return fields


def _need(source: Iterator[bytes], buffer: bytearray, count: int) -> None:
    while len(buffer) < count:
        _more(source, buffer)


def _more(source: Iterator[bytes], buffer: bytearray) -> None:
    try:
        buffer += next(source)
    except StopIteration:
        raise DataError("A multipart body ends too early.") from None
