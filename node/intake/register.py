"""What is kept of files that were taken in: decided in their order, a batch at a time.

The order of a batch makes it safe to be killed anywhere: the files have their names in the vault,
durably, before the catalogue knows of them; the journal and the landing hear of them afterwards.
Several intakes may run at once; their batches are decided one after the other.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from sqlalchemy import delete, select, tuple_
from sqlalchemy.exc import DBAPIError

from contract.errors import StorageError
from foundation.files import SECRET_MODE
from node.catalog import schema
from node.catalog.rows import AssetRow, IntakeRow, MemberRow
from node.catalog.store import Catalog
from node.home import NodeHome
from node.intake.drafts import Drafts
from node.intake.items import Item, Taken
from node.intake.journal import SETTLED_NS, Journal
from node.intake.quarantine import Quarantine
from node.intake.vault import Vault, remove_staged

TRIED_AGAIN = frozenset(
    {
        "no-subject",
        "other-subject",
        "worker-died",
        "internal-error",
        "identifier-left",
        "face",
        "possible-face",
        "nifti",
        "recognizable-visual-features",
    }
)
"""Reasons for quarantine that another try may change: with another line in the manifest, say, a
consent that covers faces, or since two patients' same pictures are two assets."""
_OF_LESIONS = frozenset({"clinical", "dermoscopy", "confocal"})

Quarantining = Callable[[Item, str], Taken]


@dataclass
class IntakeReport:
    """What became of the files so far, by count."""

    accepted: int = 0
    duplicate: int = 0
    """New files that say what an asset of the vault says already."""
    drafts: int = 0
    """Reports that wait for their release."""
    known: int = 0
    """Files that were taken in before, whatever became of them then."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Files that show nothing but what identifies, by reason."""
    quarantined: Counter[str] = field(default_factory=Counter)
    """Files put in quarantine, by reason."""
    not_files: Counter[str] = field(default_factory=Counter)
    """Links (not followed), special files and folders that can't be read."""
    bytes_read: int = 0

    @property
    def files(self) -> int:
        """The number of files seen."""
        taken = self.accepted + self.duplicate + self.drafts + self.known
        return taken + self.dropped.total() + self.quarantined.total()

    def lines(self) -> list[str]:
        """Return the summary by outcome, a line each."""
        counts = [
            ("accepted", self.accepted),
            ("duplicate", self.duplicate),
            ("reports, as drafts", self.drafts),
            ("the same as a file taken in before", self.known),
            *((f"dropped: {reason}", n) for reason, n in sorted(self.dropped.items())),
            *((f"quarantined: {reason}", n) for reason, n in sorted(self.quarantined.items())),
            *((f"not a file: {what}", n) for what, n in sorted(self.not_files.items())),
        ]
        width = len(str(max(n for _, n in counts)))
        return [f"{n:>{width}}  {what}" for what, n in counts if n] or ["0  files"]


@dataclass(frozen=True)
class Settled:
    """A file whose outcome is in the catalogue, or was."""

    item: Item
    outcome: str
    """accepted, duplicate, draft, dropped or quarantined; of a known file, what it was then."""
    steady: bool


