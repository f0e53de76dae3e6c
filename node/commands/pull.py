"""``wardgate-node pull``: fetch from the hospital's own archives."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from contract.errors import NotFound, StorageError, Unavailable, UsageError, WardgateError
from foundation import commands
from foundation.files import read_bounded, write_new
from node.commands.options import DEFAULT_HOME, HomeOption, catalogue, existing_home
from node.home import NodeHome

if TYPE_CHECKING:
    from node.catalog.store import Catalog
    from node.config import NodeSettings
    from node.intake.landing import Landing
    from node.pull.archive import Archive
    from node.pull.jobs import Counts, JobRow, Jobs
    from node.pull.question import Question
    from node.pull.run import Progress, Run
    from node.pull.settings import ArchiveSettings

app = commands.application("Fetch from the hospital's archive: throttled, in hours, resumable.")
archives = commands.application("The archives that node.toml declares.")
app.add_typer(archives, name="archive")

INTAKE_EVERY_SECONDS = 30.0
LINE_EVERY_SECONDS = 0.5

NameArgument = Annotated[str, typer.Argument(help="An archive of node.toml.")]
PullArgument = Annotated[str, typer.Argument(help="A pull, as `pull list` shows it.")]
NoWaitOption = Annotated[
    bool,
    typer.Option("--no-wait", help="Outside the allowed hours, end instead of waiting (exit 10)."),
]
NoIntakeOption = Annotated[
    bool,
    typer.Option("--no-intake", help="Leave what arrives in the landing; don't de-identify it."),
]


@archives.command("list")
def archive_list(home: HomeOption = DEFAULT_HOME) -> None:
    """List the archives that node.toml declares.

    Example: wardgate-node pull archive list
    """
    from node.config import load_settings
    from node.pull.settings import DicomArchive

    for name, archive in sorted(load_settings(existing_home(home)).pull.archives.items()):
        if isinstance(archive, DicomArchive):
            how = f"C-{archive.retrieve.upper()}"
            typer.echo(f"{name}  {how}  {archive.ae_title} at {archive.host}:{archive.port}")
        else:
            typer.echo(f"{name}  DICOMweb  {archive.url}")


@archives.command("test")
def archive_test(name: NameArgument, home: HomeOption = DEFAULT_HOME) -> None:
    """Ask an archive for a sign of life: C-ECHO, or QIDO-RS for one study. Nothing is fetched.

    Example: wardgate-node pull archive test pacs
    """
    from node.config import load_settings

    settings = load_settings(existing_home(home))
    with _connection(settings, name, listening=False) as connect:
        archive = connect()
        try:
            typer.echo(f"{name}: {archive.test()}.")
        finally:
            archive.close()


@app.command()
def start(
    name: NameArgument,
    accessions: Annotated[
        str | None,
        typer.Option(help="A list of accession numbers, one a line or first in a CSV; - is stdin."),
    ] = None,
    patients: Annotated[
        str | None,
        typer.Option(help="A list of patients' numbers, one a line or first in a CSV; - is stdin."),
    ] = None,
    modality: Annotated[str, typer.Option(help="Series of this modality, such as CT.")] = "",
    first: Annotated[
        str, typer.Option("--from", help="Studies of this day (2026-01-31) and later.")
    ] = "",
    last: Annotated[str, typer.Option("--to", help="Studies of this day and earlier.")] = "",
    study_description: Annotated[
        str, typer.Option(help="Studies described so; * and ? stand for anything.")
    ] = "",
    body_part: Annotated[str, typer.Option(help="Series of this body part, such as CHEST.")] = "",
    profile: Annotated[
        str, typer.Option("--profile", help="basic, longitudinal, or a profile's TOML file.")
    ] = "basic",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how much would come; fetch nothing.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Fetch even more studies than pull.most_studies says.")
    ] = False,
    no_wait: NoWaitOption = False,
    no_intake: NoIntakeOption = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Fetch what a list or a query names, and take it in behind. What is here isn't asked for.

    Numbers of patients and examinations come in files, never on the command line.

    Example: wardgate-node pull start pacs --accessions list.csv

    Example: wardgate-node pull start pacs --modality CT --from 2026-01-01 --to 2026-02-01 --dry-run
    """
    from node.config import load_settings
    from node.pull.estimate import estimate
    from node.pull.jobs import Jobs

    node = existing_home(home)
    settings = load_settings(node)
    filters = _question(
        modality=modality.upper(),
        first_date=_day(first, "--from"),
        last_date=_day(last, "--to"),
        study_description=study_description,
        body_part=body_part.upper(),
    )
    questions, unfit = _numbers(filters, accessions, patients)
    if not questions and accessions is None and patients is None and filters.is_empty:
        raise UsageError("Name what to fetch: --accessions, --patients, or a query (see --help).")
    if not questions and (accessions is not None or patients is not None):
        raise UsageError("The list has no number.")
    with _connection(settings, name, listening=not dry_run) as connect:
        if dry_run:
            archive = connect()
            try:
                found = estimate(archive, questions or [filters], filters)
            finally:
                archive.close()
            more = f" (the archive doesn't count {found.unsaid} of them)" if found.unsaid else ""
            typer.echo(f"Asked {found.asked}; {found.not_found} found nothing; {unfit} no number.")
            typer.echo(
                f"Would come: {found.studies} studies, {found.series} series, "
                f"{found.instances} instances{more}."
            )
            return
        with Jobs(node) as jobs, jobs.alone(name):
            now = datetime.now(UTC)
            jobs.forget_old(now)
            most = 0 if yes else settings.pull.most_studies
            job = jobs.create(
                name, profile, filters, questions, now, most_studies=most, unfit=unfit
            )
            with _new_only(jobs, job):
                _work(node, settings, jobs, job, connect, no_wait=no_wait, no_intake=no_intake)


