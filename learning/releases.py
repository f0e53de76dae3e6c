"""What a recipe finds in a release: tables, assets, observations and groups of a frozen folder.

A release is a folder, ``context.node_config["data-path"]``: ``manifest.json``,
``tables/<table>.parquet``, ``assets.parquet`` with ``assets/<digest><suffix>``,
``observations.parquet``, ``groups.parquet``. Only what is asked for is read. No error text holds a
value of the release: an exception in a client may travel.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

SUBJECT = "subject"
NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_.]{0,63}$")
_AT_ONCE = 2**24
"""Numbers of a table that are read at once where all of it might be too much."""
_DIGEST = re.compile(r"^[0-9a-f]{64}$")
_SUFFIX = re.compile(r"^\.[a-z0-9]{1,8}$")


@dataclass(frozen=True)
class Asset:
    """One de-identified file: a DICOM instance, a slide, a photograph, a volume or a report.

    ``kind``: ``dicom``, ``slide``, ``photograph``, ``volume`` (NIfTI) or ``report``.
    ``magnification`` is 0 when unknown.
    """

    subject: str
    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    kind: str
    modality: str
    body_part: str
    laterality: str
    stain: str
    magnification: float
    rows: int
    columns: int
    frames: int
    digest: str
    path: Path


@dataclass(frozen=True)
class Link:
    """What a group names: of which subject, in which role, and what (``asset``: its digest)."""

    subject: str
    group: str
    kind: str
    role: str
    target_kind: str
    target: str


class Release:
    """The files of one release. Raises ``ValueError`` when the folder holds none."""

    def __init__(self, folder: Path) -> None:
        if not (folder / "manifest.json").is_file():
            raise ValueError("data-path holds no release: it has no manifest.json")
        self.folder = folder

    @classmethod
    def of(cls, node_config: Mapping[str, object]) -> Release:
        """Return the release that ``context.node_config`` names."""
        return cls(Path(str(node_config["data-path"])))

    def table(
        self, name: str, columns: Collection[str], *, row_number: str | None = None
    ) -> pl.DataFrame:
        """Return columns of a table, and ``subject``, sorted by subject.

        ``row_number`` names a column with the rows' numbers, for ``numbers``.
        """
        wanted = list(dict.fromkeys([SUBJECT, *columns]))
        path = self._table(name, wanted)
        frame = pl.read_parquet(path, columns=wanted, row_index_name=row_number)
        return frame.sort(SUBJECT, maintain_order=True)

    def numbers(
        self, name: str, columns: Sequence[str], rows: NDArray[np.int64]
    ) -> NDArray[np.float16]:
        """Return columns of chosen rows of a table in 16 bits: (rows, columns), NaN where missing.

        A few columns are read at a time, so that memory is that of what is chosen.
        """
        path = self._table(name, columns)
        found = np.empty((len(rows), len(columns)), np.float16)
        height = pl.scan_parquet(path).select(pl.len()).collect().item()
        width = max(1, _AT_ONCE // max(1, height))
        for start in range(0, len(columns), width):
            some = list(columns[start : start + width])
            frame = pl.read_parquet(path, columns=some).select(pl.all().cast(pl.Float32))
            found[:, start : start + width] = frame.to_numpy()[rows]
        return found

    def _table(self, name: str, columns: Sequence[str]) -> Path:
        path = self.folder / "tables" / f"{name}.parquet"
        if not NAME.match(name) or not path.is_file():
            raise ValueError(f"the release has no table {name!r}")
        known = pl.read_parquet_schema(path)
        for column in columns:
            if column not in known:
                raise ValueError(f"table {name!r} has no column {column!r}")
        return path

    def assets(
        self,
        *,
        kind: str | Collection[str] | None = None,
        modality: str | Collection[str] | None = None,
        sop_class_uid: str | None = None,
    ) -> tuple[Asset, ...]:
        """Return the assets like this, in the index's order (by subject)."""
        frame = self._part("assets.parquet")
        if frame is None:
            return ()
        if kind is not None:
            kinds = [kind] if isinstance(kind, str) else list(kind)
            frame = frame.filter(pl.col("kind").is_in(kinds))
        if modality is not None:
            wanted = [modality] if isinstance(modality, str) else list(modality)
            frame = frame.filter(pl.col("modality").is_in(wanted))
        if sop_class_uid is not None:
            frame = frame.filter(pl.col("sop_class_uid") == sop_class_uid)
        return tuple(self._asset(row) for row in frame.iter_rows(named=True))

    def observations(self, system: str, code: str) -> pl.DataFrame:
        """Return the observations with a code: ``subject``, ``number``, ``value``, ``time``, ..."""
        frame = self._part("observations.parquet")
        if frame is None:
            raise ValueError("the release has no observations")
        return frame.filter((pl.col("system") == system) & (pl.col("code") == code))

    def groups(self, kind: str | None = None) -> dict[str, tuple[Link, ...]]:
        """Return the links of each group, by the group's name; none without groups."""
        frame = self._part("groups.parquet")
        found: dict[str, list[Link]] = defaultdict(list)
        if frame is not None:
            for row in frame.iter_rows(named=True):
                if kind is None or row["kind"] == kind:
                    found[row["group"]].append(Link(**row))
        return {name: tuple(links) for name, links in sorted(found.items())}

    def _part(self, name: str) -> pl.DataFrame | None:
        path = self.folder / name
        return pl.read_parquet(path) if path.is_file() else None

    def _asset(self, row: Mapping[str, Any]) -> Asset:
        digest, suffix = str(row["digest"]), str(row["suffix"])
        if not _DIGEST.match(digest) or not _SUFFIX.match(suffix):
            raise ValueError("the index of assets names a file that can't be one")
        values = {name: row[name] for name in Asset.__dataclass_fields__ if name != "path"}
        return Asset(**values, path=self.folder / "assets" / f"{digest}{suffix}")


def series(assets: Iterable[Asset]) -> dict[str, tuple[Asset, ...]]:
    """Return the assets of each series, by its UID; what has none, by its digest."""
    found: dict[str, list[Asset]] = defaultdict(list)
    for asset in assets:
        found[asset.series_uid or asset.digest].append(asset)
    return {uid: tuple(some) for uid, some in sorted(found.items())}


def by_subject(assets: Iterable[Asset]) -> dict[str, tuple[Asset, ...]]:
    """Return the assets of each subject."""
    found: dict[str, list[Asset]] = defaultdict(list)
    for asset in assets:
        found[asset.subject].append(asset)
    return {subject: tuple(some) for subject, some in sorted(found.items())}


def linked(
    links: Sequence[Link], assets: Mapping[str, Asset], role: str | None = None
) -> tuple[Asset, ...]:
    """Return the assets that a group links, in a role if one is given. ``assets``: by digest."""
    return tuple(
        assets[link.target]
        for link in links
        if link.target_kind == "asset"
        and link.target in assets
        and (role is None or link.role == role)
    )


def is_held_out(subject: str, fraction: float, seed: int) -> bool:
    """Say whether a subject is held out: by SHA-256 of seed and subject, so the same everywhere.

    The same release gives the same split to everyone, nobody held out is trained on, and all that
    is known of a patient is on one side.
    """
    digest = hashlib.sha256(f"{seed}:{subject}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64
