"""Protocol data units of the DICOM upper layer (PS3.8 section 9.3), read with a limit.

A PDU's length is looked at before a byte of it is read, and what it holds stays in one buffer that
the next PDU overwrites: memory doesn't grow with what a peer sends.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from node.receive.pace import Pace

HEADER = struct.Struct(">BxI")
PDV_HEADER = struct.Struct(">IBB")
MAX_NEGOTIATION_BYTES = 512 * 1024
"""128 presentation contexts with all transfer syntaxes are about 200 KB."""


class PduType(IntEnum):
    """The first byte of a PDU."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    P_DATA = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


class Broken(Exception):
    """The peer's bytes are not what the standard says, or more than was agreed."""


class Closed(Exception):
    """The peer is gone."""


@dataclass(frozen=True)
class Value:
    """A presentation data value: a fragment of a command or of a data set."""

    context_id: int
    is_command: bool
    is_last: bool
    data: memoryview
    """Valid until the next PDU is read."""


class Reader:
    """Reads PDUs from a connected socket."""

    def __init__(self, connection: socket.socket, largest_bytes: int, pace: Pace) -> None:
        self._connection = connection
        self._largest = largest_bytes
        self._buffer = bytearray(max(largest_bytes, 4096))
        self.deadline: float | None = None
        """On the monotonic clock, instead of the pace."""
        self._pace = pace

    def read(self) -> tuple[PduType, memoryview]:
        """Return the next PDU's type and what follows its header.

        ``Closed`` when the peer ended the connection, ``Broken`` for a type that doesn't exist or a
        PDU that is too long, ``TimeoutError`` when nothing comes.
        """
        header = bytearray(HEADER.size)
        self._fill(memoryview(header))
        code, length = HEADER.unpack(header)
        try:
            kind = PduType(code)
        except ValueError:
            raise Broken("a PDU of an unknown type") from None
        limit = MAX_NEGOTIATION_BYTES if kind is PduType.ASSOCIATE_RQ else self._largest
        if length > limit:
            raise Broken("a PDU longer than agreed")
        if length > len(self._buffer):
            self._buffer = bytearray(length)
        view = memoryview(self._buffer)[:length]
        self._fill(view)
        return kind, view

    def _fill(self, view: memoryview) -> None:
        at = 0
        while at < len(view):
            began, left = time.monotonic(), self._pace.left_seconds
            if self.deadline is not None:
                left = self.deadline - began
            if left <= 0:
                raise TimeoutError
            self._connection.settimeout(left)
            try:
                count = self._connection.recv_into(view[at:])
            except TimeoutError:
                raise
            except OSError:
                raise Closed from None
            if not count:
                raise Closed
            at += count
            if self.deadline is None:
                self._pace.came(count, time.monotonic() - began)


def values(body: memoryview) -> Iterator[Value]:
    """Yield the presentation data values of a P-DATA-TF PDU (PS3.8 section 9.3.5)."""
    at = 0
    while at < len(body):
        if len(body) - at < PDV_HEADER.size:
            raise Broken("a cut presentation data value")
        length, context_id, control = PDV_HEADER.unpack_from(body, at)
        end = at + 4 + length
        if length < 2 or end > len(body):
            raise Broken("a presentation data value of a wrong length")
        yield Value(
            context_id, bool(control & 1), bool(control & 2), body[at + PDV_HEADER.size : end]
        )
        at = end


def pdu(kind: PduType, body: bytes) -> bytes:
    """Return a PDU."""
    return HEADER.pack(kind, len(body)) + body


def data_pdus(context_id: int, command: bytes, data: bytes | None, largest: int) -> Iterator[bytes]:
    """Yield the P-DATA-TF PDUs of one message, none longer than the peer's ``largest`` (0: any)."""
    room = max((largest or 65536) - PDV_HEADER.size, 256)
    for is_command, content in ((1, command), (0, data)):
        if content is None:
            continue
        for at in range(0, len(content), room):
            part = content[at : at + room]
            last = 2 if at + room >= len(content) else 0
            header = PDV_HEADER.pack(len(part) + 2, context_id, is_command | last)
            yield pdu(PduType.P_DATA, header + part)


ABORT_BY_USER = pdu(PduType.ABORT, b"\0\0\0\0")
ABORT_UNEXPECTED = pdu(PduType.ABORT, b"\0\0\2\2")
"""Source: service provider; reason: unexpected PDU (PS3.8 Table 9-26)."""
ABORT_INVALID = pdu(PduType.ABORT, b"\0\0\2\6")
"""Source: service provider; reason: invalid PDU parameter value."""
RELEASED = pdu(PduType.RELEASE_RP, b"\0\0\0\0")
