"""One pull at work: fetching, intake behind it, its progress and its summary."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import typer

from contract.errors import StorageError, Unavailable, WardgateError
from foundation.hours import Hours, time_zone
from node.catalog.store import Catalog
from node.commands.options import catalogue
from node.config import NodeSettings
from node.deid.engine import Deidentifier
from node.deid.lists import load_lists
from node.deid.profile import load_profile
from node.deid.pseudonyms import Pseudonyms
from node.home import NodeHome
from node.intake.crew import open_crew
from node.intake.landing import Landing
from node.intake.landing_intake import LandingIntake
from node.intake.register import IntakeReport
from node.intake.secret import node_pseudonyms
from node.pull.archive import Archive
from node.pull.held import held_here
from node.pull.jobs import Counts, JobRow, Jobs
from node.pull.reception import Storage
from node.pull.run import Pace, Progress, Run
from node.pull.states import StudyState
from node.pull.throttle import Pauses

INTAKE_EVERY_SECONDS = 30.0
LINE_EVERY_SECONDS = 0.5


def work(
    node: NodeHome,
    settings: NodeSettings,
    jobs: Jobs,
    job: JobRow,
    connect: Callable[[], Archive],
    *,
    no_wait: bool,
    no_intake: bool,
) -> None:
    """Find and fetch what is left of ``job``, take it in behind, and say what became of it.

    ``Unavailable`` when something is left: the archive is down, it isn't the hour, a study is
    incomplete.
    """
    landing = Landing(node)
    line = Line(job)
    with ExitStack() as stack:
        catalog = stack.enter_context(catalogue(node))
        stack.enter_context(_terminable())
        taking = settings.intake
        pseudonyms = None
        if not (no_intake and catalog.is_empty()):
            pseudonyms = node_pseudonyms(node, taking.pseudonym_key, create=catalog.is_empty())
        storage = Storage(
            arrival=lambda uid: landing.writer("pull", uid),
            held=held_here(landing, catalog, pseudonyms),
            room=lambda: shutil.disk_usage(landing.folder).free >= settings.receive.keep_free_bytes,
        )
        run = Run(jobs, job.id, connect, storage, _pace(settings, no_wait=no_wait))
        run.find(lambda asked: line.say(f"asked {asked}"))
        line.clear()
        found = jobs.counts(job.id).studies.total()
        typer.echo(f"Pull {job.id}: {found} studies found.")
        behind = None
        if pseudonyms is not None and not no_intake:
            behind = stack.enter_context(_behind(node, settings, job, landing, catalog, pseudonyms))

        def meanwhile() -> None:
            line.progress(run.progress)
            if behind is not None:
                behind.now_and_then()

        ended: WardgateError | None = None
        try:
            run.fetch(meanwhile)
        except StorageError:
            raise
        except WardgateError as error:
            ended = error
        except KeyboardInterrupt:
            line.clear()
            typer.echo(f"Broken off; `pull resume {job.id}` goes on.", err=True)
            raise
        line.clear()
        if behind is not None:
            behind.now()
    incomplete = _say(jobs, job, landing, behind)
    if isinstance(ended, Unavailable) and "pull resume" not in str(ended):
        raise Unavailable(f"{str(ended).rstrip('.')}; `pull resume {job.id}` goes on.")
    if ended is not None:
        raise ended
    if incomplete:
        raise Unavailable(
            f"{incomplete} studies are incomplete; `pull resume {job.id}` tries them again."
        )


def _say(jobs: Jobs, job: JobRow, landing: Landing, behind: _Behind | None) -> int:
    """Say what became of a pull, and return how many of its studies are incomplete."""
    counts = jobs.counts(job.id)
    for text in lines_of(jobs.get(job.id), counts):
        typer.echo(text)
    if behind is not None:
        typer.echo("Taken in:")
        for text in behind.report.lines():
            typer.echo(text)
    waiting = landing.count()
    if waiting:
        typer.echo(f"{waiting} instances wait in the landing.")
    return counts.studies[StudyState.INCOMPLETE]


def _pace(settings: NodeSettings, *, no_wait: bool) -> Pace:
    pull = settings.pull
    return Pace(
        hours=Hours.parse(pull.hours, time_zone(pull.time_zone)),
        instances_per_second=pull.instances_per_second,
        bytes_per_second=pull.megabytes_per_second * 1e6,
        associations=pull.associations,
        study_pause_seconds=pull.study_pause_seconds,
        attempts=pull.attempts,
        pauses=Pauses(pull.first_pause_seconds, pull.longest_pause_seconds),
        largest_instance_bytes=pull.largest_instance_bytes,
        wait_for_hours=not no_wait,
    )


@contextmanager
def _behind(
    node: NodeHome,
    settings: NodeSettings,
    job: JobRow,
    landing: Landing,
    catalog: Catalog,
    pseudonyms: Pseudonyms,
) -> Iterator[_Behind]:
    """Open what takes the landing in."""
    taking = settings.intake
    lists = load_lists(Path(taking.lists)) if taking.lists else None
    profile = load_profile(job.profile or taking.profile)
    deidentifier = Deidentifier(profile, pseudonyms, lists)
    with open_crew(taking, deidentifier) as crew:
        yield _Behind(
            lambda: LandingIntake(
                node,
                catalog,
                deidentifier,
                landing,
                lambda: datetime.now(UTC),
                crew=crew,
                key=taking.pseudonym_key,
            )
        )


class _Behind:
    """Takes the landing in every half minute, by an intake of its own each time.

    While another command does that (the receiver, for one), what arrived waits for it.
    """

    def __init__(self, intake: Callable[[], LandingIntake]) -> None:
        self.report = IntakeReport()
        self._intake = intake
        self._at = time.monotonic()

    def now_and_then(self) -> None:
        """Do it if it is time."""
        if time.monotonic() - self._at >= INTAKE_EVERY_SECONDS:
            self.now()

    def now(self) -> None:
        """Do it now."""
        with suppress(Unavailable), self._intake() as intake:
            try:
                intake.once()
            finally:
                self._count(intake.report)
        self._at = time.monotonic()

    def _count(self, report: IntakeReport) -> None:
        for field in fields(report):
            total = getattr(self.report, field.name)
            setattr(self.report, field.name, total + getattr(report, field.name))


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does: in order, with everything kept."""

    def end(_number: int, _frame: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Line:
    """One line of progress on standard error, for a person who watches."""

    def __init__(self, job: JobRow, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._shown = sys.stderr.isatty()
        self._job = job
        self._monotonic = monotonic
        self._since = self._last = monotonic()

    def say(self, text: str, *, now: float | None = None) -> None:
        """Show ``text``, if the last is old enough to have been read."""
        now = self._monotonic() if now is None else now
        if self._shown and now - self._last >= LINE_EVERY_SECONDS:
            self._last = now
            sys.stderr.write(f"\r\x1b[K{self._job.archive}: {text}")
            sys.stderr.flush()

    def progress(self, progress: Progress) -> None:
        """Show what arrived, how fast, and how long the rest will take."""
        now = self._monotonic()
        if progress.waiting_until is not None:
            local = progress.waiting_until.astimezone()
            self.say(f"waiting for the allowed hours, {local:%Y-%m-%d %H:%M}", now=now)
            return
        elapsed = max(now - self._since, 1e-6)
        left = ""
        if progress.studies_done:
            remaining = progress.studies - progress.studies_done
            left = f", {remaining * elapsed / progress.studies_done:.0f} s left"
        rates = f"{progress.instances / elapsed:.0f}/s, {progress.bytes / elapsed / 1e6:.1f} MB/s"
        self.say(
            f"{progress.studies_done}/{progress.studies} studies, "
            f"{progress.instances} instances, {rates}{left}",
            now=now,
        )

    def clear(self) -> None:
        """Clear the line."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def lines_of(job: JobRow, counts: Counts) -> Sequence[str]:
    """Return a pull by outcome, a line each."""
    rows = [
        *((f"requests {state}", n) for state, n in sorted(counts.requests.items())),
        ("lines of the list that are no number", job.unfit),
        *((f"studies {state}", n) for state, n in sorted(counts.studies.items())),
        ("instances arrived", counts.arrived),
        ("instances that were here already", counts.held),
        ("instances missing", counts.missing),
        *((f"studies incomplete: {why}", n) for why, n in sorted(counts.reasons.items())),
    ]
    width = max(len(str(n)) for _, n in rows)
    return [
        f"Pull {job.id} from {job.archive}: {job.state}.",
        *(f"{n:>{width}}  {what}" for what, n in rows if n),
    ]
