"""Frames between a daemon and a confined process: a kind, a message and a body of raw bytes.

Every length is checked against a limit before anything is read. The other side is not trusted: it
may send nothing, too much, or stop in the middle.
"""

from __future__ import annotations

import fcntl
import io
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from contract.errors import Unavailable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

_HEADER = struct.Struct("!cIQ")
_PIECE = 1 << 20
MAX_MESSAGE_BYTES = 64 * 2**20


class Broken(Enum):
    """Why no frame came or went."""

    CLOSED = auto()
    OVERDUE = auto()
    TOO_LARGE = auto()


class FrameError(Unavailable):
    """A frame that didn't come or go, and why."""

    def __init__(self, why: Broken) -> None:
        super().__init__(f"The connection to a confined process is unusable: {why.name.lower()}.")
        self.why = why


@dataclass(frozen=True)
class Frame:
    """One frame: its kind (a byte), its message, its body."""

    kind: bytes
    message: bytes
    body: bytes


class Pipe:
    """Frames over two file descriptors, each way one. Deadlines are ``time.monotonic`` seconds."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self.incoming = incoming
        self.outgoing = outgoing
        os.set_blocking(incoming, False)
        os.set_blocking(outgoing, False)
        self._arriving = _Arriving(incoming)
        self._reader = io.BufferedReader(self._arriving, 1 << 16)
        with suppress(OSError):
            fcntl.fcntl(outgoing, fcntl.F_SETPIPE_SZ, _PIECE)

    def close(self) -> None:
        """Close both descriptors."""
        for descriptor in (self.incoming, self.outgoing):
            with suppress(OSError):
                os.close(descriptor)

    def send(
        self,
        kind: bytes,
        message: bytes = b"",
        body: Sequence[bytes | memoryview] = (),
        deadline: float | None = None,
    ) -> None:
        """Send one frame, its body in pieces of bytes.

        ``FrameError`` when the other side is gone or the deadline passes.
        """
        size = sum(len(piece) for piece in body)
        self._write(_HEADER.pack(kind, len(message), size) + message, deadline)
        for piece in body:
            self._write(piece, deadline)

    def receive(self, max_body: int, deadline: float | None = None) -> Frame:
        """Return the next frame; ``FrameError`` without one that is within the limits."""
        kind, message, body = _HEADER.unpack(self._read(_HEADER.size, deadline))
        if message > MAX_MESSAGE_BYTES or body > max_body:
            raise FrameError(Broken.TOO_LARGE)
        return Frame(kind, self._read(message, deadline), self._read(body, deadline))

    def _write(self, data: bytes | memoryview, deadline: float | None) -> None:
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self.outgoing, left[:_PIECE]) :]
            except BlockingIOError:
                _wait(self.outgoing, select.POLLOUT, deadline)
            except OSError:
                raise FrameError(Broken.CLOSED) from None

    def _read(self, size: int, deadline: float | None) -> bytes:
        self._arriving.deadline = deadline
        data = self._reader.read(size)  # one allocation, filled in place
        if len(data) != size:
            raise FrameError(Broken.CLOSED)
        return data


class _Arriving(io.RawIOBase):
    """A descriptor's bytes, as they come, up to a deadline."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.deadline: float | None = None
        self._descriptor = descriptor

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        while True:
            try:
                return os.readv(self._descriptor, [buffer])
            except BlockingIOError:
                _wait(self._descriptor, select.POLLIN, self.deadline)
            except OSError:
                return 0


def _wait(descriptor: int, event: int, deadline: float | None) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    left = None if deadline is None else (deadline - time.monotonic()) * 1000
    if (left is not None and left <= 0) or not poll.poll(left):
        raise FrameError(Broken.OVERDUE)


class Socket:
    """Frames over a Unix stream socket. A body isn't sent: its file descriptor is."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def send(self, kind: bytes, message: bytes = b"", descriptor: int | None = None) -> None:
        """Send one frame and, with it, a descriptor; ``FrameError`` when the other is gone."""
        data = _HEADER.pack(kind, len(message), 0) + message
        try:
            if descriptor is None:
                self.connection.sendall(data)
            else:
                sent = socket.send_fds(self.connection, [data], [descriptor])
                self.connection.sendall(data[sent:])
        except OSError:
            raise FrameError(Broken.CLOSED) from None

    def receive(self) -> tuple[Frame, int | None]:
        """Return the next frame and the descriptor that came with it, which is then yours."""
        descriptor: int | None = None

        def first(size: int) -> bytes:
            nonlocal descriptor
            data, descriptors, _, _ = socket.recv_fds(self.connection, size, 1)
            for got in descriptors:
                if descriptor is None:
                    descriptor = got
                else:
                    os.close(got)
            return data

        try:
            kind, size, body = _HEADER.unpack(_exactly(first, _HEADER.size))
            if size > MAX_MESSAGE_BYTES or body:
                raise FrameError(Broken.TOO_LARGE)
            return Frame(kind, _exactly(self.connection.recv, size), b""), descriptor
        except FrameError:
            if descriptor is not None:
                os.close(descriptor)
            raise

    def close(self) -> None:
        """End the connection, also for a thread that waits in it."""
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()


def _exactly(receive: Callable[[int], bytes], size: int) -> bytes:
    pieces: list[bytes] = []
    while size:
        try:
            piece = receive(min(size, _PIECE))
        except OSError:
            piece = b""
        if not piece:
            raise FrameError(Broken.CLOSED)
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


_COUNT = struct.Struct("!I")


def pack(parts: Sequence[bytes]) -> bytes:
    """Return byte strings as one."""
    out = bytearray(_COUNT.pack(len(parts)))
    for part in parts:
        out += _COUNT.pack(len(part)) + part
    return bytes(out)


def unpack(data: bytes) -> list[bytes]:
    """Return what ``pack`` packed; ``ValueError`` when it is something else."""
    try:
        (count,) = _COUNT.unpack_from(data)
        at, parts = _COUNT.size, []
        for _ in range(count):
            (size,) = _COUNT.unpack_from(data, at)
            at += _COUNT.size
            parts.append(data[at : at + size])
            at += size
    except struct.error:
        raise ValueError("a packed list is cut") from None
    if at != len(data):
        raise ValueError("a packed list has another length than it says")
    return parts