class Register:
    """Decides and writes down what became of files."""

    def __init__(
        self,
        home: NodeHome,
        catalog: Catalog,
        report: IntakeReport,
        clock: Callable[[], datetime],
        quarantine: Quarantining,
        journal: Journal | None,
        settled: Callable[[Settled], None],
        *,
        dry_run: bool,
    ) -> None:
        self._home = home
        self._catalog = catalog
        self._report = report
        self._clock = clock
        self._quarantine = quarantine
        self._journal = journal
        self._settled = settled
        self._vault = None if dry_run else Vault(home)
        self._drafts = None if dry_run else Drafts(home)
        self._waiting: list[tuple[Item, Taken]] = []
        self._imagined = _There()
        """What a dry run would have registered."""

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, item: Item, taken: Taken) -> None:
        """Take note of a file; what becomes of it is decided by ``commit``."""
        self._waiting.append((item, taken))

    def commit(self) -> None:
        """Decide what was noted since the last time and register it.

        ``StorageError`` when that fails: then nothing of it is registered.
        """
        if not self._waiting:
            return
        with contextlib.nullcontext() if self._vault is None else registering(self._home):
            batch = _Batch(self._there(), self._vault, self._drafts, self._clock())
            for item, taken in self._waiting:
                batch.decide(item, taken, self._quarantine)
            if self._vault is None:
                self._imagined = batch.there
            else:
                self._write(batch)
        batch.count(self._report)
        self._waiting.clear()
        for settled in batch.settled:
            self._settled(settled)

    def discard(self) -> None:
        """Forget what was not committed, and remove its files."""
        for _, taken in self._waiting:
            if taken.staged is not None:
                remove_staged(taken.staged)
        self._waiting.clear()

    def _write(self, batch: _Batch) -> None:
        assert self._vault is not None
        self._vault.sync()
        try:
            if batch.again:
                with self._catalog.engine.begin() as connection:
                    table = schema.intake
                    connection.execute(
                        delete(table).where(
                            tuple_(table.c.source_digest, table.c.subject).in_(batch.again)
                        )
                    )
            self._catalog.record(batch.assets, list(batch.outcomes.values()), batch.members)
        except DBAPIError:
            raise StorageError(
                "The catalogue can't be written (is its disk full?); run `ingest` again."
            ) from None
        if released := {source for source, _ in batch.again if not batch.there.is_held(source)}:
            Quarantine(self._home).release(released)
        if self._journal is not None:
            now_ns = int(self._clock().timestamp() * 1e9)
            keys = [
                item.key
                for item, taken in self._waiting
                if item.key and taken.steady and _is_settled(item, now_ns)
            ]
            self._journal.add(keys, next((source for source, _ in reversed(batch.outcomes)), None))

    def _there(self) -> _There:
        """Return what the catalogue has of the sources, instances and assets in question."""
        there = self._imagined if self._vault is None else _There()
        taken = [one for _, one in self._waiting]
        rows = [one.asset for one in taken if one.asset is not None]
        with self._catalog.reading.connect() as connection:
            intake, assets = schema.intake, schema.assets
            query = select(
                intake.c.source_digest, intake.c.subject, intake.c.outcome, intake.c.reason
            ).where(intake.c.source_digest.in_({one.source for one in taken}))
            for source, subject, *became in connection.execute(query):
                there.sources.setdefault(source, {})[subject] = (became[0], became[1])
            instances = {row.sop_instance_uid for row in rows} - {""}
            columns = select(assets.c.digest, assets.c.subject, assets.c.sop_instance_uid)
            for condition in (
                assets.c.sop_instance_uid.in_(instances),
                assets.c.digest.in_({row.digest for row in rows}),
            ):
                for digest, subject, instance in connection.execute(columns.where(condition)):
                    there.subjects[digest] = subject
                    if instance:
                        there.instances[instance] = digest
        return there


@dataclass
class _There:
    sources: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)
    """Outcome and reason by source and subject."""
    instances: dict[str, str] = field(default_factory=dict)
    """Asset by SOP Instance UID."""
    subjects: dict[str, str] = field(default_factory=dict)
    """Subject by asset."""

    def before(self, taken: Taken) -> tuple[tuple[str, str], tuple[str, str]] | None:
        """Return the key of what was decided of a file before, and what; None if it is new.

        What says itself whose it is, or isn't listed, was decided before for whomever it was.
        """
        rows = self.sources.get(taken.source, {})
        found = sorted(rows, key=lambda subject: (rows[subject][0] == "quarantined", subject))
        if taken.subject:
            found = [subject for subject in (taken.subject, "") if subject in rows]
        return ((taken.source, found[0]), rows[found[0]]) if found else None

    def is_held(self, source: str) -> bool:
        """Say whether the quarantine has to hold a file for somebody."""
        return any(outcome == "quarantined" for outcome, _ in self.sources[source].values())


