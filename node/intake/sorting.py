"""A large table sorted by subject and written to the vault, in memory that doesn't grow with it."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundation.files import file_mode, private_folder, storage_errors, sync_folder
from node.catalog.manifest import SUBJECT

if TYPE_CHECKING:
    import polars as pl

BUCKETS = "0123456789abcdef"
"""Digits of pseudonyms, by which a large table is sorted in parts."""
PART_BYTES = 32 * 2**20
"""Rows held before they are written aside."""
SORTED_BYTES = 4 * PART_BYTES
"""Rows sorted at once. What is more is parted by the next digit, but for one subject's rows."""
_DIGITS = 32


@dataclass(frozen=True)
class _Part:
    """Rows written aside, and how much memory they take."""

    path: Path
    size_bytes: int


class SortedTable:
    """A table on its way into the vault, sorted by subject.

    Pseudonyms are uniform, so their first digits part a table into pieces that are sorted one by
    one. Rows of a subject keep the file's order.
    """

    def __init__(self, folder: Path | None) -> None:
        self.rows = 0
        self._folder = folder
        self._held: list[pl.DataFrame] = []
        self._held_bytes = 0
        self._parts: dict[str, list[_Part]] = {}
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
                whole_parts = [
                    path
                    for b in sorted(self._parts)
                    for path in self._sorted(self._parts.pop(b), 1)
                ]
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

        if self._held:
            held = pl.concat(self._held)
            self._held, self._held_bytes = [], 0
            self._split(held, 0, self._parts)

    def _split(self, rows: pl.DataFrame, digit: int, into: dict[str, list[_Part]]) -> None:
        assert self._folder is not None
        digits = rows[SUBJECT].str.slice(digit, 1)
        for bucket in BUCKETS:
            some = rows.filter(digits == bucket)
            if some.height:
                path = self._new()
                with storage_errors(self._folder):
                    some.write_parquet(path, compression="lz4", statistics=False)
                into.setdefault(bucket, []).append(_Part(path, int(some.estimated_size())))

    def _sorted(self, parts: list[_Part], digit: int) -> Iterator[Path]:
        """Yield files that hold the parts' rows, sorted; the parts agree in so many digits."""
        import polars as pl

        if sum(part.size_bytes for part in parts) > SORTED_BYTES and digit < _DIGITS:
            finer: dict[str, list[_Part]] = {}
            for part in parts:
                self._split(pl.read_parquet(part.path), digit, finer)
                part.path.unlink()
            for bucket in sorted(finer):
                yield from self._sorted(finer[bucket], digit + 1)
            return
        rows = pl.concat([pl.read_parquet(part.path) for part in parts])
        for part in parts:
            part.path.unlink()
        path = self._new()
        rows.sort(SUBJECT, maintain_order=True).write_parquet(path, statistics=False)
        yield path

    def _new(self) -> Path:
        """Return the path of a new empty file; a kill leaves it hidden."""
        assert self._folder is not None
        private_folder(self._folder)
        path = self._folder / f".table-{secrets.token_hex(8)}.parquet"
        with storage_errors(self._folder):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file_mode(path.parent)))
        self._made.append(path)
        return path
