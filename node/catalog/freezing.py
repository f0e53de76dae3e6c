"""What a release will hold, worked out from the vault before anything is written."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, and_, or_, select
from sqlalchemy.sql.selectable import Select

from contract.dictionary import Variable
from contract.errors import NotFound, UsageError
from node.catalog import schema
from node.catalog.cohorts import Cohorts, Meant, among, term_numbers
from node.catalog.declaring import DEFAULT_WISHES, Loss, Wishes
from node.catalog.deriving import Derived, Made, Wanted, derive_columns
from node.catalog.holding import look
from node.catalog.imaging import SubjectImages
from node.catalog.manifest import (
    ASSET_INDEX,
    COMPRESSION,
    GROUPS,
    MEMBERSHIP,
    OBSERVATIONS,
    SUBJECT,
    ReleaseColumn,
    ReleaseFile,
    ReleaseManifest,
)
from node.catalog.members import TableSubjects, table_frame
from node.catalog.membership import declare_table, encode
from node.catalog.numbering import batches
from node.catalog.rows import TableRow
from node.catalog.selection import FIRST, LAST, Ranges, Selection
from node.catalog.store import Catalog
from node.catalog.tallies import EPOCH
from node.catalog.withdrawals import CHANCE, Draw, Held, leave_out
from node.home import NodeHome
from node.intake.vault import Vault

if TYPE_CHECKING:
    import polars as pl

OMISSIONS = 10
"""How many others a withdrawal takes with it, unless the policy says more."""
_AT_ONCE = 20_000
INDEX_COLUMNS = (
    *("subject", "study_uid", "series_uid", "sop_instance_uid", "sop_class_uid", "kind"),
    *("modality", "body_part", "laterality", "manufacturer", "device_model", "stain"),
    *("magnification", "study_date", "rows", "columns", "frames", "size_bytes", "digest"),
    "suffix",
)


@dataclass(frozen=True)
class Plan:
    """What a release will hold, before anything is written."""

    manifest: ReleaseManifest
    parts: dict[str, bytes]
    """The files that are written, by path; the other files are the assets."""
    assets: pl.DataFrame | None
    """The index of the assets."""
    held: Held
    loss: Loss | None = None
    """What exact answers leave out; None of a release that can't be asked for any."""
    made: tuple[Made, ...] = ()
    """What became of the derived variables."""


