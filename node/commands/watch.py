"""``wardgate-node watch``: take in what is put into a folder."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contract.errors import DataError, NotFound
from node.commands.ingest import (
    ManifestOption,
    ProfileOption,
    WorkersOption,
    command_deidentifier,
    command_pseudonyms,
)
from node.commands.options import DEFAULT_HOME, HomeOption, catalogue, intake_home

if TYPE_CHECKING:
    from node.intake.manifest import Manifest
    from node.intake.register import Settled
    from node.intake.run import Intake


class After(StrEnum):
    """What becomes of a file that was taken in."""

    keep = "keep"
    delete = "delete"


def watch(
    folder: Annotated[Path, typer.Argument(help="The folder; folders in it are watched too.")],
    manifest: ManifestOption = None,
    then: Annotated[
        After,
        typer.Option(help="What becomes of a file once the vault has it. Quarantined ones stay."),
    ] = After.keep,
    once: Annotated[
        bool, typer.Option("--once", help="End when everything that is there was taken in.")
    ] = False,
    profile: ProfileOption = "",
    workers: WorkersOption = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Take in what is put into FOLDER, until stopped (SIGTERM, Ctrl-C).

    A file is taken in when it has stayed the same for a while ([intake] settle_seconds) and nobody
    has it open for writing. The manifest is read anew when it changes.

    Example: wardgate-node watch /srv/dropbox

    Example: wardgate-node watch /srv/dropbox --then delete --manifest /srv/manifest.csv
    """
    from node.config import load_settings
    from node.intake.crew import open_crew
    from node.intake.run import Intake, check_paths
    from node.intake.watching import Watch

    if not folder.is_dir():
        raise NotFound(f"{folder} is not a folder.")
    node = intake_home(home)
    check_paths([folder], node)
    stop = _stopping()
    with catalogue(node, create=True) as catalog:
        settings = load_settings(node).intake
        pseudonyms = command_pseudonyms(node, catalog, settings)
        deidentifier = command_deidentifier(settings, pseudonyms, profile)

        with open_crew(settings, deidentifier, workers) as crew:

            def intake(settled: Callable[[Settled], None], journal: bool) -> Intake:
                return Intake(
                    node,
                    catalog,
                    deidentifier,
                    lambda: datetime.now(UTC),
                    crew=crew,
                    faces=settings.faces,
                    key=settings.pseudonym_key,
                    journal=journal,
                    stop=stop.is_set,
                    settled=settled,
                )

            with Watch(
                folder,
                intake,
                settle_seconds=settings.settle_seconds,
                then=then.value,
                manifest=_manifest(manifest),
            ) as watching:
                while not stop.is_set():
                    started = time.monotonic()
                    watching.look(started)
                    if once and not watching.waiting:
                        break
                    # A large folder takes long to look at; it isn't looked at all the time.
                    took = time.monotonic() - started
                    stop.wait(max(settings.look_seconds, 5 * took if not watching.waiting else 0))
                lines = watching.report.lines()
    for line in lines:
        typer.echo(line)


def _stopping() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _manifest(path: Path | None) -> Callable[[], Manifest]:
    """Return what gives the manifest as it is now; a broken one leaves the last good one."""
    from node.intake.journal import identity
    from node.intake.manifest import Manifest, read_manifest

    if path is None:
        return lambda: Manifest({})
    last = read_manifest(path)
    state = identity(path.stat())

    def now() -> Manifest:
        nonlocal last, state
        with suppress(OSError):
            current = identity(path.stat())
            if current != state:
                state = current
                try:
                    last = read_manifest(path)
                except (DataError, NotFound) as error:
                    typer.echo(f"{error} The manifest as it was before is used.", err=True)
        return last

    return now
