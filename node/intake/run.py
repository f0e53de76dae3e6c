"""Intake of folder trees: each file ends in the vault or in quarantine, and none is passed over.

Files are found here, done by workers and decided here again, in the order in which they were found,
so that the same tree has the same outcome however many work at it. What is under way is bounded. A
worker that dies takes no file with it: each that it may have had is tried once alone, and one that
kills a worker alone is put in quarantine. Messages and reports hold counts and positions, never a
name.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, wait
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

from contract.errors import Unavailable, UsageError, WardgateError
from foundation.files import private_folder
from node.catalog.consents import Consents
from node.catalog.store import Catalog
from node.deid.engine import Deidentifier
from node.deid.slides import members
from node.home import NodeHome
from node.intake.crew import Alone, Crew, Result
from node.intake.face_consents import FaceConsents
from node.intake.items import Faces, Item, Setup, Taken
from node.intake.journal import ASK, Journal, identity
from node.intake.looking import Looked, Patients, batches
from node.intake.manifest import Listed, Manifest
from node.intake.register import IntakeReport, Register, Settled
from node.intake.taking import KEY_CHECK, Taker
from node.intake.vault import Vault
from node.intake.walk import Found, walk

__all__ = ["Intake", "IntakeReport", "Settled", "ingest", "only_intake"]

BATCH = 256
"""Files between two commits."""
BATCH_SECONDS = 2.0
CHUNK_FILES = 16
"""Files that a worker gets at once."""
CHUNK_BYTES = 32 * 2**20
_FEWEST_AHEAD = 32
_AHEAD = 16
"""Chunks under way for each worker: a slow one doesn't make the others wait."""
LOOK_FILES = 32
"""Files that a worker looks at at once."""
_GONE = "The workers of intake went away; run the command again."
_MIRAX = (".mrxs", ".MRXS", ".Mrxs")

Clock = Callable[[], datetime]


