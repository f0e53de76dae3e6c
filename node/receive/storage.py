"""The storage service (PS3.4 Annex B): a data set goes into the landing as its bytes come.

Nothing is parsed. The file meta information is made anew from what was negotiated and commanded;
the data set follows, byte for byte. ``finish`` says success only when the file is durable.
"""

from __future__ import annotations

import contextlib
import struct

from contract.errors import StorageError
from node.intake.landing import Landing, LandingWriter
from node.receive import command
from node.receive.negotiation import IMPLEMENTATION_CLASS, IMPLEMENTATION_VERSION
from node.receive.room import Room

ORIGIN = "cstore"


class Arrival:
    """One C-STORE request's data set while it comes."""

    def __init__(
        self,
        landing: Landing,
        room: Room,
        *,
        sop_class: str,
        sop_instance: str,
        transfer_syntax: str,
        calling: str,
    ) -> None:
        self._limit = room.max_instance_bytes
        self._size = 0
        self._status = command.SUCCESS
        self._writer: LandingWriter | None = None
        if not command.is_uid(sop_class) or not command.is_uid(sop_instance):
            self._status = command.INVALID_OBJECT_INSTANCE
        elif room.refuses() is not None:
            self._status = command.OUT_OF_RESOURCES
        else:
            writer = landing.writer(ORIGIN, sop_instance)
            try:
                self._writer = writer.__enter__()
                writer.write(file_meta(sop_class, sop_instance, transfer_syntax, calling))
            except StorageError:
                self._refuse(command.OUT_OF_RESOURCES)

    def write(self, data: memoryview) -> None:
        """Take a fragment. What can't be kept is read and dropped, so that its sender is told."""
        if self._writer is None:
            return
        self._size += len(data)
        if self._size > self._limit:
            self._refuse(command.OUT_OF_RESOURCES)
            return
        try:
            self._writer.write(data)
        except StorageError:
            self._refuse(command.OUT_OF_RESOURCES)

    def finish(self) -> int:
        """Make it durable and return the status of the response."""
        if self._writer is None:
            return self._status
        if not self._size:
            self._refuse(command.PROCESSING_FAILURE)
            return self._status
        try:
            self._writer.commit()
        except StorageError:
            self._refuse(command.OUT_OF_RESOURCES)
        else:
            self._close()
        return self._status

    def drop(self) -> None:
        """Forget it; the association ended inside."""
        self._close()

    def _refuse(self, status: int) -> None:
        self._status = status
        self._close()

    def _close(self) -> None:
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.__exit__(None, None, None)
            self._writer = None


def file_meta(sop_class: str, sop_instance: str, transfer_syntax: str, source: str) -> bytes:
    """Return preamble, prefix and file meta information (PS3.10 section 7.1)."""
    elements = b"".join(
        (
            b"\2\0\1\0OB\0\0" + struct.pack("<I", 2) + b"\0\1",
            _short(0x0002, "UI", sop_class),
            _short(0x0003, "UI", sop_instance),
            _short(0x0010, "UI", transfer_syntax),
            _short(0x0012, "UI", IMPLEMENTATION_CLASS),
            _short(0x0013, "SH", IMPLEMENTATION_VERSION),
            _short(0x0016, "AE", source),
        )
    )
    group_length = b"\2\0\0\0UL\4\0" + struct.pack("<I", len(elements))
    return bytes(128) + b"DICM" + group_length + elements


def _short(element: int, kind: str, text: str) -> bytes:
    value = text.encode("ascii")
    value += (b"\0" if kind == "UI" else b" ") * (len(value) % 2)
    return struct.pack("<HH2sH", 2, element, kind.encode(), len(value)) + value
