"""The receiver's processes: one that accepts, some that receive, one each for web and what follows.

The accepting process hands each connection to the receiving process that has the fewest, so that
two senders use two cores. A process that dies is started again; when the accepting process goes,
however it goes, the others see their control sockets close and end.
"""

from __future__ import annotations

import logging
import multiprocessing
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess
from types import FrameType

from contract.errors import Unavailable
from node.config import ReceiveSettings
from node.home import NodeHome
from node.receive.worker import FULL, WELCOME, Order, work

log = logging.getLogger("node.receive")

SPAWN = multiprocessing.get_context("spawn")
STOP_SECONDS = 10.0
LOOK_SECONDS = 0.5
RESTART_SECONDS = 1.0
FAILED_STARTS = 3
"""After so many, something is wrong that another start doesn't mend."""


@dataclass
class Child:
    """A process of ours, with the socket whose end tells it to stop."""

    start: Callable[[socket.socket], SpawnProcess]
    process: SpawnProcess | None = None
    control: socket.socket | None = None
    started_at: float = 0.0
    failed_starts: int = 0
    """How often in a row it ended before it was up."""
    _ready: bool = False

    def run(self) -> None:
        """Start it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.process = self.start(theirs)
        self.process.start()
        theirs.close()
        self.control = ours
        self._ready = False
        self.started_at = time.monotonic()

    def is_ready(self, wait_seconds: float = 0.0) -> bool:
        """Say whether it has said that it is up; wait for that if need be."""
        if not self._ready and self.control is not None:
            readable, _, _ = select.select([self.control], [], [], wait_seconds)
            with suppress(OSError):
                self._ready = bool(readable and self.control.recv(1))
            if self._ready:
                self.failed_starts = 0
        return self._ready

    def is_dead(self) -> bool:
        """Say whether it has ended."""
        return self.process is None or not self.process.is_alive()

    def renew(self) -> bool:
        """Start it again if it is dead and not only just started; say whether it was."""
        if not self.is_dead() or time.monotonic() - self.started_at < RESTART_SECONDS:
            return False
        log.error("a process of the receiver ended; it is started again")
        self.failed_starts += not self._ready
        self.tell()
        self.run()
        return True

    def tell(self) -> None:
        """Tell it to stop."""
        if self.control is not None:
            self.control.close()
            self.control = None


class Service:
    """All processes of one receiver."""

    def __init__(
        self,
        home: NodeHome,
        settings: ReceiveSettings,
        *,
        dicom: socket.socket | None,
        others: Sequence[Callable[[socket.socket], SpawnProcess]],
        verbose: bool,
        announce: Callable[[], None] = lambda: None,
    ) -> None:
        self._dicom = dicom
        self._announce = announce
        self._settings = settings
        count = settings.processes if dicom is not None else 0
        # Without a lock: each slot has one writer, and a killed one must not keep a lock.
        self._finished = SPAWN.RawArray("l", max(count, 1))
        self._handed = [0] * count
        self._receivers = [
            Child(self._receiver(Order(home, settings, slot, verbose))) for slot in range(count)
        ]
        self._others = [Child(start) for start in others]
        self._stopping = False

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        children = [*self._receivers, *self._others]
        for child in children:
            child.run()
        try:
            self._wait(children)
            while not self._stopping:
                self._accept()
                self._renew()
        finally:
            for child in children:
                child.tell()
            until = time.monotonic() + STOP_SECONDS
            for child in children:
                if child.process is not None:
                    child.process.join(max(0.0, until - time.monotonic()))
                    if child.process.is_alive():
                        child.process.kill()

    def _wait(self, children: Sequence[Child]) -> None:
        while not self._stopping and not all(c.is_ready(LOOK_SECONDS) for c in children):
            self._renew()
            if any(child.failed_starts >= FAILED_STARTS for child in children):
                raise Unavailable("A process of the receiver doesn't come up; see what it said.")
        if not self._stopping:
            self._announce()

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _receiver(self, order: Order) -> Callable[[socket.socket], SpawnProcess]:
        def start(control: socket.socket) -> SpawnProcess:
            return SPAWN.Process(target=work, args=(order, control, self._finished), daemon=True)

        return start

    def _accept(self) -> None:
        if self._dicom is None:
            time.sleep(LOOK_SECONDS)
            return
        ready, _, _ = select.select([self._dicom], [], [], LOOK_SECONDS)
        if not ready:
            return
        try:
            connection, _ = self._dicom.accept()
        except OSError:
            return
        with connection:
            self._hand(connection)

    def _hand(self, connection: socket.socket) -> None:
        """Hand a connection over; a closed one tells its sender to come again."""
        loads = [handed - self._finished[slot] for slot, handed in enumerate(self._handed)]
        limit = self._settings.max_associations
        if sum(loads) >= 2 * limit:
            return
        message = WELCOME if sum(loads) < limit else FULL
        for slot in sorted(
            range(len(loads)), key=lambda s: (not self._receivers[s].is_ready(), loads[s])
        ):
            control = self._receivers[slot].control
            if control is not None and not self._receivers[slot].is_dead():
                with suppress(OSError):
                    socket.send_fds(control, [message], [connection.fileno()])
                    self._handed[slot] += 1
                    return

    def _renew(self) -> None:
        for slot, child in enumerate(self._receivers):
            if child.renew():
                self._finished[slot] = self._handed[slot] = 0
        for child in self._others:
            child.renew()
