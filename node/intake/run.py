"""Intake of folder trees: each file ends in the vault or in quarantine, and none is passed over.

Order that makes it resumable: the asset's file is durable before the catalogue knows of it, and a
source counts as done when the catalogue says so. Killed anywhere, the next run repeats at most the
last batch, with the same result. Messages and reports hold counts and positions, never a name.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from contract.errors import StorageError, Unavailable, UsageError, WardgateError
from foundation.files import private_folder
from node.catalog.rows import AssetRow, IntakeRow
from node.catalog.store import Catalog
from node.deid.engine import Deidentifier
from node.deid.reading import Unsafe
from node.home import NodeHome
from node.intake.dicom import Vault, asset_row
from node.intake.quarantine import Quarantine
from node.intake.walk import Found, chunks, read_file, walk

BATCH = 64
"""Files between two commits."""
BATCH_SECONDS = 5.0

Clock = Callable[[], datetime]


@dataclass
class IntakeReport:
    """What became of the files so far, by count."""

    accepted: int = 0
    duplicate: int = 0
    """New files that say what an asset of the vault says already."""
    known: int = 0
    """Files that were taken in before, whatever became of them then."""
    quarantined: Counter[str] = field(default_factory=Counter)
    """Files put in quarantine, by reason."""
    not_files: Counter[str] = field(default_factory=Counter)
    """Links (not followed), special files and folders that can't be read."""
    bytes_read: int = 0

    @property
    def files(self) -> int:
        """The number of files seen."""
        return self.accepted + self.duplicate + self.known + self.quarantined.total()

    def lines(self) -> list[str]:
        """Return the summary by outcome, a line each."""
        counts = [
            ("accepted", self.accepted),
            ("duplicate", self.duplicate),
            ("the same as a file taken in before", self.known),
            *((f"quarantined: {reason}", n) for reason, n in sorted(self.quarantined.items())),
            *((f"not a file: {what}", n) for what, n in sorted(self.not_files.items())),
        ]
        width = len(str(max(n for _, n in counts)))
        return [f"{n:>{width}}  {what}" for what, n in counts if n] or ["0  files"]


class Intake:
    """One run: its parts, what is not committed yet, and the report."""

    def __init__(
        self,
        home: NodeHome,
        catalog: Catalog,
        deidentifier: Deidentifier,
        clock: Clock,
        *,
        dry_run: bool = False,
    ) -> None:
        self.report = IntakeReport()
        self._home = home
        self._catalog = catalog
        self._deidentifier = deidentifier
        self._clock = clock
        self._vault = None if dry_run else Vault(home)
        self._quarantine = None if dry_run else Quarantine(home)
        self._assets: list[AssetRow] = []
        self._outcomes: dict[str, IntakeRow] = {}
        self._instances: dict[str, str] = {}
        self._committed_at = clock()

    def take(self, found: Found) -> None:
        """Take one file in. Whatever is wrong with it, only a failing disk raises."""
        if found.kind != "file":
            self.report.not_files[found.kind] += 1
            return
        pseudonyms = self._deidentifier.pseudonyms
        try:
            data = read_file(found.path)
            parts = chunks(found.path) if data is None else (data,)
            source = pseudonyms.source_of(parts)
        except OSError:
            # It has no bytes to be known by; its place stands for it.
            source = pseudonyms.source(b"path", os.fsencode(found.path))
            if self._is_new(source):
                self._record(source, "quarantined", "unreadable-file")
            return
        if not self._is_new(source):
            return
        self.report.bytes_read += found.path.stat().st_size if data is None else len(data)
        try:
            if data is None:
                raise Unsafe("too-large")
            self._accept(source, data)
        except Unsafe as unsafe:
            if self._quarantine is not None:
                self._quarantine.put(source, chunks(found.path) if data is None else (data,))
            self._record(source, "quarantined", unsafe.reason)
        waited = (self._clock() - self._committed_at).total_seconds()
        if len(self._outcomes) >= BATCH or waited > BATCH_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Register what was written since the last time; ``StorageError`` when that fails."""
        if self._vault is not None:
            try:
                self._catalog.record(self._assets, list(self._outcomes.values()))
            except DBAPIError:
                raise StorageError(
                    "The catalogue can't be written (is its disk full?); run `ingest` again."
                ) from None
            self._outcomes.clear()
            self._instances.clear()
        self._assets.clear()
        self._committed_at = self._clock()

    def _is_new(self, source: str) -> bool:
        if source in self._outcomes or self._catalog.known(source) is not None:
            self.report.known += 1
            return False
        return True

    def _accept(self, source: str, data: bytes) -> None:
        result = self._deidentifier.deidentify(data)
        row = asset_row(result, self._clock())
        instance = row.sop_instance_uid
        there = self._instances.get(instance) or self._catalog.asset_of_instance(instance)
        if there is not None and there != row.digest:
            raise Unsafe("duplicate-instance")
        if there is not None:
            self._record(source, "duplicate", "same-content", row.digest)
            return
        if self._vault is not None:
            self._vault.put(row.digest, result.data)
        self._assets.append(row)
        self._instances[instance] = row.digest
        self._record(source, "accepted", "", row.digest)

    def _record(self, source: str, outcome: str, reason: str, asset: str | None = None) -> None:
        self._outcomes[source] = IntakeRow(source, outcome, reason, asset, self._clock())
        if outcome == "accepted":
            self.report.accepted += 1
        elif outcome == "duplicate":
            self.report.duplicate += 1
        else:
            self.report.quarantined[reason] += 1


def ingest(
    paths: Sequence[Path],
    home: NodeHome,
    catalog: Catalog,
    deidentifier: Deidentifier,
    *,
    clock: Clock,
    dry_run: bool = False,
    observe: Callable[[IntakeReport], None] = lambda report: None,
) -> IntakeReport:
    """Take in every file below ``paths``; ``observe`` sees the report after each.

    With ``dry_run`` nothing is written. ``StorageError`` for a full disk: what was registered until
    then stays, and the same command goes on from there.
    """
    for number, path in enumerate(paths, 1):
        place, own = path.resolve(), home.root.resolve()
        if place == own or own in place.parents or place in own.parents:
            raise UsageError(f"Path {number} of {len(paths)} overlaps the node's own folder.")
    with contextlib.nullcontext() if dry_run else only_intake(home):
        intake = Intake(home, catalog, deidentifier, clock, dry_run=dry_run)
        try:
            for found in walk(paths):
                intake.take(found)
                observe(intake.report)
        except BaseException:
            with contextlib.suppress(WardgateError):
                intake.commit()
            raise
        intake.commit()
        return intake.report


@contextmanager
def only_intake(home: NodeHome) -> Iterator[None]:
    """Hold the vault against a second intake (``Unavailable``), and clear what a kill left."""
    private_folder(home.vault)
    descriptor = os.open(home.vault / "intake.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable("Another intake is running on this node; wait for it.") from None
        for folder in (home.vault / "assets", home.vault / "tables", home.quarantine):
            for unfinished in folder.rglob(".*"):
                unfinished.unlink(missing_ok=True)
        yield
    finally:
        os.close(descriptor)
