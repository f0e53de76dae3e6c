"""A large table sorted by subject and written to the vault, in memory that doesn't grow with it."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundation.files import file_mode, private_folder, storage_errors, sync_folder
from node.catalog.manifest import SUBJECT

if TYPE_CHECKING:
    import polars as pl

BUCKETS = "0123456789abcdef"
"""First digits of pseudonyms, by which a large table is sorted in parts."""
PART_BYTES = 32 * 2**20
"""Rows held before they are written aside."""


class SortedTable:
    """A table on its way into the vault, sorted by subject.

    Pseudonyms are uniform, so their first digit parts a table into sixteen that are sorted one by
    one. Rows of a subject keep the file's order.
    """

    def __init__(self, folder: Path | None) -> None:
        self.rows = 0
        self._folder = folder
        self._held: list[pl.DataFrame] = []
        self._held_bytes = 0
        self._parts: dict[str, list[Path]] = {}
        self._made: list[Path] = []
        self._seen: list[Any] = []
        """Of each batch, the distinct subjects as numbers of 64 bits."""

    def add(self, frame: pl.DataFrame) -> None:
        """Take a batch."""
        import polars as pl

        self.rows += frame.height
        self._seen.append(frame[SUBJECT].unique().hash())
        if len(self._seen) > 64:
            self._seen = [pl.concat(self._seen).unique()]
        if self._folder is None:
            return
        self._held.append(frame)
        self._held_bytes += int(frame.estimated_size())
        if self._held_bytes >= PART_BYTES:
            self._spill()

    @property
    def subjects(self) -> int:
        """The number of distinct subjects."""
        import polars as pl

        return pl.concat(self._seen).n_unique() if self._seen else 0

    def finish(self) -> str:
        """Put the whole table into the vault, durably, and return its SHA-256."""
        import polars as pl

        assert self._folder is not None
        target = self._new()
        with storage_errors(self._folder):
            if not self._parts:
                whole = pl.concat(self._held).sort(SUBJECT, maintain_order=True)
                whole.write_parquet(target, compression="zstd")
            else:
                self._spill()
                whole_parts = [self._sorted(self._parts.pop(b)) for b in sorted(self._parts)]
                pl.scan_parquet(whole_parts, glob=False).sink_parquet(target, compression="zstd")
            with target.open("rb+") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())
            target.replace(self._folder / f"{digest}.parquet")
            sync_folder(self._folder)
        return digest

    def clear(self) -> None:
        """Delete what was written aside."""
        for path in self._made:
            path.unlink(missing_ok=True)

    def _spill(self) -> None:
        import polars as pl

        assert self._folder is not None
        if not self._held:
            return
        held = pl.concat(self._held)
        self._held, self._held_bytes = [], 0
        first = held[SUBJECT].str.slice(0, 1)
        for bucket in BUCKETS:
            rows = held.filter(first == bucket)
            if rows.height:
                path = self._new()
                with storage_errors(self._folder):
                    rows.write_parquet(path, compression="lz4", statistics=False)
                self._parts.setdefault(bucket, []).append(path)

    def _sorted(self, parts: list[Path]) -> Path:
        import polars as pl

        rows = pl.concat([pl.read_parquet(path) for path in parts])
        for path in parts:
            path.unlink()
        path = self._new()
        rows.sort(SUBJECT, maintain_order=True).write_parquet(path, statistics=False)
        return path

    def _new(self) -> Path:
        """Return the path of a new empty file; a kill leaves it hidden."""
        assert self._folder is not None
        private_folder(self._folder)
        path = self._folder / f".table-{secrets.token_hex(8)}.parquet"
        with storage_errors(self._folder):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file_mode(path.parent)))
        self._made.append(path)
        return path
