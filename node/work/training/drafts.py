"""Drafts: what a recipe wrote about the hospital's own assets, for the hospital's own people.

Guarantee: a draft is in no reply. It comes out of the sandbox beside the reply, is written under
the node's home, and no code of the link reads there. Assumption: the reply itself is the gate's
matter; a recipe that sees a picture could write of it into a number either way.

A draft is named ``ASSET[-LABEL].SUFFIX``, by the digest of an asset of the release that the job is
of. A later one of the same name and job replaces it. Nothing is kept of a task that failed or whose
reply the gate refused: what was taken is noted before the gate decides and kept after, and after a
kill in between the next start does either.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Engine, delete, insert, select

from contract.errors import AlreadyExists, DocumentError, NotFound
from foundation.files import private_folder, storage_errors, write_durably
from node.catalog import schema
from node.catalog.manifest import ASSET_INDEX
from node.home import NodeHome
from node.work.training.draft_files import check_content, check_name

if TYPE_CHECKING:
    from node.gate.ledger import Ledger


NOTE_FILE = "drafts.next"


@dataclass(frozen=True)
class Draft:
    """One draft: whose file, of which asset, made by which job and recipe."""

    job: str
    name: str
    digest: str
    kind: str
    size_bytes: int
    asset: str
    release: str
    recipe: str
    made_at: datetime


@dataclass(frozen=True)
class Room:
    """How much a job may leave here."""

    bytes: int
    files: int


class Takes:
    """What one job leaves here: taken file by file while a task runs, kept once it is answered."""

    def __init__(
        self,
        engine: Engine,
        home: NodeHome,
        *,
        job: str,
        release: str,
        recipe: str,
        room: Room,
    ) -> None:
        self._engine = engine
        self._home = home
        self._job = job
        self._release = release
        self._recipe = recipe
        self._room = room
        self._assets: frozenset[str] | None = None
        self._kept: dict[str, int] | None = None
        self._taken: dict[str, tuple[str, str, int, str]] = {}
        self._note = home.jobs / job / NOTE_FILE

    @property
    def bytes_left(self) -> int:
        """How many bytes more may come."""
        return self._room.bytes - self._held()[0]

    def take(self, name: str, data: bytes) -> None:
        """Check a file and write it; it isn't a draft before ``keep``.

        Raises ``DocumentError`` for a name, an asset or a content that isn't fit, or too many.
        """
        asset, kind = check_name(name)
        if name in self._taken:  # its file would be left behind, and counted no more
            raise DocumentError("A task leaves two drafts of one name.")
        if self._assets is None:
            self._assets = _assets(self._home.release(self._release))
        if asset not in self._assets:
            raise DocumentError("A draft is of no asset of the release.")
        check_content(name, data)
        held_bytes, held_files = self._held(without=name)
        if held_bytes + len(data) > self._room.bytes or held_files + 1 > self._room.files:
            raise DocumentError("A job leaves more drafts than the policy allows.")
        digest = hashlib.sha256(data).hexdigest()
        place = path_of(self._home, self._job, digest)
        if not place.is_file():
            private_folder(private_folder(self._home.drafts) / self._job)
            write_durably(place, data, 0o600)
        self._taken[name] = (digest, kind, len(data), asset)

    def note(self, task: str) -> None:
        """Write down what was taken, before it is decided on what the task answers."""
        if self._taken:
            said = {"task": task, "taken": self._taken}
            write_durably(self._note, json.dumps(said).encode(), 0o600)

    def resume(self, answered: Callable[[str], bool], ledger: Ledger, now: datetime) -> None:
        """Keep what was noted before a kill, or drop it if its task wasn't ``answered``."""
        if not self._note.exists():
            return
        said = json.loads(self._note.read_bytes())
        self._taken = {name: tuple(known) for name, known in said["taken"].items()}
        if answered(said["task"]):
            self.keep(said["task"], ledger, now)
        else:
            self.drop()

    def keep(self, task: str, ledger: Ledger, now: datetime) -> int:
        """Make what was taken drafts, the entry `drafted` first; return how many."""
        taken, self._taken = self._taken, {}
        if not taken:
            return 0
        listing = "".join(f"{digest}  {name}\n" for name, (digest, *_) in sorted(taken.items()))
        ledger.append(
            "drafted",
            {
                "job": self._job,
                "task": task,
                "release": self._release,
                "recipe": self._recipe,
                "files": len(taken),
                "bytes": sum(size for _, _, size, _ in taken.values()),
                "listing": hashlib.sha256(listing.encode()).hexdigest(),
            },
            now,
        )
        table = schema.drafts
        rows = [
            {
                "job": self._job,
                "name": name,
                "digest": digest,
                "kind": kind,
                "size_bytes": size,
                "asset": asset,
                "release": self._release,
                "recipe": self._recipe,
                "made_at": now,
            }
            for name, (digest, kind, size, asset) in sorted(taken.items())
        ]
        replaced: set[str] = set()
        with self._engine.begin() as connection:
            for row in rows:
                same = (table.c.job == self._job, table.c.name == row["name"])
                replaced |= set(connection.execute(select(table.c.digest).where(*same)).scalars())
                connection.execute(delete(table).where(*same))
            connection.execute(insert(table), rows)
        self._kept = None
        self._note.unlink(missing_ok=True)
        _drop_unused(self._engine, self._home, self._job, replaced)
        return len(rows)

    def drop(self) -> None:
        """Forget what was taken since the last ``keep``.

        What ``keep`` could not keep stays noted: the next start does.
        """
        if not self._taken:
            return
        digests = {digest for digest, *_ in self._taken.values()}
        self._taken = {}
        self._note.unlink(missing_ok=True)
        _drop_unused(self._engine, self._home, self._job, digests)

    def _held(self, without: str = "") -> tuple[int, int]:
        """Return the bytes and the files of the job's drafts, those just taken too."""
        if self._kept is None:
            table = schema.drafts
            query = select(table.c.name, table.c.size_bytes).where(table.c.job == self._job)
            with self._engine.connect() as connection:
                self._kept = {row.name: row.size_bytes for row in connection.execute(query)}
        sizes = self._kept | {name: size for name, (_, _, size, _) in self._taken.items()}
        sizes.pop(without, None)
        return sum(sizes.values()), len(sizes)


