"""``quarantine``: look at what could not be made safe, and delete it."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from contract.errors import AlreadyExists, NotFound
from foundation import commands
from foundation.files import SECRET_MODE, storage_errors
from node.commands.options import DEFAULT_HOME, HomeOption, catalogue, existing_home
from node.home import NodeHome

if TYPE_CHECKING:
    from node.catalog.store import Catalog
    from node.config import ReceiveSettings
    from node.intake.quarantine import Held, Quarantine

app = commands.application("What could not be made safe: for the hospital's own eyes.")

NumberArgument = Annotated[
    str, typer.Argument(help="The file's number in `quarantine list`, or its beginning.")
]


def _open(home: Path) -> tuple[NodeHome, ReceiveSettings, Quarantine]:
    from node.config import load_settings
    from node.intake.account import enter
    from node.intake.quarantine import Quarantine

    place = existing_home(home)
    settings = load_settings(place)
    enter(place, settings.account)
    return place, settings.receive, Quarantine(place)


@app.command("list")
def list_files(home: HomeOption = DEFAULT_HOME) -> None:
    """List what is in quarantine: number, reason, date and size, never a name.

    Example: wardgate-node quarantine list
    """
    place, settings, quarantine = _open(home)
    if not (files := quarantine.held()):
        print("nothing is in quarantine")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for header in ("number", "reason", "since", "bytes", "kept until"):
        # Nothing is cut off: `quarantine show` takes the number.
        table.add_column(header, no_wrap=True, overflow="ignore")
    with catalogue(place) as catalog:
        for held in files:
            until = held.since + timedelta(days=settings.quarantine_days)
            table.add_row(
                held.source_digest[:12],
                _reason(catalog, held),
                f"{held.since:%F}",
                f"{held.size_bytes:,}",
                f"{until:%F}",
            )
    Console(markup=False).print(table)


@app.command("show")
def show(number: NumberArgument, home: HomeOption = DEFAULT_HOME) -> None:
    """Say what is known about one file.

    Example: wardgate-node quarantine show 5f0c1a
    """
    place, settings, quarantine = _open(home)
    held = quarantine.find(number)
    until = held.since + timedelta(days=settings.quarantine_days)
    with catalogue(place) as catalog:
        rows = {
            "number": held.source_digest,
            "reason": _reason(catalog, held),
            "since": f"{held.since:%F %H:%M:%S} UTC",
            "bytes": str(held.size_bytes),
            "kept until": f"{until:%F %H:%M} UTC",
        }
    for name, value in rows.items():
        print(f"{name:<13}  {value}")


@app.command("open")
def open_file(
    number: NumberArgument,
    target: Annotated[Path, typer.Argument(help="The new file; only its owner can read it.")],
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Write one file out, as it came: identified data, mode 0600. Delete it when you are done.

    Example: wardgate-node quarantine open 5f0c1a /root/look.dcm
    """
    from node.config import load_settings
    from node.intake.account import enter
    from node.intake.quarantine import Quarantine

    place = existing_home(home)
    # Opened before root is given up: the file is the one's who asked.
    with storage_errors(target):
        try:
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, SECRET_MODE)
        except FileExistsError:
            raise AlreadyExists(f"{target} exists already and is not overwritten.") from None
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"The folder of {target} does not exist; make it first.") from None
        try:
            with os.fdopen(descriptor, "wb") as file:
                enter(place, load_settings(place).account)
                quarantine = Quarantine(place)
                held = quarantine.find(number)
                for piece in quarantine.open(held.source_digest):
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            with suppress(OSError):
                target.unlink()
            raise
    print(f"{held.size_bytes} bytes of identified data are in {target}; delete it after use")


@app.command("purge")
def purge(
    days: Annotated[
        float | None,
        typer.Option(min=0.0, help="Older than this, instead of [receive] quarantine_days."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how many; delete nothing.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Delete what has been in quarantine, or waited in the landing, for too long.

    Example: wardgate-node quarantine purge --dry-run
    """
    from node.intake.landing import Landing

    place, settings, quarantine = _open(home)
    now = datetime.now(UTC)
    kept = timedelta(days=settings.quarantine_days if days is None else days)
    waited = timedelta(hours=settings.landing_hours)
    landing = Landing(place)
    if dry_run:
        old = sum(1 for held in quarantine.held() if held.since < now - kept)
        late = sum(1 for entry in landing.entries() if entry.arrived_at < now - waited)
        print(f"{old} files in quarantine and {late} in the landing would be deleted")
        return
    old = quarantine.purge(now, kept)
    late = landing.purge(now, waited)
    print(f"{old} files in quarantine deleted")
    if late:
        print(f"{late} arrivals that were never de-identified deleted from the landing")


def _reason(catalog: Catalog, held: Held) -> str:
    row = catalog.known(held.source_digest)
    return row.reason if row is not None else "not known"