class _Batch:
    """The decisions of one commit, each made in the light of those before it."""

    def __init__(
        self, there: _There, vault: Vault | None, drafts: Drafts | None, now: datetime
    ) -> None:
        self.there = there
        self.assets: list[AssetRow] = []
        self.members: list[MemberRow] = []
        self.outcomes: dict[tuple[str, str], IntakeRow] = {}
        """By source and subject."""
        self.again: set[tuple[str, str]] = set()
        """Keys of rows that are replaced."""
        self.settled: list[Settled] = []
        self._counted: list[tuple[str, str, int]] = []
        self._vault = vault
        self._drafts = drafts
        self._now = now

    def decide(self, item: Item, taken: Taken, quarantine: Quarantining) -> None:
        """Decide what becomes of one file, and give it its name if it is kept."""
        before = self.there.before(taken)
        if before is not None:
            key, became = before
            if not _is_worth_another_try(became, taken):
                _remove(taken)
                self._counted.append(("known", "", taken.bytes_read))
                self.settled.append(Settled(item, became[0], taken.steady))
                return
            del self.there.sources[taken.source][key[1]]
            if self.outcomes.pop(key, None) is None:
                self.again.add(key)
        outcome: str = taken.outcome
        reason, asset = taken.reason, taken.asset
        if outcome == "accepted" and asset is not None:
            outcome, reason = self._accept(taken, asset)
            if outcome == "quarantined" and self._vault is not None:
                # What is in the quarantine is what counts, should the file have changed since.
                again = quarantine(item, reason)
                steady = taken.steady and again.source == taken.source
                taken = replace(taken, source=again.source, steady=steady)
        elif outcome == "draft" and taken.staged is not None:
            assert self._drafts is not None
            self._drafts.keep(taken.staged, taken.draft)
        digest = None
        if asset is not None and outcome != "quarantined":
            digest = asset.digest
            if taken.group:
                self._link(taken, asset)
        source, subject = taken.source, taken.subject
        row = IntakeRow(source, outcome, reason, digest, self._now, subject)
        self.outcomes[source, subject] = row
        self.there.sources.setdefault(source, {})[subject] = outcome, reason
        self._counted.append((outcome, reason, taken.bytes_read))
        self.settled.append(Settled(item, outcome, taken.steady))

    def count(self, report: IntakeReport) -> None:
        """Add the decisions to a report."""
        for outcome, reason, size in self._counted:
            report.bytes_read += size
            if outcome == "accepted":
                report.accepted += 1
            elif outcome == "duplicate":
                report.duplicate += 1
            elif outcome == "draft":
                report.drafts += 1
            elif outcome == "known":
                report.known += 1
            elif outcome == "dropped":
                report.dropped[reason] += 1
            else:
                report.quarantined[reason] += 1

    def _link(self, taken: Taken, asset: AssetRow) -> None:
        kind = "lesion" if taken.role in _OF_LESIONS else "case"
        self.members.append(
            MemberRow(taken.group, asset.subject, taken.role, asset.digest, self._now, kind)
        )

    def _accept(self, taken: Taken, asset: AssetRow) -> tuple[str, str]:
        there = self.there.instances.get(asset.sop_instance_uid)
        subject = self.there.subjects.get(asset.digest)
        objection = ""
        if there is not None and there != asset.digest:
            objection = "duplicate-instance"
        elif subject is not None and subject != asset.subject:
            objection = "other-subject"
        if objection:
            _remove(taken)
            return "quarantined", objection
        if subject is not None:
            _remove(taken)
            return "duplicate", "same-content"
        if taken.staged is not None:
            assert self._vault is not None
            self._vault.keep(taken.staged, asset.digest, asset.suffix)
        self.assets.append(asset)
        self.there.subjects[asset.digest] = asset.subject
        if asset.sop_instance_uid:
            self.there.instances[asset.sop_instance_uid] = asset.digest
        return "accepted", ""


def _is_worth_another_try(before: tuple[str, str], taken: Taken) -> bool:
    outcome, reason = before
    return outcome == "quarantined" and reason in TRIED_AGAIN and taken.reason != reason


def _is_settled(item: Item, now_ns: int) -> bool:
    """Say whether a later write would show in the file's times."""
    return item.found is not None and item.found[2] < now_ns - SETTLED_NS


def _remove(taken: Taken) -> None:
    if taken.staged is not None:
        remove_staged(taken.staged)


@contextlib.contextmanager
def registering(home: NodeHome) -> Iterator[None]:
    """Wait for the turn to register something, and have it."""
    path: Path = home.vault / "register.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, SECRET_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
