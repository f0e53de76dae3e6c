"""``wardgate-node deid``: de-identify files, without a catalogue or a federation."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Annotated

import typer

from foundation.commands import application
from node.commands.ingest import ProfileOption

app = application("De-identify files, without a catalogue or a federation.")


@app.callback()
def _deid() -> None:
    """Keep ``run`` a command of its own, though it is the only one."""


@app.command()
def run(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A folder or file.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="A folder that is new or empty.")],
    profile: ProfileOption = "basic",
    key_file: Annotated[
        Path | None,
        typer.Option(
            help="32 secret bytes under which pseudonyms are made. Without it, a key is made for "
            "this run and forgotten, so that nobody can make the same pseudonyms again."
        ),
    ] = None,
) -> None:
    """Write de-identified copies (PS3.15 Annex E) of IN to OUT, and a report by outcome.

    The copies are OUT/SUBJECT/STUDY/SERIES/INSTANCE.dcm; the report is OUT/report.json.

    Example: wardgate-node deid run /data/pacs /data/clean --profile longitudinal
    """
    from foundation.files import write_durably
    from node.deid.engine import Deidentifier
    from node.deid.profile import load_profile
    from node.deid.pseudonyms import KEY_BYTES, Pseudonyms, load_key
    from node.intake.export import export

    key = secrets.token_bytes(KEY_BYTES) if key_file is None else load_key(key_file, create=False)
    deidentifier = Deidentifier(load_profile(profile), Pseudonyms(key))
    report = export([source], target, deidentifier)
    write_durably(target / "report.json", json.dumps(report, indent=1).encode())
    width = len(str(max(report["outcomes"].values(), default=0)))
    for outcome, count in report["outcomes"].items():
        typer.echo(f"{count:>{width}}  {outcome}")
