"""multipart/related bodies (RFC 2387, RFC 2046 section 5.1), read as they come.

Of a body of any length, less than a chunk and a boundary is held. Limits are checked before bytes
are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from enum import Enum, auto

MAX_HEADER_BYTES = 16 * 1024
MAX_PREAMBLE_BYTES = 64 * 1024
MAX_BOUNDARY = 200
"""RFC 2046 section 5.1.1 allows 70; Orthanc's have 73."""


class Malformed(Exception):
    """The body is not what its content type says."""


@dataclass(frozen=True)
class PartBegins:
    """A part's headers, names in small letters."""

    headers: Mapping[str, str]


@dataclass(frozen=True)
class PartData:
    """Bytes of the part."""

    data: bytes


@dataclass(frozen=True)
class PartEnds:
    """The part is whole."""


Event = PartBegins | PartData | PartEnds


class _State(Enum):
    PREAMBLE = auto()
    HEADERS = auto()
    BODY = auto()
    EPILOGUE = auto()


class Multipart:
    """Turns a body's chunks into the beginnings, bytes and ends of its parts."""

    def __init__(self, boundary: str) -> None:
        if not 0 < len(boundary) <= MAX_BOUNDARY or not boundary.isascii():
            raise Malformed
        self._delimiter = b"\r\n--" + boundary.encode()
        # The first boundary may stand at the very beginning.
        self._held = bytearray(b"\r\n")
        self._state = _State.PREAMBLE
        self._skipped = 0

    @property
    def is_whole(self) -> bool:
        """Whether the last boundary has come."""
        return self._state is _State.EPILOGUE

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield what ``chunk`` completes; ``Malformed`` when it can't be read."""
        if self.is_whole:
            return
        self._held += chunk
        progress = True
        while progress:
            headers = self._state is _State.HEADERS
            events, progress = self._headers() if headers else self._body()
            yield from events

    def _headers(self) -> tuple[list[Event], bool]:
        # An empty header block is CRLF alone.
        end = 0 if self._held.startswith(b"\r\n") else self._held.find(b"\r\n\r\n")
        if end < 0:
            if len(self._held) > MAX_HEADER_BYTES:
                raise Malformed
            return [], False
        if end > MAX_HEADER_BYTES:
            raise Malformed
        headers = _parse_headers(bytes(self._held[:end]))
        del self._held[: end + (2 if end == 0 else 4)]
        self._state = _State.BODY
        return [PartBegins(headers)], True

    def _body(self) -> tuple[list[Event], bool]:
        inside = self._state is _State.BODY
        at = self._held.find(self._delimiter)
        if at < 0:
            ready = max(len(self._held) - len(self._delimiter) + 1, 0)
            return self._emit(ready, inside), False
        after = at + len(self._delimiter)
        line = self._held.find(b"\r\n", after)
        if bytes(self._held[after : after + 2]) == b"--":
            events = self._emit(at, inside)
            self._held.clear()
            self._state = _State.EPILOGUE
            return [*events, PartEnds()] if inside else events, False
        if line < 0:
            if len(self._held) - after > MAX_HEADER_BYTES:
                raise Malformed
            return self._emit(at, inside), False
        if bytes(self._held[after:line]).strip(b" \t"):
            # Not the boundary, only its beginning: data like any other.
            return self._emit(at + 2, inside), True
        events = self._emit(at, inside)
        del self._held[: line - at + 2]
        self._state = _State.HEADERS
        return [*events, PartEnds()] if inside else events, True

    def _emit(self, count: int, inside: bool) -> list[Event]:
        if not count:
            return []
        data = bytes(self._held[:count])
        del self._held[:count]
        if inside:
            return [PartData(data)]
        self._skipped += count
        if self._skipped > MAX_PREAMBLE_BYTES:
            raise Malformed
        return []


def parts(chunks: Iterable[bytes], boundary: str) -> Iterator[Event]:
    """Yield what a whole body's chunks bring; ``Malformed`` for one that ends too early."""
    parser = Multipart(boundary)
    for chunk in chunks:
        yield from parser.feed(chunk)
        if parser.is_whole:
            return
    raise Malformed


def related(content_type: str) -> tuple[str, str]:
    """Return type and boundary of a multipart/related content type; ``Malformed`` for others."""
    message = Message()
    message["content-type"] = content_type
    boundary = message.get_param("boundary")
    kind = message.get_param("type", "application/dicom")
    if message.get_content_type() != "multipart/related" or not isinstance(boundary, str):
        raise Malformed
    return str(kind).lower(), boundary


def _parse_headers(block: bytes) -> dict[str, str]:
    found = {}
    for line in block.split(b"\r\n") if block else []:
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon:
            raise Malformed
        found[name.strip().lower()] = value.strip()
    return found
