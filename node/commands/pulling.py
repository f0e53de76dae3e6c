"""One pull at work: fetching, intake behind it, its progress and its summary."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import typer

from contract.errors import StorageError, Unavailable, WardgateError
from node.catalog.store import Catalog
from node.commands.options import catalogue
from node.config import NodeSettings
from node.deid.engine import Deidentifier
from node.deid.identifiers import Known
from node.deid.lists import load_lists
from node.deid.profile import load_profile
from node.deid.pseudonyms import Pseudonyms
from node.home import NodeHome
from node.intake.crew import open_crew
from node.intake.landing import Landing
from node.intake.landing_intake import LandingIntake
from node.intake.secret import node_pseudonyms
from node.pull.archive import Archive
from node.pull.held import held_here
from node.pull.hours import Hours, time_zone
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
    line = _Line(job)
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
        intake = None
        if pseudonyms is not None and not no_intake:
            intake = stack.enter_context(_intake(node, settings, job, landing, catalog, pseudonyms))
        behind = _Behind(intake)

        def meanwhile() -> None:
            line.progress(run.progress)
            behind()

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
        behind.now()
    counts = jobs.counts(job.id)
    for text in lines_of(jobs.get(job.id), counts):
        typer.echo(text)
    if intake is not None:
        typer.echo("Taken in:")
        for text in intake.report.lines():
            typer.echo(text)
    if ended is not None:
        raise ended
    if counts.studies[StudyState.INCOMPLETE]:
        raise Unavailable(
            f"{counts.studies[StudyState.INCOMPLETE]} studies are incomplete; "
            f"`pull resume {job.id}` tries them again."
        )


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
def _intake(
    node: NodeHome,
    settings: NodeSettings,
    job: JobRow,
    landing: Landing,
    catalog: Catalog,
    pseudonyms: Pseudonyms,
) -> Iterator[LandingIntake]:
    """Open what takes the landing in."""
    taking = settings.intake
    lists = load_lists(Path(taking.lists)) if taking.lists else Known()
    profile = load_profile(job.profile or taking.profile)
    deidentifier = Deidentifier(profile, pseudonyms, lists=lists)
    with (
        open_crew(taking, deidentifier) as crew,
        LandingIntake(
            node, catalog, deidentifier, landing, lambda: datetime.now(UTC), crew=crew
        ) as intake,
    ):
        yield intake


class _Behind:
    """Takes the landing in every half minute."""

    def __init__(self, intake: LandingIntake | None) -> None:
        self._intake = intake
        self._at = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._at >= INTAKE_EVERY_SECONDS:
            self.now()

    def now(self) -> None:
        """Do it now."""
        if self._intake is not None:
            self._intake.once()
        self._at = time.monotonic()


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


class _Line:
    """One line of progress on standard error, for a person who watches."""

    def __init__(self, job: JobRow) -> None:
        self._shown = sys.stderr.isatty()
        self._job = job
        self._since = time.monotonic()
        self._last = 0.0

    def say(self, text: str) -> None:
        """Show ``text``."""
        now = time.monotonic()
        if self._shown and now - self._last >= LINE_EVERY_SECONDS:
            self._last = now
            sys.stderr.write(f"\r\x1b[K{self._job.archive}: {text}")
            sys.stderr.flush()

    def progress(self, progress: Progress) -> None:
        """Show what arrived, how fast, and how long the rest will take."""
        if progress.waiting_until is not None:
            local = progress.waiting_until.astimezone()
            self.say(f"waiting for the allowed hours, {local:%Y-%m-%d %H:%M}")
            return
        elapsed = max(time.monotonic() - self._since, 1e-6)
        rate = progress.instances / elapsed
        left = ""
        if progress.studies_done:
            remaining = progress.studies - progress.studies_done
            left = f", {remaining * elapsed / progress.studies_done:.0f} s left"
        self.say(
            f"{progress.studies_done}/{progress.studies} studies, {progress.instances} instances, "
            f"{rate:.0f}/s, {progress.bytes / elapsed / 1e6:.1f} MB/s{left}"
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
