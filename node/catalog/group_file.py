"""Groups as a hospital writes them down: CSV or TOML, by its own numbers, files and instances.

CSV: the columns ``group``, ``kind``, ``number``, ``role``, ``target`` and ``identifier``, a line
for each link. TOML: ``[[groups]]`` with ``name``, ``kind``, ``number`` and ``links``, each of them
``{role = ..., file = ...}``. A target is ``instance``, ``series`` or ``study`` (the hospital's own
UID), ``file`` (a path, from the file's own folder), ``observations`` (a source) or ``table``.

The file is identified data: it is read and not kept. Messages name a group by its position.
"""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, StringConstraints, ValidationError

from contract.errors import DataError
from foundation.files import read_bounded
from foundation.settings import Settings
from node.catalog.groups import Group, Kind, Link
from node.catalog.store import Catalog
from node.deid.pseudonyms import Pseudonyms
from node.intake.whole import pieces

MAX_BYTES = 64 * 2**20
COLUMNS = ("group", "kind", "number", "role", "target", "identifier")
Named = Literal["instance", "series", "study", "file", "observations", "table"]
Text = Annotated[str, StringConstraints(min_length=1, max_length=1000, strip_whitespace=True)]


class NamedLink(Settings):
    """A link as the hospital names it: exactly one of the targets."""

    role: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9 _-]{0,63}$")]
    target: Named
    identifier: Text


class NamedGroup(Settings):
    """A group as the hospital names it."""

    name: Text
    kind: Kind
    number: Text
    links: Annotated[tuple[NamedLink, ...], Field(min_length=1)]


def read_groups(path: Path) -> list[NamedGroup]:
    """Return the groups of a file; ``DataError`` names the first bad one by its position."""
    text = read_bounded(path, MAX_BYTES)
    try:
        decoded = text.decode("utf-8-sig")
        raw = list(_of_toml(decoded) if path.suffix.lower() == ".toml" else _of_csv(decoded))
    except UnicodeDecodeError:
        raise DataError("The file of groups is not UTF-8.") from None
    except (tomllib.TOMLDecodeError, csv.Error, RecursionError):
        raise DataError("The file of groups is neither CSV nor TOML (*.toml).") from None
    found = []
    for position, values in enumerate(raw, 1):
        try:
            found.append(NamedGroup.model_validate(values))
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise DataError(f"Group {position} of the file has a bad {where or 'form'}.") from None
    if not found:
        raise DataError("The file holds no group.")
    if len({group.name for group in found}) < len(found):
        raise DataError("The file names a group twice.")
    return found


def resolve(
    groups: Sequence[NamedGroup],
    folder: Path,
    catalog: Catalog,
    pseudonyms: Pseudonyms,
    now: datetime,
) -> list[Group]:
    """Return the groups as the catalogue knows them.

    ``DataError`` counts the links that name nothing that is held.
    """
    found = []
    unknown = 0
    for group in groups:
        subject = pseudonyms.subject(group.number)
        links: set[Link] = set()
        for named in group.links:
            targets = _targets(named, subject, folder, catalog, pseudonyms)
            unknown += not targets
            links |= {Link(named.role, kind, target) for kind, target in targets}
        name = group_name(pseudonyms, subject, group.name)
        found.append(Group(name, group.kind, subject, tuple(sorted(links)), now))
    if unknown:
        raise DataError(
            f"{unknown} links are orphans: what they name is not here. Nothing was recorded."
        )
    return found


def group_name(pseudonyms: Pseudonyms, subject: str, label: str) -> str:
    """Return what a group is called here: keyed, since a hospital's label may identify."""
    return pseudonyms.source(b"group", subject.encode(), label.encode())[:32]


def _targets(
    named: NamedLink, subject: str, folder: Path, catalog: Catalog, pseudonyms: Pseudonyms
) -> list[tuple[Literal["asset", "observations", "table"], str]]:
    match named.target:
        case "observations" | "table":
            return [(named.target, named.identifier)]
        case "instance":
            digest = catalog.asset_of_instance(pseudonyms.uid(named.identifier))
            return [] if digest is None else [("asset", digest)]
        case "study" | "series":
            uid = pseudonyms.uid(named.identifier)
            rows = catalog.assets_of_study(uid, series=named.target == "series")
            return [("asset", row.digest) for row in rows]
        case "file":
            try:
                source = pseudonyms.source_of(pieces(folder / named.identifier))
            except OSError:
                return []
            known = catalog.known(source, subject)
            return [] if known is None or known.asset is None else [("asset", known.asset)]


def _of_toml(text: str) -> Iterator[Any]:
    values = tomllib.loads(text)
    groups = values.pop("groups", None)
    if values or not isinstance(groups, list):
        raise DataError("A TOML file of groups holds [[groups]] and nothing else.")
    for group in groups:
        if isinstance(group, dict) and isinstance(group.get("links"), list):
            group["links"] = [_split(link) for link in group["links"]]
        yield group


def _split(link: Any) -> Any:
    """Return ``{role, file}`` as ``{role, target, identifier}``."""
    if not isinstance(link, dict):
        return link
    targets = [name for name in get_args(Named) if name in link]
    if len(targets) != 1:
        return link
    rest = {key: value for key, value in link.items() if key != targets[0]}
    return {**rest, "target": targets[0], "identifier": link[targets[0]]}


def _of_csv(text: str) -> Iterator[Any]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    if sorted(name.strip() for name in reader.fieldnames or ()) != sorted(COLUMNS):
        raise DataError(f"A CSV file of groups has the columns {', '.join(COLUMNS)}.")
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for line in reader:
        if None in line or None in line.values():
            raise DataError(f"Line {reader.line_num} has another number of cells.")
        row = {key.strip(): value.strip() for key, value in line.items()}
        key = row["group"], row["number"]
        group = groups.setdefault(
            key, {"name": row["group"], "kind": row["kind"], "number": row["number"], "links": []}
        )
        if group["kind"] != row["kind"]:
            raise DataError(f"Line {reader.line_num} gives its group another kind.")
        group["links"].append({name: row[name] for name in ("role", "target", "identifier")})
    yield from groups.values()