class Intake:
    """One run: its parts, what is under way, and the report. A context."""

    def __init__(
        self,
        home: NodeHome,
        catalog: Catalog,
        deidentifier: Deidentifier,
        clock: Clock,
        *,
        crew: Crew | None = None,
        faces: Faces = "mask",
        key: str = "",
        dry_run: bool = False,
        journal: bool = True,
        stop: Callable[[], bool] = lambda: False,
        settled: Callable[[Settled], None] = lambda settled: None,
        observe: Callable[[IntakeReport], None] = lambda report: None,
    ) -> None:
        self.report = IntakeReport()
        self._home = home
        self._catalog = catalog
        self._deidentifier = deidentifier
        self._clock = clock
        self._crew = crew or Alone(deidentifier)
        self._faces: Faces = faces
        self._key = key
        self._dry_run = dry_run
        self._keeps_journal = journal
        self._stop = stop
        self._settled = settled
        self._observe = observe
        self._under_way: deque[tuple[list[Item], Result]] = deque()
        self._most = max(_FEWEST_AHEAD, _AHEAD * self._crew.width) if self._crew.width else 1
        self._patients = Patients()
        pseudonyms = deidentifier.pseudonyms
        self._faces_of = FaceConsents(Consents(catalog, home, pseudonyms.days), pseudonyms)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            pseudonyms = self._deidentifier.pseudonyms
            staging = None
            self._journal: Journal | None = None
            if not self._dry_run:
                staging = stack.enter_context(Vault(self._home).staging()).folder
                if self._keeps_journal:
                    self._journal = Journal(self._home, pseudonyms)
                    stack.callback(self._journal.close)
                    self._journal.check(lambda source: self._catalog.known(source) is not None)
            self._setup = Setup(
                token=secrets.token_hex(16),
                home=self._home.root.absolute(),
                staging=staging,
                sync=not self._crew.is_local,
                profile=self._deidentifier.profile.settings.model_dump_json(),
                lists=self._deidentifier.lists,
                faces=self._faces,
                key=self._key,
                key_check=pseudonyms.source(KEY_CHECK),
            )
            self._own: Taker | None = None
            self._register = Register(
                self._home,
                self._catalog,
                self.report,
                self._clock,
                self._put_in_quarantine,
                self._journal,
                self._settled,
                dry_run=self._dry_run,
            )
            self._committed_at = self._clock()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._stack:
            for _, result in self._under_way:
                result.cancel()
            if error is not None:
                with contextlib.suppress(WardgateError):
                    self._register.commit()
            self._register.discard()

    def take_found(self, found: Iterable[Found], manifest: Manifest | None = None) -> None:
        """Take in what a walk found, but for what the journal says is done."""
        manifest = manifest or Manifest({})
        waiting = iter(found)
        while group := list(islice(waiting, ASK)):
            files = files_of(group, manifest)
            if len(files) < len(group):
                self.report.not_files.update(one.kind for one in group if one.kind != "file")
            new = self.not_done(files, manifest)
            self.report.known += len(files) - len(new)
            self._observe(self.report)
            self.take(self.informed(new))

    def informed(self, items: Sequence[Item]) -> list[Item]:
        """Look at files and return them with what is known of their patients, from all of them."""
        looks = [
            (piece, self._crew.look(self._setup, piece)) for piece in batches(items, LOOK_FILES)
        ]
        found: list[tuple[Item, str]] = []
        for piece, look in looks:
            try:
                looked = look.result()
            except CancelledError:
                raise Unavailable(_GONE) from None
            except Exception as error:
                if not self._crew.has_died(error):
                    raise
                # What killed the worker is found when the files are taken in.
                self._crew.renew(look)
                looked = Looked(("",) * len(piece), {})
            self._patients.learn(looked)
            found += zip(piece, looked.subjects, strict=True)
        return [
            item if not subject else replace(item, known=self._patients.known(subject))
            for item, subject in found
        ]

    def not_done(self, files: Sequence[Found], manifest: Manifest) -> list[Item]:
        """Return what is to be done of at most ``ASK`` files: what the journal doesn't have."""
        journal = self._journal
        lines = [self._listed(one.place, manifest) for one in files]
        if journal is None:
            return [_item(one, line, b"") for one, line in zip(files, lines, strict=True)]
        keys = journal.keys(
            (one.place, one.status, _of(one.place, line))
            for one, line in zip(files, lines, strict=True)
            if one.status is not None
        )
        done = journal.known(keys)
        return [
            _item(one, line, key)
            for key, one, line in zip(keys, files, lines, strict=True)
            if key not in done
        ]

    def _listed(self, place: str, manifest: Manifest) -> Listed | None:
        listed = manifest.get(place)
        return None if listed is None else self._faces_of.applied(listed, self._clock().date())

    def take(self, items: Iterable[Item]) -> None:
        """Take files in. They are decided, at the latest, by ``finish``."""
        chunk: list[Item] = []
        size = 0
        for item in items:
            chunk.append(item)
            size += item.size_bytes
            if len(chunk) >= CHUNK_FILES or size >= CHUNK_BYTES or not self._crew.width:
                self._begin(chunk)
                chunk, size = [], 0
        if chunk:
            self._begin(chunk)

    def finish(self) -> None:
        """Wait for all that is under way and commit it."""
        while self._under_way:
            self._end_first()
        self.commit()

    def commit(self) -> None:
        """Register what was done since the last time; ``StorageError`` when that fails."""
        self._register.commit()
        self._committed_at = self._clock()
        self._observe(self.report)

    # ---- what is under way ---------------------------------------------------------------------

    def _begin(self, chunk: list[Item]) -> None:
        while len(self._under_way) >= self._most:
            self._end_first()
        self._under_way.append((chunk, self._crew.submit(self._setup, chunk, self._clock())))
        if not self._crew.width:
            self._end_first()
        while self._under_way and self._under_way[0][1].done():
            self._end_first()

    def _end_first(self) -> None:
        chunk, result = self._under_way.popleft()
        try:
            taken = result.result()
        except CancelledError:
            raise Unavailable(_GONE) from None
        except Exception as error:
            if not self._crew.has_died(error):
                raise
            if self._stop():
                return  # whoever ends us ends the workers too
            self._crew.renew(result)
            wait([other for _, other in self._under_way])
            taken = [self._once_alone(item) for item in chunk]
        for item, one in zip(chunk, taken, strict=True):
            self._register.add(item, one)
        waited = (self._clock() - self._committed_at).total_seconds()
        if len(self._register) >= BATCH or waited > BATCH_SECONDS:
            self.commit()

    def _once_alone(self, item: Item) -> Taken:
        """Try a file again whose worker died, with no other file in its worker's hands."""
        result = self._crew.submit(self._setup, [item], self._clock())
        try:
            return result.result()[0]
        except Exception as error:
            if not self._crew.has_died(error):
                raise
            self._crew.renew(result)
            return self._put_in_quarantine(item, "worker-died")

    def _put_in_quarantine(self, item: Item, reason: str) -> Taken:
        if self._own is None:
            self._own = Taker(self._setup, self._deidentifier)
        return self._own.quarantine(item, reason)


