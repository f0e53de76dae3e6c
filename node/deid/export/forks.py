"""Work on numbered items in forked processes, of which one may die without harm to the others.

The processes are copies of this one, so that what the work needs (a tree of a million paths, what
is known of every patient, a pseudonym key) is neither sent nor kept twice. Results come back as
JSON, one line an item; nothing is unpickled. An item whose process is killed by it, as by a
decompression bomb, is reported and left out; the process is replaced.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

from contract.errors import StorageError, WardgateError

Row = dict[str, Any]
MOST_IN_CHUNK = 32
LEAST_TOGETHER, MOST_TOGETHER = 16, 128
ITEM_SECONDS = 3600.0
"""An item that takes longer is taken for one that never ends."""
_LOOK_SECONDS = 1.0
_LOT_SECONDS = 0.002
"""Rows of so long a time are taken at once: waking up for each would hold up the processes."""
_AHEAD = 2
"""Chunks that a process has at once, so that it never waits."""


def work_through(
    items: range,
    work: Callable[[int, str], Row],
    *,
    workers: int,
    died: Callable[[int], Row],
    item_seconds: float = ITEM_SECONDS,
    together: Callable[[int], object] | None = None,
) -> Iterator[Row]:
    """Yield ``work(item, worker)`` for each item, in any order.

    ``died(item)`` stands for one that ended its process, or took more than ``item_seconds``. One
    worker is this process itself, where nothing can be done about either. ``WardgateError`` of the
    work ends everything. Neighbours for which ``together`` gives the same are done by one process
    where they aren't too many, for work that is quick and quicker after its like.
    """
    if workers <= 1 or len(items) < 2:
        for item in items:
            yield work(item, "0")
        return
    workers = min(workers, len(items))
    if together is None:
        size = max(1, min(MOST_IN_CHUNK, len(items) // (workers * 4)))
        chunks = [items[at : at + size] for at in range(0, len(items), size)]
    else:
        chunks = list(_alike(items, workers, together))
    yield from _Pool(chunks, work, workers, died, item_seconds).rows()


def _alike(items: range, workers: int, together: Callable[[int], object]) -> Iterator[range]:
    """Yield chunks that end where ``together`` changes; smaller ones to the end, to even it out."""
    at, count = 0, len(items)
    least = max(1, min(LEAST_TOGETHER, count // (workers * 4)))
    while at < count:
        size = max(least, min(MOST_TOGETHER, (count - at) // (workers * 4)))
        stop = min(at + size, count)
        first, last = at + max(1, size // 2), min(at + 2 * size, count)
        for end in range(first, last):
            if together(items[end - 1]) != together(items[end]):
                stop = end
                break
        yield items[at:stop]
        at = stop


@dataclass
class _Worker:
    pid: int
    channel: socket.socket
    chunks: deque[range] = field(default_factory=deque)
    received: bytes = b""
    since: float = 0.0
    """When the item began that it is at, by the monotonic clock."""


class _Pool:
    def __init__(
        self,
        chunks: list[range],
        work: Callable[[int, str], Row],
        workers: int,
        died: Callable[[int], Row],
        item_seconds: float,
    ) -> None:
        self._work = work
        self._seconds = item_seconds
        self._died = died
        self._count = workers
        self._waiting = deque(chunks)
        self._selector = selectors.DefaultSelector()
        self._workers: dict[int, _Worker] = {}
        self._numbers = iter(range(sys.maxsize))

    def rows(self) -> Iterator[Row]:
        # What is there now is shared by all processes and not looked at again by the collector.
        gc.freeze()
        try:
            for _ in range(self._count):
                self._start()
            while self._workers:
                for key, _ in self._selector.select(_LOOK_SECONDS):
                    yield from self._receive(key.data)
                self._end_stalled()
                time.sleep(_LOT_SECONDS)
        finally:
            for worker in list(self._workers.values()):
                os.kill(worker.pid, signal.SIGKILL)
                self._end(worker)
            self._selector.close()
            gc.unfreeze()

    def _start(self) -> None:
        if not self._waiting:
            return
        ours, theirs = socket.socketpair()
        number = next(self._numbers)
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            ours.close()
            for other in self._workers.values():
                other.channel.close()
            _serve(theirs, self._work, str(number))
        theirs.close()
        worker = _Worker(pid, ours, since=time.monotonic())
        self._workers[pid] = worker
        self._selector.register(ours, selectors.EVENT_READ, worker)
        self._feed(worker)

    def _feed(self, worker: _Worker) -> None:
        while self._waiting and len(worker.chunks) < _AHEAD:
            chunk = self._waiting.popleft()
            worker.chunks.append(chunk)
            try:
                worker.channel.sendall(b"%d %d\n" % (chunk.start, chunk.stop))
            except OSError:
                return  # it is dead, which its closed channel tells too
        if not worker.chunks:
            self._end(worker)

    def _receive(self, worker: _Worker) -> Iterator[Row]:
        try:
            data = worker.channel.recv(1 << 16)
        except ConnectionError:
            data = b""
        if not data:
            yield from self._bury(worker)
            return
        worker.since = time.monotonic()
        lines = (worker.received + data).split(b"\n")
        worker.received = lines.pop()
        for line in lines:
            row = json.loads(line)
            if "error" in row:
                raise _error(row["error"], row["message"])
            chunk = worker.chunks[0]
            worker.chunks[0] = chunk[1:]
            if not worker.chunks[0]:
                worker.chunks.popleft()
                self._feed(worker)
            yield row

    def _bury(self, worker: _Worker) -> Iterator[Row]:
        chunks = worker.chunks
        self._end(worker)
        if chunks:
            fatal = chunks[0].start
            chunks[0] = chunks[0][1:]
            self._waiting.extendleft(chunk for chunk in reversed(chunks) if chunk)
            yield self._died(fatal)
        self._start()

    def _end_stalled(self) -> None:
        now = time.monotonic()
        for worker in self._workers.values():
            if now - worker.since > self._seconds:
                os.kill(worker.pid, signal.SIGKILL)  # its closed channel tells the rest
                worker.since = now

    def _end(self, worker: _Worker) -> None:
        if self._workers.pop(worker.pid, None) is None:
            return
        self._selector.unregister(worker.channel)
        worker.channel.close()
        os.waitpid(worker.pid, 0)


def _serve(channel: socket.socket, work: Callable[[int, str], Row], name: str) -> NoReturn:
    """Be a worker until the channel is closed; never return into the parent's code."""
    try:
        with channel, channel.makefile("rb") as orders:
            for order in orders:
                start, stop = map(int, order.split())
                for item in range(start, stop):
                    try:
                        row = work(item, name)
                    except WardgateError as error:
                        row = {"error": type(error).__name__, "message": str(error)}
                    channel.sendall(json.dumps(row).encode() + b"\n")
        os._exit(0)
    except BaseException:
        os._exit(1)


def _error(name: str, message: str) -> WardgateError:
    known = {error.__name__: error for error in WardgateError.__subclasses__()}
    kind = known.get(name, StorageError)
    try:
        return kind(message)
    except TypeError:
        return StorageError(message)
