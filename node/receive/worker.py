"""A process that receives: connections are handed to it, each gets a thread."""

from __future__ import annotations

import logging
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, MutableSequence
from contextlib import suppress
from dataclasses import dataclass

from contract.documents import printable
from contract.errors import WardgateError
from node.config import ReceiveSettings
from node.home import NodeHome
from node.intake.landing import Landing
from node.receive import commitment
from node.receive.association import REQUEST_SECONDS, Association, Services
from node.receive.listening import calling_tls, dicom_tls
from node.receive.negotiation import Callers
from node.receive.room import Limits, Room

log = logging.getLogger("node.receive")

WELCOME, FULL = b"\1", b"\0"
ARTIM_SECONDS = 2.0
UP = b"\1"
"""What a process says to the accepting one when it is ready."""
DRAIN_SECONDS = 5.0
REPORT_PAUSES_SECONDS = (1.0, 5.0, 30.0)


@dataclass(frozen=True)
class Order:
    """What a worker is told at its start."""

    home: NodeHome
    settings: ReceiveSettings
    slot: int
    verbose: bool


def room_of(settings: ReceiveSettings, landing: Landing) -> Room:
    """Return the room that the settings leave."""
    limits = Limits(settings.keep_free_bytes, settings.max_waiting, settings.max_instance_bytes)
    return Room(landing, limits, time.monotonic)


def configure_logging(*, verbose: bool) -> None:
    """Log to standard error; other people's libraries only when they fail."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("node").setLevel(logging.INFO if verbose else logging.WARNING)
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)


def work(order: Order, control: socket.socket, finished: MutableSequence[int]) -> None:
    """Serve what comes over ``control`` until it is closed, then what is under way, for a while.

    ``finished`` counts, in this worker's slot, the connections that have ended.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    configure_logging(verbose=order.verbose)
    settings = order.settings
    landing = Landing(order.home)
    tls = dicom_tls(settings)
    services = Services(
        callers=Callers.of(settings.ae_title, settings.calling),
        landing=landing,
        room=room_of(settings, landing),
        largest_pdu_bytes=settings.max_pdu_bytes,
        idle_seconds=settings.idle_seconds,
        least_bytes_per_second=settings.least_bytes_per_second,
        report=reporter(settings, landing),
    )
    counting = threading.Lock()
    control.send(UP)
    threads: list[threading.Thread] = []
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            break
        connection = socket.socket(fileno=descriptors[0])
        welcome = message == WELCOME

        def serve(connection: socket.socket = connection, welcome: bool = welcome) -> None:
            try:
                _serve(connection, tls, services, welcome=welcome)
            finally:
                with counting:
                    finished[order.slot] += 1

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        threads = [t for t in threads if t.is_alive()] + [thread]
    until = time.monotonic() + DRAIN_SECONDS
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


def _serve(
    connection: socket.socket, tls: ssl.SSLContext | None, services: Services, *, welcome: bool
) -> None:
    with suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        peer = connection.getpeername()[0]
        if tls is not None:
            connection.settimeout(REQUEST_SECONDS)
            connection = tls.wrap_socket(connection, server_side=True)
    except (OSError, ValueError):
        log.warning("A connection without TLS, or with a certificate of others, was closed.")
        connection.close()
        return
    with connection:
        tally = Association(connection, peer, services, welcome=welcome).run()
        _await_close(connection)
    level = logging.INFO if tally.ended == "released" and not tally.refused else logging.WARNING
    log.log(
        level,
        "association of %r: %d stored, %d refused, %s",
        printable(tally.calling, 16),
        tally.stored,
        tally.refused,
        tally.ended,
    )


def _await_close(connection: socket.socket) -> None:
    """Leave it to the peer to close, for a while (PS3.8, Sta13): a close may overtake an answer."""
    until = time.monotonic() + ARTIM_SECONDS
    with suppress(OSError):
        while (left := until - time.monotonic()) > 0:
            connection.settimeout(left)
            if not connection.recv(65536):
                break
        connection.shutdown(socket.SHUT_RDWR)


def reporter(
    settings: ReceiveSettings, landing: Landing
) -> Callable[[str, commitment.CommitmentRequest], bool]:
    """Return what reports on an association of our own, to those that have an address."""
    known = commitment.addresses(settings.report_to)
    tls = calling_tls(settings) if known else None

    def report(calling: str, request: commitment.CommitmentRequest) -> bool:
        address = known.get(calling)
        if address is None:
            return False

        def run() -> None:
            for pause in (*REPORT_PAUSES_SECONDS, None):
                with suppress(OSError, WardgateError):
                    held = landing.held(uid for _, uid in request.references)
                    if commitment.send(
                        request,
                        held,
                        ours=settings.ae_title,
                        theirs=calling,
                        address=address,
                        tls=tls,
                    ):
                        return
                if pause is not None:
                    time.sleep(pause)
            log.warning("storage commitment could not be reported to %r", printable(calling, 16))

        threading.Thread(target=run, daemon=True).start()
        return True

    return report
