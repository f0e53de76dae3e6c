"""Signed heads, kept durably beside the ledger: our own with their countersignatures, and others'.

``heads/CONSORTIUM/own/SIZE.json`` are heads of this ledger as envelopes; ``rosters/`` holds the
rosters under which they were signed; ``witnessed/SITE.json`` is the head of another site's ledger
that we countersigned last.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from contract.documents import Roster
from contract.envelope import MAX_ENVELOPE_BYTES
from contract.errors import DocumentError, LedgerError, NotFound
from contract.heads import MAX_HEAD_BYTES, SignedHead, TreeHead, read_head
from contract.trust import Believed
from foundation.files import private_folder, read_bounded, write_durably

KEPT_HEADS = 8
"""Newest heads that are kept; of older ones the last countersigned of each day is."""


class HeadStore:
    """The heads of one consortium. ``folder`` is the ledger's."""

    def __init__(self, folder: Path, consortium: str) -> None:
        private_folder(folder / "heads")
        self._folder = private_folder(folder / "heads" / consortium)
        self._own = private_folder(self._folder / "own")
        self._witnessed = private_folder(self._folder / "witnessed")
        self._rosters = private_folder(self._folder / "rosters")

    def own(self) -> list[bytes]:
        """Return the envelopes of this ledger's heads, shortest tree first."""
        return [read_bounded(path, MAX_HEAD_BYTES) for path in sorted(self._own.glob("*.json"))]

    def newest(self) -> bytes | None:
        """Return the envelope of this ledger's longest head."""
        paths = sorted(self._own.glob("*.json"))
        return read_bounded(paths[-1], MAX_HEAD_BYTES) if paths else None

    def find(self, size: int) -> bytes | None:
        """Return the envelope of this ledger's head of this size."""
        path = self._path(size)
        return read_bounded(path, MAX_HEAD_BYTES) if path.exists() else None

    def keep(self, signed: SignedHead, roster: Believed[Roster]) -> None:
        """Keep a head of this ledger, in place of one of the same size, with its roster."""
        path = self._rosters / f"{roster.document.version:08d}-{roster.digest[:16]}.json"
        if not path.exists():
            write_durably(path, roster.envelope)
        write_durably(self._path(signed.head.tree_size), signed.envelope)
        self._prune()

    def _path(self, size: int) -> Path:
        return self._own / f"{size:019d}.json"

    def _prune(self) -> None:
        days: set[str] = set()
        paths = sorted(self._own.glob("*.json"), reverse=True)
        for path in paths[KEPT_HEADS:]:
            data = read_bounded(path, MAX_HEAD_BYTES)
            day = read_head(data).time.date().isoformat()
            if day in days or data.count(b'"keyid"') < 2:
                path.unlink()
            else:
                days.add(day)

    def roster(self) -> bytes:
        """Return the envelope of the newest roster under which a head was signed."""
        paths = sorted(self._rosters.glob("*.json"))
        if not paths:
            raise NotFound("No head of the ledger was signed yet.")
        return read_bounded(paths[-1], MAX_ENVELOPE_BYTES)

    def witnessed(self, site: str) -> bytes | None:
        """Return the head of another site's ledger that we countersigned last."""
        path = self._witnessed / f"{site}.json"
        return read_bounded(path, MAX_HEAD_BYTES) if path.exists() else None

    def all_witnessed(self) -> dict[str, bytes]:
        """Return the heads that we countersigned last, by site."""
        paths = sorted(self._witnessed.glob("*.json"))
        return {path.stem: read_bounded(path, MAX_HEAD_BYTES) for path in paths}

    def remember(self, signed: SignedHead) -> None:
        """Keep a head of another site's ledger, before its countersignature leaves."""
        write_durably(self._witnessed / f"{signed.head.site}.json", signed.envelope)


def kept_positions(heads: Path) -> Iterator[TreeHead]:
    """Yield what this ledger's kept heads say, over all consortia, their signatures unchecked."""
    for path in sorted(heads.glob("*/own/*.json")):
        try:
            yield read_head(read_bounded(path, MAX_HEAD_BYTES))
        except DocumentError:
            raise LedgerError(f"A kept head of the ledger is damaged: {path.name}.") from None
