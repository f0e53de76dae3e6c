"""Frozen releases: made once from the vault, named by their content, never changed.

A release's folder is ``manifest.json``, ``tables/<table>.parquet`` and ``assets/<sha256>.dcm`` with
``assets.parquet`` as their index. Its files can be read by all, because the sandboxed worker is
another user, who sees that folder only; the folder above lets nobody but the node in.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import secrets
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from contract.errors import DataError, NotFound, UsageError
from foundation.files import private_folder, storage_errors, sync_folder, write_durably
from node.catalog.manifest import (
    ASSET_INDEX,
    SUBJECT,
    ReleaseColumn,
    ReleaseFile,
    ReleaseManifest,
)
from node.catalog.rows import AssetRow, ReleaseRow, TableRow
from node.catalog.store import Catalog
from node.home import NodeHome

if TYPE_CHECKING:
    import polars as pl

_FILE = 0o644
_FOLDER = 0o755
_INDEX_COLUMNS = (
    *("subject", "study_uid", "series_uid", "sop_instance_uid", "sop_class_uid", "modality"),
    *("body_part", "manufacturer", "rows", "columns", "frames", "size_bytes", "digest"),
)


@dataclass(frozen=True)
class Plan:
    """What a release will hold, before anything is written."""

    manifest: ReleaseManifest
    parts: dict[str, bytes]
    """The files that are written, by path; the other files are the assets."""
    assets: tuple[AssetRow, ...]


def plan_release(
    catalog: Catalog,
    home: NodeHome,
    name: str,
    table: str | None,
    *,
    columns: Sequence[str] | None = None,
    asset_filter: Sequence[str] = (),
) -> Plan:
    """Return what ``create_release`` would make.

    Assets are those of the modalities in ``asset_filter``, of the table's subjects if there is a
    table. ``NotFound`` for a table, column or modality that isn't here.
    """
    if table is None and not asset_filter:
        raise UsageError("A release needs a table or a modality.")
    parts: dict[str, bytes] = {}
    declared: tuple[ReleaseColumn, ...] = ()
    rows = 0
    subjects: set[str] = set()
    if table is not None:
        row = catalog.get_table(table)
        if row is None:
            raise NotFound(f"There is no table {table!r}; `ingest` it with its schema first.")
        declared = _columns(row, columns)
        frame = _table(home, row, declared)
        rows = frame.height
        subjects = set(frame[SUBJECT])
        parts[f"tables/{table}.parquet"] = _parquet(frame)
    elif columns:
        raise UsageError("Columns are those of a table; name the table too.")
    assets = tuple(
        asset
        for asset in (catalog.list_assets(asset_filter) if asset_filter else [])
        if table is None or asset.subject in subjects
    )
    missing = sorted(set(asset_filter) - {asset.modality for asset in assets})
    if missing:
        raise NotFound(f"There are no assets of modality {missing[0]} to release.")
    if assets:
        parts[ASSET_INDEX] = _index(assets)
    files = [
        ReleaseFile(path=path, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
        for path, data in parts.items()
    ] + [
        ReleaseFile(
            path=f"assets/{asset.digest}.dcm", sha256=asset.digest, size_bytes=asset.size_bytes
        )
        for asset in assets
    ]
    manifest = ReleaseManifest(
        name=name,
        table=table,
        columns=declared,
        rows=rows,
        subjects=len(subjects) if table is not None else len({a.subject for a in assets}),
        assets=dict(sorted(Counter(asset.modality for asset in assets).items())),
        files=tuple(sorted(files, key=lambda file: file.path)),
    )
    return Plan(manifest, parts, assets)


def create_release(
    catalog: Catalog,
    home: NodeHome,
    name: str,
    table: str | None,
    *,
    columns: Sequence[str] | None = None,
    asset_filter: Sequence[str] = (),
    now: datetime,
) -> ReleaseRow:
    """Freeze a release and register it; the same content again is the same release.

    The folder is built under another name and renamed, so a release is there whole or not at all.
    """
    plan = plan_release(catalog, home, name, table, columns=columns, asset_filter=asset_filter)
    return write_release(catalog, home, plan, now=now)


def write_release(catalog: Catalog, home: NodeHome, plan: Plan, *, now: datetime) -> ReleaseRow:
    """Write what was planned, and register it."""
    digest = plan.manifest.digest
    folder = home.release(digest)
    if not folder.is_dir():
        private_folder(home.releases)
        building = home.releases / f".building-{secrets.token_hex(8)}"
        with storage_errors(home.releases):
            try:
                _build(building, home, plan)
                with contextlib.suppress(FileExistsError):
                    building.rename(folder)
                sync_folder(home.releases)
            finally:
                shutil.rmtree(building, ignore_errors=True)
    verify_release(home, digest)
    return catalog.add_release(digest, plan.manifest, now)


def verify_release(home: NodeHome, digest: str) -> ReleaseManifest:
    """Hash every file of a release again; ``DataError`` says how many differ, if any.

    ``NotFound`` when the release's folder isn't there.
    """
    folder = home.release(digest)
    try:
        data = (folder / "manifest.json").read_bytes()
    except FileNotFoundError:
        raise NotFound(f"The files of release {digest[:16]} are not here.") from None
    if hashlib.sha256(data).hexdigest() != digest:
        raise DataError(f"Release {digest[:16]} was changed: its manifest differs.")
    manifest = ReleaseManifest.read(data)
    expected = {file.path: file for file in manifest.files}
    present = {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    } - {"manifest.json"}
    changed = sum(1 for path in present & set(expected) if not _is(folder / path, expected[path]))
    absent, extra = len(set(expected) - present), len(present - set(expected))
    if changed or absent or extra:
        raise DataError(
            f"Release {digest[:16]} was changed: {changed} files differ, {absent} are missing, "
            f"{extra} are not in its manifest."
        )
    return manifest


def missing_counts(folder: Path, manifest: ReleaseManifest) -> dict[str, int]:
    """Return the number of rows without a value, by column. For the hospital's own eyes."""
    import polars as pl

    if manifest.table_path is None:
        return {}
    names = [column.name for column in manifest.columns]
    counts = pl.read_parquet(folder / manifest.table_path, columns=names).null_count()
    return {name: int(counts[name][0]) for name in names}


