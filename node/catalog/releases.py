"""Frozen releases: made once from the vault, named by their content, never changed.

A release's folder is ``manifest.json``, ``tables/<table>.parquet``, ``observations.parquet``,
``groups.parquet``, ``membership.parquet`` (who is in which cell and set) and
``assets/<sha256><suffix>`` with ``assets.parquet`` as their index. Its files can be read by all,
because the sandboxed worker is another user, who sees that folder only; the folder above lets
nobody but the node in.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from contract.errors import DataError, NotFound, Unavailable
from foundation.files import (
    private_folder,
    read_bounded,
    storage_errors,
    sync_folder,
    write_durably,
)
from node.catalog.declaring import DEFAULT_WISHES, Wishes
from node.catalog.freezing import OMISSIONS, Plan, plan_release
from node.catalog.manifest import ASSET_INDEX, OBSERVATIONS, SUBJECT, ReleaseManifest
from node.catalog.rows import ReleaseRow
from node.catalog.selection import Selection
from node.catalog.store import Catalog
from node.catalog.withdrawals import CHANCE, Draw
from node.home import NodeHome

_FILE = 0o644
_FOLDER = 0o755
MIRAX = ".mrxs"
"""A slide whose further files lie in a folder of its name; its own file lists them."""
MAX_LISTING_BYTES = 4 * 2**20
_MEMBER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def create_release(
    catalog: Catalog,
    home: NodeHome,
    name: str,
    selection: Selection,
    *,
    now: datetime,
    days: Callable[[str], int] | None = None,
    omissions: int = OMISSIONS,
    draw: Draw = CHANCE,
    wishes: Wishes = DEFAULT_WISHES,
) -> ReleaseRow:
    """Freeze a release and register it; the same content again is the same release.

    The folder is built under another name and renamed, so a release is there whole or not at all.
    """
    plan = plan_release(
        catalog,
        home,
        name,
        selection,
        today=now.date(),
        days=days,
        omissions=omissions,
        draw=draw,
        wishes=wishes,
    )
    return write_release(catalog, home, plan, now=now)


def write_release(catalog: Catalog, home: NodeHome, plan: Plan, *, now: datetime) -> ReleaseRow:
    """Write what was planned, and register it.

    ``Unavailable`` when somebody withdrew since it was planned: then it isn't registered.
    """
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
    try:
        return catalog.add_release(digest, plan.manifest, now, plan.held)
    except Unavailable:
        shutil.rmtree(folder, ignore_errors=True)  # it may hold who withdrew
        raise


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
    expected: dict[str, tuple[str, int | None]] = {
        file.path: (file.sha256, file.size_bytes) for file in manifest.files
    }
    if ASSET_INDEX in expected and _is(folder / ASSET_INDEX, *expected[ASSET_INDEX]):
        expected |= _assets(folder)
    present = {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    } - {"manifest.json"}
    changed = sum(1 for path in present & set(expected) if not _is(folder / path, *expected[path]))
    absent, extra = len(set(expected) - present), len(present - set(expected))
    if changed or absent or extra:
        raise DataError(
            f"Release {digest[:16]} was changed: {changed} files differ, {absent} are missing, "
            f"{extra} are not in its manifest."
        )
    return manifest


def released_subjects(home: NodeHome, digest: str, manifest: ReleaseManifest) -> set[str] | None:
    """Return whom a release holds, from its files; None when these can't be read."""
    import polars as pl

    names = {manifest.table_path, ASSET_INDEX, OBSERVATIONS}
    found: set[str] = set()
    for file in manifest.files:
        if file.path in names:
            path = home.release(digest) / file.path
            try:
                if not _is(path, file.sha256, file.size_bytes):
                    return None
                found |= set(pl.read_parquet(path, columns=[SUBJECT])[SUBJECT].unique())
            except OSError:
                return None
    return found


def missing_counts(folder: Path, manifest: ReleaseManifest) -> dict[str, int]:
    """Return the number of rows without a value, by column. For the hospital's own eyes."""
    import polars as pl

    if manifest.table_path is None:
        return {}
    names = [column.name for column in manifest.columns]
    counts = pl.read_parquet(folder / manifest.table_path, columns=names).null_count()
    return {name: int(counts[name][0]) for name in names}


def _build(folder: Path, home: NodeHome, plan: Plan) -> None:
    inner = sorted({folder / path for path in ("assets", "tables")})
    for made in (folder, *inner):
        made.mkdir(mode=_FOLDER)
        made.chmod(_FOLDER)
    for path, data in {**plan.parts, "manifest.json": plan.manifest.to_bytes()}.items():
        write_durably(folder / path, data, _FILE)
        (folder / path).chmod(_FILE)
    if plan.assets is not None:
        for digest, suffix in plan.assets.select("digest", "suffix").iter_rows():
            source = home.vault / "assets" / digest[:2] / f"{digest}{suffix}"
            _link(source, folder / "assets" / source.name)
            if suffix == MIRAX:
                members = folder / "assets" / digest
                members.mkdir(mode=_FOLDER)
                members.chmod(_FOLDER)
                for name in _members(source):
                    _link(source.with_suffix("") / name, members / name)
                sync_folder(members)
    for made in (*inner, folder):
        sync_folder(made)


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except FileNotFoundError:
        raise DataError("An asset of the catalogue is not in the vault.") from None
    except OSError:
        shutil.copyfile(source, target)
    target.chmod(_FILE)  # a link shares its mode with the vault's file, whose folder is closed


def _assets(folder: Path) -> dict[str, tuple[str, int | None]]:
    """Return the assets that a release's index names: path, SHA-256, size if that is known."""
    import polars as pl

    found: dict[str, tuple[str, int | None]] = {}
    index = pl.read_parquet(folder / ASSET_INDEX)
    if "suffix" not in index.columns:
        return found  # format 1, whose manifest names them
    for digest, suffix, size in index.select("digest", "suffix", "size_bytes").iter_rows():
        path = f"assets/{digest}{suffix}"
        if suffix != MIRAX:
            found[path] = digest, size
            continue
        found[path] = digest, None  # the size is that of all its files
        if (folder / path).is_file() and _is(folder / path, digest, None):
            for name, member in _members(folder / path).items():
                found[f"assets/{digest}/{name}"] = member
    return found


def _members(slide: Path) -> dict[str, tuple[str, int | None]]:
    """Return the further files of a MIRAX slide, which its own file lists."""
    found: dict[str, tuple[str, int | None]] = {}
    try:
        for line in read_bounded(slide, MAX_LISTING_BYTES).decode().splitlines():
            digest, size, name = line.split(" ", 2)
            if not _MEMBER.fullmatch(name):
                raise ValueError
            found[name] = digest, int(size)
    except (ValueError, NotFound):
        raise DataError("A slide of the vault doesn't list its files.") from None
    return found


def _is(path: Path, sha256: str, size_bytes: int | None) -> bool:
    if path.is_symlink() or (size_bytes is not None and path.stat().st_size != size_bytes):
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256