def plan_release(
    catalog: Catalog,
    home: NodeHome,
    name: str,
    selection: Selection,
    *,
    today: date,
    days: Callable[[str], int] | None = None,
    omissions: int = OMISSIONS,
    draw: Draw = CHANCE,
    wishes: Wishes = DEFAULT_WISHES,
    variables: Sequence[Variable] = (),
    image_table: str = "images",
    observe: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Plan:
    """Return what a release of a selection would hold.

    ``wishes``: what it should be asked exactly (``node.catalog.declaring``). ``variables``: a
    dictionary's, of which the derived ones are made (``node.catalog.deriving``); a release of
    assets alone then has a table of this name with what is derived from them. ``observe`` is told
    how many "images" were read, "draws" imputed and "combinations" of variables counted.

    Whoever withdrew is left out; so are ``omissions`` others for each block of withdrawals
    (``node.catalog.withdrawals``). ``days`` returns by how many days a subject's dates were moved,
    which the periods of consents need. ``NotFound`` for a table, column or assets that aren't here.
    """
    if selection.table is None and selection.assets is None and selection.observations is None:
        raise UsageError("A release needs a table, assets or observations.")
    row: TableRow | None = None
    columns: tuple[ReleaseColumn, ...] = ()
    wanted = Wanted(variables, selection.columns)
    if selection.table is not None:
        row = catalog.get_table(selection.table)
        if row is None:
            raise NotFound(
                f"There is no table {selection.table!r}; `ingest` it with its schema first."
            )
        columns = _columns(row, wanted)
    tables = TableSubjects(catalog, home)
    tables.number(selection)
    with catalog.snapshot() as connection:
        cohorts = Cohorts(connection, today, days, tables)
        chosen = set(cohorts.names(cohorts.subjects(selection)).values())
        holdings = look(connection, cohorts, wanted.of_holdings)
        held = leave_out(connection, selection.population, chosen, omissions, draw)
        frozen = _Frozen(connection, cohorts, set(held.subjects))
        frame = None if row is None else _table(home, row, columns, frozen.subjects)
        assets = None
        if selection.assets is not None:
            assets = frozen.assets(cohorts.meant(selection.assets))
            if assets.is_empty():
                raise NotFound("There are no assets like these to release.")
        observations = None
        if selection.observations is not None:
            observations = frozen.observations(selection.observations)
        groups = None
        if selection.groups:
            groups = frozen.groups(assets, None if frame is None else row)
    derived: Derived | None = None
    table = selection.table
    if frame is None and assets is not None and wanted.needs_no_table:
        frame, table = assets.select(SUBJECT).unique().sort(SUBJECT), image_table
    if frame is not None:
        images = _images(home, assets, observe)
        derived = derive_columns(
            frame, columns, wanted, images, partial(observe, "draws"), holdings
        )
        frame, columns = derived.frame, derived.columns
        wishes = replace(wishes, kinship=derived.kinship, observe=partial(observe, "combinations"))
    parts: dict[str, bytes] = {}
    for path, part in (
        (f"tables/{table}.parquet", frame),
        (ASSET_INDEX, assets),
        (OBSERVATIONS, observations),
        (GROUPS, groups),
    ):
        if part is not None:
            parts[path] = _parquet(part)
    declared = None if frame is None else declare_table(frame, columns, wishes)
    if frame is not None and declared is not None:
        parts[MEMBERSHIP] = encode(declared, frame)
    subjects = _subjects(frame, assets, observations)
    manifest = ReleaseManifest(
        name=name,
        table=table,
        columns=columns,
        rows=0 if frame is None else frame.height,
        subjects=len(subjects),
        assets={} if assets is None else dict(sorted(Counter(assets["modality"]).items())),
        asset_bytes=0 if assets is None else int(assets["size_bytes"].sum()),
        observations=0 if observations is None else observations.height,
        groups=0 if groups is None else groups["group"].n_unique(),
        declaration=None if declared is None else declared.declaration,
        derived={} if derived is None else dict(derived.rules),
        files=tuple(
            ReleaseFile(path=path, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
            for path, data in sorted(parts.items())
        ),
    )
    loss = None if declared is None else declared.loss
    held = replace(held, subjects=subjects)
    return Plan(manifest, parts, assets, held, loss, () if derived is None else derived.made)


def _images(
    home: NodeHome, assets: pl.DataFrame | None, observe: Callable[[str, int, int], None]
) -> SubjectImages | None:
    if assets is None:
        return None
    return SubjectImages(assets, Vault(home).path, partial(observe, "images"))


def _subjects(*frames: pl.DataFrame | None) -> frozenset[str]:
    """Return whom the frames hold; a release with a table is of the table's subjects alone."""
    found: set[str] = set()
    for frame in frames:
        if frame is not None:
            found |= set(frame[SUBJECT].unique())
    return frozenset(found)


def _columns(row: TableRow, wanted: Wanted) -> tuple[ReleaseColumn, ...]:
    from node.intake.schema import TableSchema

    schema = TableSchema.model_validate(json.loads(row.schema_json))
    known = {column.variable: column for column in schema.kept}
    names = wanted.of_the_table(row.name, list(known))
    return tuple(
        ReleaseColumn.model_validate(
            {
                "name": name,
                "type": known[name].type,
                "unit": known[name].unit,
                "minimum": known[name].minimum,
                "maximum": known[name].maximum,
                "levels": known[name].levels,
            }
        )
        for name in names
    )


def _table(
    home: NodeHome, row: TableRow, columns: Sequence[ReleaseColumn], subjects: Collection[str]
) -> pl.DataFrame:
    import polars as pl

    names = [SUBJECT, *(column.name for column in columns)]
    frame = table_frame(home, row, names)
    # Sorted by every column: the order of the hospital's file must not make another release.
    wanted = pl.DataFrame({SUBJECT: sorted(subjects)}, schema={SUBJECT: pl.String})
    return frame.join(wanted, on=SUBJECT, how="semi").select(names).sort(names)


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression=COMPRESSION)
    return buffer.getvalue()


# ---- what is frozen of the subjects --------------------------------------------------------------


class _Frozen:
    """Assets, observations and groups of some subjects, as frames, from one snapshot."""

    def __init__(self, connection: Connection, cohorts: Cohorts, subjects: set[str]) -> None:
        self._connection = connection
        self._cohorts = cohorts
        self.subjects = subjects
        self._observed: set[tuple[str, str]] = set()
        """Whose observations are frozen, and from which sources."""

    def assets(self, meant: Meant) -> pl.DataFrame:
        """Return the index of the assets that are meant, in an order of their own."""
        import polars as pl

        types: dict[str, Any] = {
            **dict.fromkeys(INDEX_COLUMNS, pl.String),
            **dict.fromkeys(("rows", "columns", "frames", "size_bytes"), pl.Int64),
            "magnification": pl.Float64,
            "study_date": pl.Date,
        }
        columns = [schema.assets.c[name] for name in INDEX_COLUMNS]
        query = select(*columns).where(_meant_assets(self._connection, meant))
        frames = [pl.DataFrame(some, schema=types, orient="row") for some in self._stream(query)]
        whole = pl.concat(frames) if frames else pl.DataFrame(schema=types)
        return whole.sort("subject", "sop_instance_uid", "digest")

    def observations(self, codes: Sequence[str]) -> pl.DataFrame:
        """Return the observations with these codes, in an order of their own."""
        import polars as pl

        types: dict[str, Any] = {
            **dict.fromkeys(("subject", "system", "code"), pl.String),
            "number": pl.Float64,
            **dict.fromkeys(("value_system", "value", "unit"), pl.String),
            "time": pl.Datetime("us"),
        }
        table, sources = schema.observations, schema.sources
        term, value = schema.terms.alias("term"), schema.terms.alias("value")
        query = (
            select(
                schema.subjects.c.subject,
                term.c.system,
                term.c.code,
                table.c.value_number,
                value.c.system,
                value.c.code,
                table.c.unit,
                table.c.time,
                sources.c.name,
            )
            .join(schema.subjects, schema.subjects.c.number == table.c.subject)
            .join(sources, sources.c.number == table.c.source)
            .join(term, term.c.number == table.c.term)
            .join(value, value.c.number == table.c.value_term, isouter=True)
            .where(sources.c.current, table.c.term.in_(term_numbers(self._connection, codes)))
        )
        frames = []
        for some in self._stream(query):
            self._observed |= {(row[0], row[-1]) for row in some}
            rows = [
                (*row[:7], None if row[7] is None else _EPOCH + timedelta(seconds=row[7]))
                for row in some
            ]
            frames.append(pl.DataFrame(rows, schema=types, orient="row"))
        whole = pl.concat(frames) if frames else pl.DataFrame(schema=types)
        return whole.sort(*types)

    def groups(self, assets: pl.DataFrame | None, table: TableRow | None) -> pl.DataFrame | None:
        """Return the links of groups to what is frozen, or None without any."""
        import polars as pl

        digests = set() if assets is None else set(assets["digest"])
        groups, links = schema.groups, schema.group_links
        query = select(
            groups.c.subject,
            groups.c.name,
            groups.c.kind,
            links.c.role,
            links.c.kind,
            links.c.target,
        ).join(groups, groups.c.name == links.c.group)
        rows = [
            row
            for some in self._stream(query)
            for row in some
            if (row[4] == "asset" and row[5] in digests)
            or (row[4] == "observations" and (row[0], row[5]) in self._observed)
            or (row[4] == "table" and table is not None and row[5] == table.name)
        ]
        if not rows:
            return None
        names = ("subject", "group", "kind", "role", "target_kind", "target")
        types = dict.fromkeys(names, pl.String)
        return pl.DataFrame(rows, schema=types, orient="row").sort(*names)

    def _stream(self, query: Select[Any]) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the rows of our subjects, of whom the first column tells."""
        found = self._connection.execute(query.execution_options(yield_per=_AT_ONCE))
        for some in batches(found, _AT_ONCE):
            rows = [tuple(row) for row in some if row[0] in self.subjects]
            if rows:
                yield rows


_EPOCH = datetime(1970, 1, 1)


def _meant_assets(connection: Connection, meant: Meant) -> ColumnElement[bool]:
    table = schema.assets
    found = [among(connection, table.c.facet, sorted(meant.whole))]
    found += [
        and_(among(connection, table.c.facet, sorted(facets)), _on_days(ranges))
        for ranges, facets in meant.parts.items()
    ]
    return or_(*found)


def _on_days(ranges: Ranges) -> ColumnElement[bool]:
    column = schema.assets.c.study_date
    found: list[ColumnElement[bool]] = []
    for first, last in ranges:
        if first <= schema.UNDATED:
            found.append(column.is_(None))
        if last >= FIRST:
            start = date.fromordinal(max(first, FIRST) + EPOCH)
            found.append(column.between(start, date.fromordinal(min(last, LAST) + EPOCH)))
    return or_(*found)


def check_modalities(catalog: Catalog, modalities: Sequence[str]) -> None:
    """Raise ``NotFound`` for a modality of which there are no assets."""
    missing = sorted(set(modalities) - set(catalog.assets_by_modality()))
    if missing:
        raise NotFound(f"There are no assets of modality {missing[0]} to release.")
