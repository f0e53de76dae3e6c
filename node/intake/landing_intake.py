"""Intake of the landing: what arrived by network is taken in as soon as a worker is free."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import islice
from threading import Event

from contract.errors import Unavailable
from foundation.files import SECRET_MODE
from node.catalog.store import Catalog
from node.deid.engine import Deidentifier
from node.home import NodeHome
from node.intake.crew import Crew
from node.intake.items import Item
from node.intake.landing import Landing
from node.intake.register import IntakeReport, Settled
from node.intake.run import Intake

LOCK = "intake.lock"
LOOK_AT = 256
"""Entries that are looked at before the first of them is taken in."""
_PAUSE_SECONDS = 0.5


class LandingIntake:
    """Takes the landing's entries in, pass by pass. An entry is done when its outcome is durable.

    One at a time enters: ``Unavailable`` for another.

    An entry that can't be read (damaged, or sealed under another key) is left where it is, counted
    once, and goes with the landing's purge.
    """

    def __init__(
        self,
        home: NodeHome,
        catalog: Catalog,
        deidentifier: Deidentifier,
        landing: Landing,
        clock: Callable[[], datetime],
        *,
        crew: Crew | None = None,
        key: str = "",
        dry_run: bool = False,
        stop: Callable[[], bool] = lambda: False,
        observe: Callable[[IntakeReport], None] = lambda report: None,
    ) -> None:
        self._landing = landing
        self._stop = stop
        self._dry_run = dry_run
        self._left: set[str] = set()
        self._taken = 0
        self._intake = Intake(
            home,
            catalog,
            deidentifier,
            clock,
            crew=crew,
            key=key,
            dry_run=dry_run,
            stop=stop,
            settled=self._done,
            observe=observe,
        )

    @property
    def report(self) -> IntakeReport:
        """What became of the entries so far."""
        return self._intake.report

    def __enter__(self) -> LandingIntake:
        with ExitStack() as stack:
            if not self._dry_run:
                stack.enter_context(self._alone())
            stack.enter_context(self._intake)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)  # type: ignore[arg-type]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Be the only one: what another takes out of the landing must not look unreadable here."""
        descriptor = os.open(self._landing.folder / LOCK, os.O_RDWR | os.O_CREAT, SECRET_MODE)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Unavailable("Another command takes the landing in; wait for it.") from None
            yield
        finally:
            os.close(descriptor)

    def once(self) -> int:
        """Take in what waits now and return how many entries that were."""
        self._taken = 0
        waiting = self._waiting()
        # What one arrival says of a patient is looked for in the others too.
        while group := list(islice(waiting, LOOK_AT)):
            informed = self._intake.informed(group)
            if self._stop():
                break
            self._intake.take(informed)
        self._intake.finish()
        return self._taken

    def _waiting(self) -> Iterator[Item]:
        for entry in self._landing.entries():
            if self._stop():
                return
            if entry.name not in self._left:
                self._taken += 1
                yield Item(entry=entry, size_bytes=entry.size_bytes)

    def _done(self, settled: Settled) -> None:
        entry = settled.item.entry
        if entry is None:
            return
        if not settled.steady:
            self._left.add(entry.name)
        elif not self._dry_run:
            self._landing.done(entry)


def take_landing(
    home: NodeHome,
    catalog: Catalog,
    deidentifier: Deidentifier,
    landing: Landing,
    crew: Crew | None,
    clock: Callable[[], datetime],
    stop: Event,
    *,
    key: str = "",
    observe: Callable[[IntakeReport], None] = lambda report: None,
) -> IntakeReport:
    """Take in what arrives, until ``stop`` is set; then what was begun is finished."""
    with LandingIntake(
        home,
        catalog,
        deidentifier,
        landing,
        clock,
        crew=crew,
        key=key,
        stop=stop.is_set,
        observe=observe,
    ) as intake:
        while not stop.is_set():
            if not intake.once():
                stop.wait(_PAUSE_SECONDS)
        return intake.report