def _columns(row: TableRow, wanted: Sequence[str] | None) -> tuple[ReleaseColumn, ...]:
    from node.intake.schema import TableSchema

    schema = TableSchema.model_validate(json.loads(row.schema_json))
    known = {column.variable: column for column in schema.kept}
    names = list(known) if wanted is None else list(dict.fromkeys(wanted))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise NotFound(f"Table {row.name!r} has no column {unknown[0]!r}.")
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


def _table(home: NodeHome, row: TableRow, columns: Sequence[ReleaseColumn]) -> pl.DataFrame:
    import polars as pl

    path = home.vault / "tables" / f"{row.digest}.parquet"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"Table {row.name!r} is not in the vault; `ingest` it again.") from None
    if hashlib.sha256(data).hexdigest() != row.digest:
        raise DataError(f"Table {row.name!r} was changed in the vault; `ingest` it again.")
    names = [SUBJECT, *(column.name for column in columns)]
    # Sorted by every column: the order of the hospital's file must not make another release.
    return pl.read_parquet(io.BytesIO(data), columns=names).select(names).sort(names)


def _index(assets: Sequence[AssetRow]) -> bytes:
    import polars as pl

    return _parquet(
        pl.DataFrame({name: [getattr(a, name) for a in assets] for name in _INDEX_COLUMNS})
    )


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def _build(folder: Path, home: NodeHome, plan: Plan) -> None:
    inner = sorted({folder / path for path in ("assets", "tables")})
    for made in (folder, *inner):
        made.mkdir(mode=_FOLDER)
        made.chmod(_FOLDER)
    for path, data in {**plan.parts, "manifest.json": plan.manifest.to_bytes()}.items():
        write_durably(folder / path, data, _FILE)
        (folder / path).chmod(_FILE)
    for asset in plan.assets:
        source = home.vault / "assets" / asset.digest[:2] / f"{asset.digest}.dcm"
        target = folder / "assets" / source.name
        try:
            target.hardlink_to(source)
        except FileNotFoundError:
            raise DataError("An asset of the catalogue is not in the vault.") from None
        except OSError:
            shutil.copyfile(source, target)
        target.chmod(_FILE)  # a link shares its mode with the vault's file, whose folder is closed
    for made in (*inner, folder):
        sync_folder(made)


def _is(path: Path, expected: ReleaseFile) -> bool:
    if path.is_symlink() or path.stat().st_size != expected.size_bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == expected.sha256
