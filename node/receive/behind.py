"""What follows behind the receiver: arrivals are de-identified, and what is too old is deleted."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from contract.errors import Unavailable, WardgateError
from node.catalog.store import Catalog
from node.config import NodeSettings
from node.deid.engine import Deidentifier
from node.deid.lists import Lists, load_lists
from node.deid.profile import load_profile
from node.home import NodeHome
from node.intake.crew import Crew, Processes, open_crew
from node.intake.landing import Landing
from node.intake.landing_intake import LandingIntake
from node.intake.quarantine import Quarantine
from node.intake.secret import node_pseudonyms
from node.receive.worker import UP, configure_logging

log = logging.getLogger("node.receive")

IDLE_SECONDS = 0.5
BUSY_SECONDS = 5.0
"""Pause while another intake holds the vault."""
PURGE_SECONDS = 600.0
FINISH_SECONDS = 5.0
"""What is under way may take so long when the receiver stops, which then kills this process."""
NICE = 10
"""What arrives goes before what has arrived."""


@dataclass(frozen=True)
class BehindOrder:
    """What the process is told at its start."""

    home: NodeHome
    settings: NodeSettings
    verbose: bool


def follow(order: BehindOrder, control: socket.socket) -> None:
    """De-identify what arrives until ``control`` is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    configure_logging(verbose=order.verbose)
    os.nice(NICE)
    landing, quarantine = Landing(order.home), Quarantine(order.home)
    stop = threading.Event()
    purged_at = -PURGE_SECONDS
    left: set[str] = set()
    with contextlib.ExitStack() as held:
        workers = _Workers(order, held)
        stopping = threading.Thread(target=_stop_with, args=(control, stop, workers), daemon=True)
        stopping.start()
        control.send(UP)
        while not stop.is_set():
            if time.monotonic() - purged_at >= PURGE_SECONDS:
                purge(order, landing, quarantine, datetime.now(UTC))
                purged_at = time.monotonic()
            pause = IDLE_SECONDS
            # What could not be read once is not tried for ever; it goes with the purge.
            if any(entry.name not in left for entry in landing.entries()):
                try:
                    left = take(order, landing, stop, workers)
                except Unavailable:
                    pause = BUSY_SECONDS
                except WardgateError as error:
                    log.error("arrivals wait: %s", error)
                    pause = BUSY_SECONDS
            stop.wait(pause)


class _Workers:
    """Who de-identifies what arrives: begun with the first arrival, kept for those that follow."""

    def __init__(self, order: BehindOrder, held: contextlib.ExitStack) -> None:
        self._order, self._held = order, held
        self._begun: tuple[Deidentifier, Crew] | None = None

    def begin(self, catalog: Catalog) -> tuple[Deidentifier, Crew]:
        if self._begun is None:
            deidentifier = make_deidentifier(self._order, catalog)
            crew = self._held.enter_context(open_crew(self._order.settings.intake, deidentifier))
            self._begun = deidentifier, crew
        return self._begun

    def give_up(self) -> None:
        """End what is under way; it waits in the landing for the next time."""
        if self._begun is not None and isinstance(self._begun[1], Processes):
            self._begun[1].kill()


def take(
    order: BehindOrder, landing: Landing, stop: threading.Event, workers: _Workers
) -> set[str]:
    """De-identify what waits, until nothing does; return the names of what could not be read.

    The vault is not held in between, so that other intakes have their turn.
    """
    with Catalog.open(order.home, order.settings.database.url or None) as catalog:
        deidentifier, crew = workers.begin(catalog)
        with LandingIntake(
            order.home,
            catalog,
            deidentifier,
            landing,
            lambda: datetime.now(UTC),
            crew=crew,
            key=order.settings.intake.pseudonym_key,
            stop=stop.is_set,
        ) as intake:
            while True:
                before = {entry.name for entry in landing.entries()}
                if not intake.once():
                    break
            report = intake.report
        level = logging.WARNING if report.quarantined else logging.INFO
        log.log(
            level,
            "of %d arrivals %d accepted, %d quarantined",
            report.files,
            report.accepted,
            report.quarantined.total(),
        )
    return before & {entry.name for entry in landing.entries()}


def make_deidentifier(order: BehindOrder, catalog: Catalog) -> Deidentifier:
    """Return the de-identifier that the settings of intake name."""
    chosen = order.settings.intake
    # With another key, subjects that were taken in before would get a second pseudonym.
    pseudonyms = node_pseudonyms(order.home, chosen.pseudonym_key, create=catalog.is_empty())
    lists = load_lists(Path(chosen.lists)) if chosen.lists else Lists()
    return Deidentifier(load_profile(chosen.profile), pseudonyms, lists)


def purge(order: BehindOrder, landing: Landing, quarantine: Quarantine, now: datetime) -> None:
    """Delete what is too old; say so loudly where something was never de-identified."""
    settings = order.settings.receive
    late = landing.purge(now, timedelta(hours=settings.landing_hours))
    if late:
        log.error(
            "%d arrivals were not de-identified within %g hours and were deleted from the landing; "
            "their senders were told that they are safe: send them again",
            late,
            settings.landing_hours,
        )
    old = quarantine.purge(now, timedelta(days=settings.quarantine_days))
    if old:
        log.warning(
            "%d files were in quarantine for %g days and were deleted",
            old,
            settings.quarantine_days,
        )


def _stop_with(control: socket.socket, stop: threading.Event, workers: _Workers) -> None:
    control.recv(1)
    stop.set()
    time.sleep(FINISH_SECONDS)
    while True:  # until this process ends; work that dies may have been begun again
        workers.give_up()
        time.sleep(1)
