"""``wardgate-node deid``: de-identify files, look at what it does, and search for what is left."""

from __future__ import annotations

import json
import secrets
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contract.errors import DataError, NotFound, UsageError
from foundation.commands import application

if TYPE_CHECKING:
    from node.deid.engine import Deidentifier
    from node.deid.export.export import Export

app = application("De-identify files, without a catalogue or a federation.")


class Language(StrEnum):
    """Of a page."""

    en = "en"
    zh = "zh-Hans"


class Pixels(StrEnum):
    """What is done about text in pixels."""

    off = "off"
    rules = "rules"
    ocr = "ocr"


ProfileOption = Annotated[
    str,
    typer.Option("--profile", help="basic, longitudinal, research, or a profile's TOML file."),
]
KeyOption = Annotated[
    str,
    typer.Option(
        "--key-file",
        metavar="FILE|URI",
        help="The secret under which pseudonyms are made: a file of 32 bytes, or a pkcs11: URI. "
        "Without it, one is made for this run and forgotten, so that nobody can make the same "
        "pseudonyms again.",
    ),
]
ListsOption = Annotated[
    Path | None,
    typer.Option(help="The hospital's own names, institutions and numbers (TOML), to be found."),
]
PixelsOption = Annotated[
    Pixels | None,
    typer.Option(help="Text in pixels, instead of what the profile says.", show_default=False),
]


@app.command()
def run(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A folder or file.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="A folder that is new or empty.")],
    profile: ProfileOption = "research",
    key_file: KeyOption = "",
    lists: ListsOption = None,
    pixels: PixelsOption = None,
    workers: Annotated[
        int,
        typer.Option(
            min=0, max=1024, help="Processes; 0: one for each core, or one for few files."
        ),
    ] = 0,
    paths: Annotated[
        Path | None,
        typer.Option(
            help="Also write which source each position of the report is (JSON, mode 0600, "
            "outside OUT). It holds identifiers."
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with a run that was killed; needs its --key-file."),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with code 9 when a file was left out.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would become of each file; write nothing.")
    ] = False,
) -> None:
    """Write de-identified copies (DICOM PS3.15 Annex E) of IN to OUT, and OUT/report.json.

    Every file gets an outcome: written, or left out for a reason. Names are replaced; OUT is laid
    out as SUBJECT/STUDY/SERIES/INSTANCE, fit for a DICOMDIR.

    Example: wardgate-node deid run /data/pacs /data/clean --profile longitudinal

    Example: wardgate-node deid run IN OUT --key-file node.key --workers 8 --paths positions.json
    """
    from node.commands.progress import Progress
    from node.deid.export.export import export

    _check_paths(paths, target, dry_run)
    if resume and not key_file:
        raise UsageError("--resume needs the --key-file of the run that was killed.")
    deidentifier = _deidentifier(profile, key_file, lists, pixels)
    progress = Progress()
    try:
        result = export(
            source,
            target,
            deidentifier,
            workers=workers,
            resume=resume,
            dry_run=dry_run,
            observe=progress,
        )
    finally:
        progress.end()
    if not dry_run:
        _write_report(result, deidentifier, target, paths)
    else:
        typer.echo("Nothing was written; this would become of the files:")
    width = len(str(max(result.outcomes.values(), default=0)))
    for outcome, count in result.outcomes.items():
        typer.echo(f"{count:>{width}}  {outcome}")
    if strict and result.left_out:
        raise DataError(f"{result.left_out} files were left out; the report says why.")


@app.command()
def preview(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A DICOM file.")],
    profile: ProfileOption = "research",
    key_file: KeyOption = "",
    lists: ListsOption = None,
    pixels: PixelsOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Show what is kept, too.")] = False,
    page: Annotated[
        Path | None,
        typer.Option("--html", metavar="OUT.html", help="Write a page with the frame (mode 0600)."),
    ] = None,
    lang: Annotated[Language, typer.Option(help="The page's language.")] = Language.en,
) -> None:
    """Show what would become of one file, element by element. This shows identifiers.

    Example: wardgate-node deid preview IM0001 --profile longitudinal

    Example: wardgate-node deid preview IM0001 --html preview.html --lang zh-Hans
    """
    from node.deid.preview.preview import preview as look

    if not file.is_file():
        raise NotFound("FILE does not exist or is no file.")
    deidentifier = _deidentifier(profile, key_file, lists, pixels)
    found = look(file, deidentifier, shows_frame=page is not None)
    if page is not None:
        from foundation.files import write_new
        from node.deid.preview.page import page as written
        from node.deid.preview.page import texts

        text = written(
            found.lines, found.pictures, deidentifier.profile.label, found.reason, texts(lang)
        )
        write_new(page, text.encode())
        typer.echo(f"{page} shows identifiers; delete it after use.")
    elif not found.reason:
        from node.deid.preview.table import table

        typer.echo("This shows identifiers. Keep it to yourself.", err=True)
        for line in table(found.lines, everything=everything):
            typer.echo(line)
    if found.reason:
        raise DataError(f"The file would be left out: {found.reason}.")


def _check_paths(paths: Path | None, target: Path, dry_run: bool) -> None:
    if paths is None:
        return
    if dry_run:
        raise UsageError("--dry-run writes nothing, so not --paths either.")
    place = paths.absolute().parent.resolve()
    if target.resolve() in (place, *place.parents):
        raise UsageError("--paths names identifiers; put it outside OUT.")


def _write_report(
    result: Export, deidentifier: Deidentifier, target: Path, paths: Path | None
) -> None:
    from foundation.files import write_durably

    report = result.report(deidentifier)
    write_durably(target / "report.json", json.dumps(report, indent=1).encode())
    if paths is not None:
        named = {row["position"]: result.tree.path(row["position"]) for row in result.rows}
        text = json.dumps(named, indent=1)
        write_durably(paths, text.encode())


def _deidentifier(
    profile: str, key: str, lists: Path | None, pixels: Pixels | None
) -> Deidentifier:
    from node.deid.engine import Deidentifier
    from node.deid.lists import Lists, load_lists
    from node.deid.profile import Profile, load_profile
    from node.deid.pseudonyms import KEY_BYTES, Pseudonyms

    chosen = load_profile(profile)
    if pixels is not None:
        options = chosen.settings.options.model_copy(update={"pixels": pixels.value})
        chosen = Profile(chosen.settings.model_copy(update={"options": options}))
    if key:
        from node.deid.tokens import open_pseudonyms

        pseudonyms = open_pseudonyms(key, ask_pin)
    else:
        pseudonyms = Pseudonyms(secrets.token_bytes(KEY_BYTES))
    return Deidentifier(chosen, pseudonyms, load_lists(lists) if lists else Lists())


def ask_pin(token: str) -> str:
    """Ask a person for a token's PIN."""
    pin: str = typer.prompt(f"PIN of the token {token}", hide_input=True, err=True)
    return pin
