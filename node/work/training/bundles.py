"""Approved recipes: Flower apps that a steward let in, each with everything that it imports.

A recipe is called by its bundle's SHA-256. Approving one checks the bundle, writes its files to
``recipes/DIGEST/app``, and settles its dependencies: what the node's own environment has is locked
by version, the rest is installed now, from wheels that the steward names, beside the recipe.
Nothing is downloaded, and nothing is installed when it runs.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, insert, select, update

from contract.errors import DocumentError, NotFound
from foundation.bundle import MAX_BUNDLE_BYTES, Bundle
from foundation.files import private_folder, read_bounded, sync_folder, write_durably
from node.catalog.schema import recipes
from node.home import NodeHome
from node.work.training.dependencies import Locked, Sources, check_environment, settle

BUNDLE = "bundle.fab"


@dataclass(frozen=True)
class ApprovedRecipe:
    """A recipe as approved: where it lies, what it is, and what it was locked to.

    ``folder`` holds ``bundle.fab``, ``app/`` and, if it brought packages, ``site-packages/``.
    """

    bundle_file: Bundle
    folder: Path
    lock: tuple[Locked, ...]
    packages_digest: str
    approved_at: datetime
    withdrawn_at: datetime | None = None

    @property
    def bundle(self) -> str:
        """The bundle's SHA-256, by which projects and jobs name it."""
        return self.bundle_file.digest

    @property
    def name(self) -> str:
        """``publisher/name``."""
        return self.bundle_file.name

    @property
    def version(self) -> str:
        """The version that its author gave it."""
        return self.bundle_file.version

    @property
    def client(self) -> str:
        """The ClientApp, as ``module:name``."""
        return self.bundle_file.client


def build_bundle(folder: Path) -> bytes:
    """Return the bundle of a Flower app's folder; the same files give the same bytes."""
    from foundation.flower import build

    return build(folder)


def read_source(source: Path) -> bytes:
    """Return the bundle in a ``.fab`` file, or that of a folder."""
    return build_bundle(source) if source.is_dir() else read_bounded(source, MAX_BUNDLE_BYTES)


def approve(
    engine: Engine, home: NodeHome, source: Path, sources: Sources, now: datetime
) -> ApprovedRecipe:
    """Check a bundle (or a Flower app's folder), settle its dependencies and take it in.

    Approving one again replaces its lock and ends a withdrawal. Raises ``DocumentError`` for a
    bundle that isn't sound or needs a package that is nowhere.
    """
    return approve_bytes(engine, home, read_source(source), sources, now)


def approve_bytes(
    engine: Engine, home: NodeHome, data: bytes, sources: Sources, now: datetime
) -> ApprovedRecipe:
    """As ``approve``, for a bundle that was read already."""
    bundle = Bundle.parse(data)
    with _new_folder(home, bundle.digest) as folder:
        lock = settle(bundle.dependencies, sources, folder / "site-packages")
        write_durably(folder / BUNDLE, data)
        bundle.write(folder / "app")
        packages = tree_digest(folder / "site-packages")
    recipe = ApprovedRecipe(bundle, _folder(home, bundle.digest), lock, packages, now)
    values = {
        "name": recipe.name,
        "version": recipe.version,
        "lock_json": json.dumps(
            {"packages": packages, "dependencies": [asdict(locked) for locked in lock]}
        ),
        "approved_at": now,
        "withdrawn_at": None,
    }
    with engine.begin() as connection:
        known = update(recipes).where(recipes.c.bundle == bundle.digest).values(values)
        if connection.execute(known).rowcount == 0:
            connection.execute(insert(recipes).values(bundle=bundle.digest, **values))
    return recipe


def withdraw(engine: Engine, bundle: str, now: datetime) -> None:
    """Let no new job run a recipe; ``NotFound`` when none is approved under this SHA-256."""
    open_ones = recipes.c.bundle == bundle, recipes.c.withdrawn_at.is_(None)
    with engine.begin() as connection:
        done = connection.execute(update(recipes).where(*open_ones).values(withdrawn_at=now))
    if done.rowcount == 0:
        raise NotFound(f"No approved recipe has the bundle {bundle}.")


def list_recipes(engine: Engine, home: NodeHome) -> list[ApprovedRecipe]:
    """Return every recipe, oldest first, withdrawn ones too; broken ones raise ``DocumentError``.

    Raises as ``find`` does.
    """
    with engine.connect() as connection:
        rows = connection.execute(select(recipes).order_by(recipes.c.approved_at)).mappings()
        return [_read(home, dict(row)) for row in rows]


def find(engine: Engine, home: NodeHome, bundle: str) -> ApprovedRecipe | None:
    """Return an approved recipe that isn't withdrawn, or None.

    Everything that would run is hashed again; ``DocumentError`` when a byte of it has changed.
    """
    with engine.connect() as connection:
        query = select(recipes).where(recipes.c.bundle == bundle)
        row = connection.execute(query).mappings().one_or_none()
    if row is None or row["withdrawn_at"] is not None:
        return None
    return _read(home, dict(row))


def _read(home: NodeHome, row: dict[str, Any]) -> ApprovedRecipe:
    folder = _folder(home, row["bundle"])
    bundle = Bundle.load(folder / BUNDLE)
    lock = json.loads(row["lock_json"])
    app = {name: hashlib.sha256(content).hexdigest() for name, content in bundle.files.items()}
    if (
        bundle.digest != row["bundle"]
        or _files(folder / "app") != app
        or tree_digest(folder / "site-packages") != lock["packages"]
    ):
        raise DocumentError(
            f"The files of recipe {row['name']} changed since it was approved; approve it again."
        )
    locked = tuple(Locked(**entry) for entry in lock["dependencies"])
    check_environment(row["name"], locked)
    return ApprovedRecipe(
        bundle_file=bundle,
        folder=folder,
        lock=locked,
        packages_digest=lock["packages"],
        approved_at=_utc(row["approved_at"]),
        withdrawn_at=_utc(row["withdrawn_at"]) if row["withdrawn_at"] else None,
    )


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _folder(home: NodeHome, bundle: str) -> Path:
    return home.recipes / bundle


@contextmanager
def _new_folder(home: NodeHome, bundle: str) -> Iterator[Path]:
    """Fill a folder beside the recipe's, and put it in its place when that went well."""
    new = private_folder(home.recipes) / f".{bundle}.new"
    shutil.rmtree(new, ignore_errors=True)
    private_folder(new)
    try:
        yield new
        place = _folder(home, bundle)
        shutil.rmtree(place, ignore_errors=True)
        new.replace(place)
        sync_folder(home.recipes)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file in a folder; a link counts as a file of its own."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = f"link to {path.readlink()}"
        elif not path.is_dir():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256")
            found[str(path.relative_to(folder))] = digest.hexdigest()
    return found


def tree_digest(folder: Path) -> str:
    """Return one SHA-256 over the names and contents of a folder; empty when there is none."""
    if not folder.is_dir():
        return ""
    lines = [f"{digest}  {name}\n" for name, digest in sorted(_files(folder).items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