def ingest(
    paths: Sequence[Path],
    home: NodeHome,
    catalog: Catalog,
    deidentifier: Deidentifier,
    *,
    clock: Clock,
    crew: Crew | None = None,
    manifest: Manifest | None = None,
    faces: Faces = "mask",
    key: str = "",
    dry_run: bool = False,
    observe: Callable[[IntakeReport], None] = lambda report: None,
) -> IntakeReport:
    """Take in every file below ``paths``; ``observe`` sees the report as it grows.

    With ``dry_run`` nothing is written. ``StorageError`` for a full disk: what was registered until
    then stays, and the same command goes on from there.
    """
    check_paths(paths, home)
    with Intake(
        home,
        catalog,
        deidentifier,
        clock,
        crew=crew,
        faces=faces,
        key=key,
        dry_run=dry_run,
        observe=observe,
    ) as intake:
        intake.take_found(walk(paths), manifest)
        intake.finish()
        return intake.report


def check_paths(paths: Sequence[Path], home: NodeHome) -> None:
    """Raise ``UsageError`` if a path holds the node's own folder or lies within it."""
    for number, path in enumerate(paths, 1):
        place, own = path.resolve(), home.root.resolve()
        if place == own or own in place.parents or place in own.parents:
            raise UsageError(f"Path {number} of {len(paths)} overlaps the node's own folder.")


@contextmanager
def only_intake(home: NodeHome) -> Iterator[None]:
    """Hold the tables against a second intake (``Unavailable``), and clear what a kill left."""
    private_folder(home.vault)
    descriptor = os.open(home.vault / "intake.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable("Another intake is running on this node; wait for it.") from None
        for unfinished in (home.vault / "tables").rglob(".*"):
            unfinished.unlink(missing_ok=True)
        yield
    finally:
        os.close(descriptor)


def files_of(found: Sequence[Found], manifest: Manifest) -> list[Found]:
    """Return what is a file, but for the manifest itself."""
    own = "" if manifest.path is None else str(manifest.path)
    return [one for one in found if one.kind == "file" and one.place != own]


def _item(found: Found, listed: Listed | None, key: bytes) -> Item:
    assert found.status is not None
    return Item(
        place=found.place,
        listed=listed,
        size_bytes=found.status.st_size,
        key=key,
        found=identity(found.status),
    )


def _of(place: str, listed: Listed | None) -> bytes:
    """Return what decides about a file besides itself: its line, a slide's further files."""
    of = b"" if listed is None else listed.digest()
    if place.endswith(_MIRAX):
        with contextlib.suppress(OSError):
            of += repr([(one.name, identity(one.stat())) for one in members(Path(place))]).encode()
    return of
