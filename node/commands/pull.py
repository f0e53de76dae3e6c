"""``wardgate-node pull``: fetch from the hospital's own archives."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contract.errors import NotFound, UsageError, WardgateError
from foundation import commands
from foundation.files import read_bounded, write_new
from node.commands.options import DEFAULT_HOME, HomeOption, existing_home
from node.home import NodeHome

if TYPE_CHECKING:
    from node.config import NodeSettings
    from node.pull.archive import Archive
    from node.pull.jobs import JobRow, Jobs
    from node.pull.question import Question
    from node.pull.settings import ArchiveSettings

app = commands.application("Fetch from the hospital's archive: throttled, in hours, resumable.")
archives = commands.application("The archives that node.toml declares.")
app.add_typer(archives, name="archive")

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

    settings = load_settings(existing_home(home))
    for name, archive in sorted(settings.pull.archives.items()):
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
    _, settings = _node(home)
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
        str, typer.Option(help="De-identification profile: a name or a TOML file.")
    ] = "",
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
    from node.commands.pulling import work
    from node.pull.estimate import estimate
    from node.pull.jobs import Jobs

    node, settings = _node(home)
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
                work(node, settings, jobs, job, connect, no_wait=no_wait, no_intake=no_intake)


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
    from node.commands.pulling import work
    from node.pull.jobs import Jobs

    node, settings = _node(home)
    with Jobs(node) as jobs:
        job = jobs.get(pull)
        with _connection(settings, job.archive) as connect, jobs.alone(job.archive):
            jobs.step(pull, "resumed")
            work(node, settings, jobs, job, connect, no_wait=no_wait, no_intake=no_intake)


@app.command("list")
def list_pulls(home: HomeOption = DEFAULT_HOME) -> None:
    """List the pulls of the last 30 days, newest first.

    Example: wardgate-node pull list
    """
    from node.pull.jobs import Jobs
    from node.pull.states import StudyState

    with Jobs(_node(home)[0]) as jobs:
        found = jobs.all()
        for job in found:
            counts = jobs.counts(job.id)
            done = counts.studies[StudyState.COMPLETE]
            typer.echo(
                f"{job.id}  {job.archive}  {job.state}  {done}/{counts.studies.total()} studies"
            )
    if not found:
        typer.echo("No pulls in the last 30 days.")


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
    from node.commands.pulling import lines_of
    from node.pull.jobs import Jobs

    with Jobs(_node(home)[0]) as jobs:
        job = jobs.get(pull)
        for line in lines_of(job, jobs.counts(pull)):
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

    with Jobs(_node(home)[0]) as jobs:
        job = jobs.get(pull)
        with jobs.alone(job.archive):
            jobs.forget(pull)
    typer.echo(f"Pull {pull} is forgotten.")


def _node(home: Path) -> tuple[NodeHome, NodeSettings]:
    """Return the node and its settings, as the user under which data comes in."""
    from node.config import load_settings
    from node.intake.account import enter

    node = existing_home(home)
    settings = load_settings(node)
    enter(node, settings.account)
    return node, settings


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
