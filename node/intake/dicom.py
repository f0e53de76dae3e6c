"""De-identified DICOM files in the vault, by content."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path

from foundation.files import private_folder, sync_folder, write_durably
from node.catalog.rows import AssetRow
from node.deid.engine import Deidentified
from node.home import NodeHome


class Vault:
    """The folder of assets: ``vault/assets/<aa>/<sha256>.dcm``."""

    def __init__(self, home: NodeHome) -> None:
        self._folder = private_folder(home.vault / "assets")
        self._made: set[str] = set()

    def path(self, digest: str) -> Path:
        """Where the asset with this SHA-256 lies."""
        return self._folder / digest[:2] / f"{digest}.dcm"

    def put(self, digest: str, data: bytes) -> None:
        """Keep an asset, durably; one that is there already was written whole."""
        path = self.path(digest)
        if digest[:2] not in self._made:
            private_folder(path.parent)
            sync_folder(self._folder)
            self._made.add(digest[:2])
        if not path.exists():
            write_durably(path, data)


def asset_row(result: Deidentified, now: datetime) -> AssetRow:
    """Return the catalogue's row for a de-identified file."""
    return AssetRow(
        digest=hashlib.sha256(result.data).hexdigest(),
        subject=result.subject,
        study_uid=result.study_uid,
        series_uid=result.series_uid,
        sop_instance_uid=result.sop_instance_uid,
        sop_class_uid=result.sop_class_uid,
        modality=result.modality,
        body_part=result.body_part,
        manufacturer=result.manufacturer,
        rows=result.rows,
        columns=result.columns,
        frames=result.frames,
        size_bytes=len(result.data),
        ingested_at=now,
    )