def _assets(release: Path) -> frozenset[str]:
    import polars as pl

    index = release / ASSET_INDEX
    if not index.is_file():
        return frozenset()
    return frozenset(pl.read_parquet(index, columns=["digest"])["digest"])


def list_drafts(
    engine: Engine, *, job: str = "", release: str = "", asset: str = "", most: int | None = None
) -> list[Draft]:
    """Return drafts, oldest first, whose job, release and asset begin so."""
    table = schema.drafts
    begins = [
        column.startswith(value, autoescape=True)
        for column, value in (
            (table.c.job, job),
            (table.c.release, release),
            (table.c.asset, asset),
        )
        if value
    ]
    query = select(table).where(*begins).order_by(table.c.made_at, table.c.name).limit(most)
    with engine.connect() as connection:
        rows = connection.execute(query).mappings().all()
    return [
        Draft(**{**row, "made_at": row["made_at"].replace(tzinfo=row["made_at"].tzinfo or UTC)})
        for row in rows
    ]


def revoked(engine: Engine, drafts: Sequence[Draft]) -> frozenset[str]:
    """Return which of the drafts' releases are revoked."""
    table = schema.releases
    wanted = {draft.release for draft in drafts}
    query = select(table.c.digest).where(table.c.revoked_at.is_not(None))
    with engine.connect() as connection:
        return frozenset(connection.execute(query).scalars()) & wanted


def read_draft(home: NodeHome, draft: Draft) -> bytes:
    """Return a draft's bytes; ``DocumentError`` when they have changed, ``NotFound`` if gone."""
    try:
        data = path_of(home, draft.job, draft.digest).read_bytes()
    except FileNotFoundError:
        raise NotFound(f"The file of draft {draft.name[:16]} is not here any more.") from None
    if hashlib.sha256(data).hexdigest() != draft.digest:
        raise DocumentError(f"The file of draft {draft.name[:16]} was changed.")
    return data


def export(home: NodeHome, drafts: Iterable[Draft], target: Path) -> int:
    """Copy drafts into a new folder, one for each job below it; return how many files.

    Raises ``AlreadyExists`` when there is something at ``target``.
    """
    if target.exists():
        raise AlreadyExists(f"{target} exists already and is not written into.")
    building = target.with_name(f".{target.name}.new")
    count = 0
    with storage_errors(target):
        shutil.rmtree(building, ignore_errors=True)
        try:
            private_folder(building)
            for draft in drafts:
                place = private_folder(building / draft.job[:16]) / draft.name
                descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(read_draft(home, draft))
                count += 1
            building.rename(target)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return count


def discard(engine: Engine, home: NodeHome, drafts: Sequence[Draft]) -> int:
    """Delete drafts; return how many were still there."""
    table, count = schema.drafts, 0
    with engine.begin() as connection:
        for draft in drafts:
            same = (table.c.job == draft.job, table.c.name == draft.name)
            count += connection.execute(delete(table).where(*same)).rowcount
    for job in {draft.job for draft in drafts}:
        _drop_unused(engine, home, job, {draft.digest for draft in drafts if draft.job == job})
    return count


def sweep(engine: Engine, home: NodeHome, job: str) -> int:
    """Delete a job's files that are no draft, as a kill leaves behind; return how many.

    Only while the job is not at work: what was just taken is no draft yet.
    """
    folder, count = home.drafts / job, 0
    if not folder.is_dir():
        return 0
    query = select(schema.drafts.c.digest).where(schema.drafts.c.job == job)
    with engine.connect() as connection:
        used = set(connection.execute(query).scalars())
    for path in list(folder.iterdir()):
        if path.name not in used:
            path.unlink(missing_ok=True)
            count += 1
    if not used:
        with suppress(OSError):
            folder.rmdir()
    return count


def _drop_unused(engine: Engine, home: NodeHome, job: str, digests: set[str]) -> None:
    """Delete the files of a job that no draft of it names any more."""
    if not digests:
        return
    query = select(schema.drafts.c.digest).where(schema.drafts.c.job == job)
    with engine.connect() as connection:
        used = set(connection.execute(query).scalars())
    for digest in digests - used:
        path_of(home, job, digest).unlink(missing_ok=True)
    if not used and (home.drafts / job).is_dir():
        with suppress(OSError):
            (home.drafts / job).rmdir()


def path_of(home: NodeHome, job: str, digest: str) -> Path:
    """Return where a draft's bytes lie."""
    return home.drafts / job / digest
