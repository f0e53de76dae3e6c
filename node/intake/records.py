"""Taking in a source of records, FHIR or OMOP: whole or not at all, and once."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from contract.errors import DataError, UsageError
from node.deid.pseudonyms import Pseudonyms
from node.home import NodeHome
from node.intake.clinical import ClinicalStore, SourceRow, Staging
from node.intake.quality import QualityReport
from node.intake.walk import chunks

FORMAT = b"1"
"""Changes when the same files would make other rows."""


@dataclass
class SourceReport:
    """What became of a source: counts only."""

    name: str
    kind: str
    quality: QualityReport
    subjects: int = 0
    taken: Counter[str] = field(default_factory=Counter)
    """Records read, by kind."""
    left: Counter[str] = field(default_factory=Counter)
    """Records of kinds that aren't taken, or whole files, by kind."""
    rows: dict[str, int] = field(default_factory=dict)
    """Rows made, by kind."""
    unchanged: bool = False
    """Whether these very files were taken in before, in the same way."""

    def lines(self) -> list[str]:
        """Return the summary, at most 80 columns wide."""
        if self.unchanged:
            return [f"Source {self.name}: taken in before; nothing changed."]
        lines = [f"Source {self.name} ({self.kind}): {self.subjects} subjects."]
        lines += [f"{n:>12}  {kind} taken" for kind, n in sorted(self.taken.items())]
        lines += [f"{n:>12}  {kind} left" for kind, n in sorted(self.left.items())]
        lines += [f"{n:>12}  rows of {kind}" for kind, n in sorted(self.rows.items())]
        return [line[:80] for line in lines] + self.quality.lines()


class Progress:
    """Counts bytes read, of how many, for whoever watches."""

    def __init__(self, total: int, observe: Callable[[int, int], None]) -> None:
        self._total = total
        self._done = 0
        self._observe = observe

    def add(self, read: int) -> None:
        """Note that more was read."""
        self._done += read
        self._observe(self._done, self._total)


class Source(Protocol):
    """A kind of source: its files and how they are read."""

    @property
    def kind(self) -> str:
        """What it is, for example FHIR R4."""

    @property
    def options(self) -> bytes:
        """What else decides on the rows, besides the files."""

    @property
    def files(self) -> Sequence[Path]:
        """Its files."""

    def read(self, staging: Staging, report: SourceReport, now: datetime) -> None:
        """Write the rows of all files aside and fill in the report."""


def take_in(
    source: Source,
    name: str,
    home: NodeHome,
    store: ClinicalStore,
    pseudonyms: Pseudonyms,
    *,
    now: datetime,
    dry_run: bool = False,
) -> SourceReport:
    """Take a source in under a name, where it replaces all rows that it had before.

    The same files and options again change nothing. ``DataError`` when the source can't be taken;
    then, as after a kill, what was there before stays whole.
    """
    report = SourceReport(name, source.kind, QualityReport(name))
    before = [_state(path) for path in source.files]
    digests = sorted(pseudonyms.source_of(chunks(path)).encode() for path in source.files)
    digest = pseudonyms.source(FORMAT, source.kind.encode(), source.options, *digests)
    if store.source_digest(name) == digest:
        report.unchanged = True
        return report
    staging = Staging(None if dry_run else home.vault / "tables")
    try:
        source.read(staging, report, now)
        if [_state(path) for path in source.files] != before:
            raise DataError("The source was changed while it was read; run `ingest` again.")
        report.rows = {kind: n for kind, n in staging.counts.items() if n}
        if not dry_run:
            row = SourceRow(name, source.kind, digest, now)
            store.replace_source(row, staging, report.quality.findings())
    finally:
        staging.clear()
    return report


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file; ``UsageError`` if it is a link or anything else by now."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        raise UsageError("A file of the source can't be read.") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageError("A file of the source is not a regular file.")
    return os.fdopen(descriptor, "rb")


def _state(path: Path) -> tuple[int, int, int]:
    status = path.lstat()
    return status.st_ino, status.st_size, status.st_mtime_ns
