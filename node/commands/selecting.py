"""The options by which a command is told a selection; a file can say more."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contract.errors import UsageError
from node.commands.options import keyed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from contract.dictionary import Variable
    from node.catalog.selection import Selection
    from node.home import NodeHome

WhereOption = Annotated[
    Path | None,
    typer.Option("--where", metavar="FILE", help="A selection, TOML or JSON; options add to it."),
]
TableOption = Annotated[str | None, typer.Option("--table", help="The table of the subjects.")]
KindOption = Annotated[
    list[str] | None,
    typer.Option("--kind", help="Assets of this kind: dicom, slide, photograph, volume, report."),
]
ModalityOption = Annotated[
    list[str] | None,
    typer.Option("--modality", help="Assets of this modality. May be given several times."),
]
BodyPartOption = Annotated[
    list[str] | None, typer.Option("--body-part", help="Assets of this part of the body.")
]
StainOption = Annotated[list[str] | None, typer.Option("--stain", help="Assets with this stain.")]
DeviceOption = Annotated[
    list[str] | None, typer.Option("--device", help="Assets from this model of device.")
]
FromOption = Annotated[
    datetime | None,
    typer.Option("--from", formats=["%Y-%m-%d"], help="Assets from this day on, as kept here."),
]
UntilOption = Annotated[
    datetime | None,
    typer.Option("--until", formats=["%Y-%m-%d"], help="Assets up to this day, as kept here."),
]
HasOption = Annotated[
    list[str] | None,
    typer.Option(
        "--has", metavar="SYSTEM|CODE", help="Subjects who have an observation with this code."
    ),
]
PurposeOption = Annotated[
    str | None, typer.Option("--purpose", help="Subjects whose consent for this is in force.")
]
AllAssetsOption = Annotated[bool, typer.Option("--all-assets", help="Every asset of the subjects.")]


def selection_of(
    where: Path | None,
    *,
    table: str | None = None,
    columns: list[str] | None = None,
    kind: list[str] | None = None,
    modality: list[str] | None = None,
    body_part: list[str] | None = None,
    stain: list[str] | None = None,
    device: list[str] | None = None,
    first: date | None = None,
    until: date | None = None,
    has: list[str] | None = None,
    purpose: str | None = None,
    all_assets: bool = False,
) -> Selection:
    """Return the file's selection with what the options add: all of it must hold."""
    from node.catalog.selection import Selection, both, parse_selection, read_selection

    base = Selection() if where is None else read_selection(where)
    lists = {
        "kind": kind,
        "modality": modality,
        "body_part": body_part,
        "stain": stain,
        "device_model": device,
    }
    asset: dict[str, Any] = {name: values for name, values in lists.items() if values}
    if first or until:
        asset["dated"] = {"from": first, "until": until}
    given: dict[str, Any] = {}
    if asset or all_assets:
        given["assets"] = asset
    subject: dict[str, Any] = {}
    if has:
        subject["all"] = [{"observation": {"code": [code]}} for code in has]
    if purpose is not None:
        subject["consent"] = {"purpose": [purpose]}
    if subject:
        given["subjects"] = subject
    added = parse_selection(given, "the command's options")
    if table is not None and base.table not in (None, table):
        raise UsageError("The file names another table than --table.")
    subjects = [one for one in (base.subjects, added.subjects) if one is not None]
    values = {
        "table": table or base.table,
        "columns": tuple(columns) if columns else base.columns,
        "assets": both(base.assets, added.assets),
        "observations": base.observations,
        "subjects": {"all": subjects} if len(subjects) == 2 else next(iter(subjects), None),
        "groups": base.groups,
    }
    return parse_selection(values, "the selection")


def day_of(given: datetime | None) -> date | None:
    """Return the day that an option names."""
    return None if given is None else given.date()


def days_for(
    home: NodeHome, selection: Selection, variables: Sequence[Variable] = ()
) -> Callable[[str], int] | None:
    """Return by how many days a subject's dates were moved, if a consent is asked for, be it by a
    variable that is derived.

    Only then is the node's key needed.
    """
    from node.catalog.deriving import Wanted
    from node.catalog.selection import asks_for_consent

    derived = Wanted(variables, selection.columns).asks_for_consent
    return keyed(home).days if derived or asks_for_consent(selection.subjects) else None