@app.command()
def resume(
    pull: PullArgument,
    no_wait: NoWaitOption = False,
    no_intake: NoIntakeOption = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Go on with a pull that ended early, and try again what was incomplete.

    Example: wardgate-node pull resume 20261125-a1b2c3
    """
    from node.config import load_settings
    from node.pull.jobs import Jobs

    node = existing_home(home)
    settings = load_settings(node)
    with Jobs(node) as jobs:
        job = jobs.get(pull)
        with _connection(settings, job.archive) as connect, jobs.alone(job.archive):
            jobs.step(pull, "resumed")
            _work(node, settings, jobs, job, connect, no_wait=no_wait, no_intake=no_intake)


@app.command("list")
def list_pulls(home: HomeOption = DEFAULT_HOME) -> None:
    """List the pulls of the last 30 days, newest first.

    Example: wardgate-node pull list
    """
    from node.pull.jobs import Jobs
    from node.pull.states import StudyState

    with Jobs(existing_home(home)) as jobs:
        for job in jobs.all():
            counts = jobs.counts(job.id)
            done = counts.studies[StudyState.COMPLETE]
            typer.echo(
                f"{job.id}  {job.archive}  {job.state}  {done}/{counts.studies.total()} studies"
            )


@app.command()
def status(
    pull: PullArgument,
    not_found_to: Annotated[
        Path | None,
        typer.Option(help="Write the numbers that the archive had nothing for to a new file."),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Show a pull by outcome.

    Example: wardgate-node pull status 20261125-a1b2c3
    """
    from node.pull.jobs import Jobs

    with Jobs(existing_home(home)) as jobs:
        job = jobs.get(pull)
        for line in _lines(job, jobs.counts(pull)):
            typer.echo(line)
        if not_found_to is not None:
            numbers = [q.accession_number or q.patient_id for q in jobs.unmatched(pull)]
            text = "".join(f"{number}\n" for number in numbers if number)
            write_new(not_found_to, text.encode())
            typer.echo(f"{not_found_to} names patients' examinations; delete it when it is read.")


@app.command()
def forget(pull: PullArgument, home: HomeOption = DEFAULT_HOME) -> None:
    """Delete what is kept about a pull. What it fetched stays.

    Example: wardgate-node pull forget 20261125-a1b2c3
    """
    from node.pull.jobs import Jobs

    with Jobs(existing_home(home)) as jobs:
        job = jobs.get(pull)
        with jobs.alone(job.archive):
            jobs.forget(pull)
    typer.echo(f"Pull {pull} is forgotten.")


# ---- what is asked -------------------------------------------------------------------------------


def _question(**criteria: str | date | None) -> Question:
    from pydantic import ValidationError

    from node.pull.question import Question

    try:
        return Question.model_validate(criteria)
    except ValidationError as error:
        place = error.errors()[0]["loc"]
        if not place:
            raise UsageError("--from is after --to.") from None
        option = {"first_date": "from", "last_date": "to"}.get(str(place[0]), str(place[0]))
        raise UsageError(f"--{option.replace('_', '-')} isn't what DICOM allows there.") from None


def _day(text: str, option: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise UsageError(f"{option} is a day written as 2026-01-31.") from None


def _numbers(
    filters: Question, accessions: str | None, patients: str | None
) -> tuple[list[Question], int]:
    from node.pull.question import read_numbers

    if accessions == "-" and patients == "-":
        raise UsageError("Only one list can come from standard input.")
    questions: list[Question] = []
    unfit = 0
    for source, key, longest in (
        (accessions, "accession_number", 16),
        (patients, "patient_id", 64),
    ):
        if source is not None:
            numbers, bad = read_numbers(_list(source), longest)
            questions += [filters.model_copy(update={key: number}) for number in numbers]
            unfit += bad
    return questions, unfit


def _list(source: str) -> bytes:
    from node.pull.question import MAX_LIST_BYTES

    if source == "-":
        return sys.stdin.buffer.read(MAX_LIST_BYTES + 1)
    return read_bounded(Path(source), MAX_LIST_BYTES)


# ---- the archive ---------------------------------------------------------------------------------


def _declared(settings: NodeSettings, name: str) -> ArchiveSettings:
    found = settings.pull.archives.get(name)
    if found is None:
        known = ", ".join(sorted(settings.pull.archives)) or "none"
        raise NotFound(f"node.toml declares no archive {name!r}; it declares: {known}.")
    return found


@contextmanager
def _connection(
    settings: NodeSettings, name: str, *, listening: bool = True
) -> Iterator[Callable[[], Archive]]:
    """Open what all connections to the archive share, and yield how to make one."""
    from node.pull.dicomweb import DicomwebClient
    from node.pull.dimse import DimseArchive
    from node.pull.listener import Listener
    from node.pull.settings import DicomArchive

    archive, pull = _declared(settings, name), settings.pull
    if not isinstance(archive, DicomArchive):
        yield lambda: DicomwebClient(archive, pull.timeout_seconds)
        return
    with ExitStack() as stack:
        listener = None
        if archive.retrieve == "move" and listening:
            listener = stack.enter_context(
                Listener(archive, pull.timeout_seconds, pull.largest_instance_bytes)
            )
        yield lambda: DimseArchive(archive, pull.timeout_seconds, listener)


# ---- the work ------------------------------------------------------------------------------------


@contextmanager
def _new_only(jobs: Jobs, job: JobRow) -> Iterator[None]:
    """Forget a new pull that ended before it found anything."""
    try:
        yield
    except (WardgateError, KeyboardInterrupt) as error:
        refused = isinstance(error, UsageError)
        if refused or not jobs.counts(job.id).studies:
            jobs.forget(job.id)
        raise


def _work(
    node: NodeHome,
    settings: NodeSettings,
    jobs: Jobs,
    job: JobRow,
    connect: Callable[[], Archive],
    *,
    no_wait: bool,
    no_intake: bool,
) -> None:
    from node.intake.landing import Landing
    from node.pull.states import StudyState

    landing = Landing(node)
    with catalogue(node) as catalog, _terminable():
        run = _run(node, settings, jobs, job, connect, landing, catalog, no_wait=no_wait)
        line = _Line(job)
        run.find(lambda asked: line.say(f"asked {asked}"))
        counts = jobs.counts(job.id)
        line.clear()
        typer.echo(f"Pull {job.id}: {counts.studies.total()} studies found.")
        behind = _Behind(lambda: None if no_intake else _take_in(node, catalog, job, line))

        def meanwhile() -> None:
            line.progress(run.progress)
            behind()

        try:
            run.fetch(meanwhile)
        except StorageError:
            raise
        except WardgateError:
            line.clear()
            behind.now()
            _summary(jobs, job)
            raise
        except KeyboardInterrupt:
            line.clear()
            typer.echo(f"Broken off; `pull resume {job.id}` goes on.", err=True)
            raise
        line.clear()
        behind.now()
        counts = _summary(jobs, job)
    if counts.studies[StudyState.INCOMPLETE]:
        raise Unavailable(
            f"{counts.studies[StudyState.INCOMPLETE]} studies are incomplete; "
            f"`pull resume {job.id}` tries them again."
        )


def _run(
    node: NodeHome,
    settings: NodeSettings,
    jobs: Jobs,
    job: JobRow,
    connect: Callable[[], Archive],
    landing: Landing,
    catalog: Catalog,
    *,
    no_wait: bool,
) -> Run:
    from node.pull.held import held_here
    from node.pull.hours import Hours, time_zone
    from node.pull.reception import Storage
    from node.pull.run import Pace, Run
    from node.pull.throttle import Pauses

    pull = settings.pull
    pace = Pace(
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
    storage = Storage(
        arrival=lambda uid: landing.writer("pull", uid),
        held=held_here(node, landing, catalog),
        room=lambda: shutil.disk_usage(landing.folder).free >= settings.receive.keep_free_bytes,
    )
    return Run(jobs, job.id, connect, storage, pace)


def _take_in(node: NodeHome, catalog: Catalog, job: JobRow, line: _Line) -> None:
    line.say("waits in the landing")


class _Behind:
    """Calls ``work`` every half minute."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._at = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._at >= INTAKE_EVERY_SECONDS:
            self.now()

    def now(self) -> None:
        """Do it now."""
        self._work()
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


# ---- what is shown -------------------------------------------------------------------------------


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


def _summary(jobs: Jobs, job: JobRow) -> Counts:
    counts = jobs.counts(job.id)
    for line in _lines(jobs.get(job.id), counts):
        typer.echo(line)
    return counts


def _lines(job: JobRow, counts: Counts) -> Sequence[str]:
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
