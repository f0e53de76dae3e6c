"""``wardgate-node deid``: de-identify files, look at what it does, and search for what is left."""

from __future__ import annotations

import gc
import json
import secrets
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contract.errors import DataError, NotFound, UsageError
from foundation.commands import application
from node.commands.options import DEFAULT_HOME, HomeOption, existing_home, keyed

if TYPE_CHECKING:
    from node.deid.engine import Deidentifier
    from node.deid.export.export import Export
    from node.deid.pseudonyms import Pseudonyms

MOST_SHOWN = 50
"""Leaks that a terminal gets to see."""

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
    _check_paths(paths, target, dry_run)
    if resume and not key_file:
        raise UsageError("--resume needs the --key-file of the run that was killed.")
    # What is loaded now stays to the end; the collector would look at it over and over meanwhile.
    gc.disable()
    from node.commands.progress import Progress
    from node.deid.export.export import export

    deidentifier = _deidentifier(profile, key_file, lists, pixels)
    gc.enable()
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
    if paths is not None:
        _write_paths(result, paths)
    if dry_run:
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
        from foundation.files import SECRET_MODE, write_new
        from node.deid.preview.page import page as written
        from node.deid.preview.page import texts

        text = written(
            found.lines, found.pictures, deidentifier.profile.label, found.reason, texts(lang)
        )
        write_new(page, text.encode(), SECRET_MODE)
        typer.echo(f"{page} shows identifiers; delete it after use.")
    elif not found.reason:
        from node.deid.preview.table import table

        typer.echo("This shows identifiers. Keep it to yourself.", err=True)
        for line in table(found.lines, everything=everything):
            typer.echo(line)
    if found.reason:
        raise DataError(f"The file would be left out: {found.reason}.")


@app.command()
def audit(
    vault: Annotated[
        Path | None,
        typer.Option(help="A folder that `deid run` wrote, instead of the node's vault."),
    ] = None,
    source: Annotated[
        list[Path] | None,
        typer.Option(help="Originals whose identifiers are looked for; may be repeated."),
    ] = None,
    known: Annotated[
        list[Path] | None,
        typer.Option(
            help="Identifiers to look for: TOML as for --lists, or CSV with the columns name, "
            "number, institution, address, birth_date; may be repeated."
        ),
    ] = None,
    profile: ProfileOption = "research",
    key_file: KeyOption = "",
    pixels: Annotated[
        bool, typer.Option("--pixels", help="Read text in pixels, too (slow).")
    ] = False,
    workers: Annotated[int, typer.Option(min=0, max=1024, help="Processes; 0: by the cores.")] = 0,
    report: Annotated[
        Path | None, typer.Option(help="Write where leaks are (JSON, mode 0600).")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Search what was written for what identifies patients. Ends with 9 unless there is nothing.

    Without --vault, the node's vault, releases and catalogue are searched, for what is known from
    its landing folder and quarantine besides --source and --known. No value is shown, only where
    one is and of which kind.

    Example: wardgate-node deid audit --source /data/pacs

    Example: wardgate-node deid audit --vault /data/clean --source /data/pacs --key-file node.key
    """
    from node.commands.progress import Progress
    from node.deid.audit.audit import add_node, add_tree
    from node.deid.audit.audit import audit as search
    from node.deid.audit.identifiers import Identifiers, load_known
    from node.deid.profile import load_profile

    options = load_profile(profile).settings.options
    found = Identifiers()
    pseudonyms: Pseudonyms | None = None
    if vault is None:
        node = existing_home(home)
        pseudonyms = _pseudonyms(key_file) if key_file else keyed(node)
        database = sorted(node.root.glob(f"{node.database.name}*"))
        places = [place for place in (node.vault, node.releases) if place.exists()] + database
        add_node(found, node, options, pseudonyms)
    else:
        if not vault.is_dir():
            raise NotFound("The folder named by --vault does not exist.")
        pseudonyms = _pseudonyms(key_file) if key_file else None
        places = [vault]
    for path in source or ():
        add_tree(found, path, options, pseudonyms)
    for path in known or ():
        found.common |= load_known(path)
    if found.empty:
        raise UsageError("There is nothing to look for; name originals by --source or --known.")
    progress = Progress()
    try:
        result = search(places, found, pixels=pixels, workers=workers, observe=progress)
    finally:
        progress.end()
    if report is not None:
        from foundation.files import write_durably

        write_durably(report, json.dumps(result.report(), indent=1).encode())
    for row in result.leaks[:MOST_SHOWN]:
        typer.echo(f"{row['category']:14} {row['file']} {row['place']}")
    if len(result.leaks) > MOST_SHOWN:
        typer.echo(f"and {len(result.leaks) - MOST_SHOWN} more; --report writes all")
    typer.echo(f"{result.searched} files searched, {len(result.leaks)} leaks.")
    if result.leaks or result.unsearched:
        unread = f", {result.unsearched} files could not be searched" if result.unsearched else ""
        raise DataError(f"{len(result.leaks)} identifiers were found{unread}.")


def _check_paths(paths: Path | None, target: Path, dry_run: bool) -> None:
    if paths is None:
        return
    if dry_run:
        raise UsageError("--dry-run writes nothing, so not --paths either.")
    place = paths.absolute().parent.resolve()
    if target.resolve() in (place, *place.parents):
        raise UsageError("--paths names identifiers; put it outside OUT.")


def _write_paths(result: Export, path: Path) -> None:
    from foundation.files import SECRET_MODE, write_durably

    named = {row["position"]: result.tree.path(row["position"]) for row in result.rows}
    write_durably(path, json.dumps(named, indent=1).encode(), SECRET_MODE)


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
    pseudonyms = _pseudonyms(key) if key else Pseudonyms(secrets.token_bytes(KEY_BYTES))
    return Deidentifier(chosen, pseudonyms, load_lists(lists) if lists else Lists())


def _pseudonyms(key: str) -> Pseudonyms:
    from node.deid.tokens import open_pseudonyms

    return open_pseudonyms(key, ask_pin)


def ask_pin(token: str) -> str:
    """Ask a person for a token's PIN."""
    pin: str = typer.prompt(f"PIN of the token {token}", hide_input=True, err=True)
    return pin
