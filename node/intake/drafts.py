"""Reports as drafts: cleaned text that nobody may use before a person has read and released it.

A draft is ``vault/reports/<id>.json``. A released one is an asset of kind ``report``, a JSON file
that says whose the text is, so that two patients' same words stay two reports.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from contract.errors import DataError, NotFound
from foundation.files import private_folder, read_bounded, storage_errors, sync_folder
from node.catalog.rows import AssetRow
from node.home import NodeHome
from node.intake.vault import Vault

if TYPE_CHECKING:
    from node.catalog.store import Catalog

MAX_BYTES = 16 * 2**20
SUFFIX = ".json"
_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class StoredDraft:
    """A report that waits for its release."""

    subject: str
    """Pseudonym."""
    text: str
    made_at: datetime

    @property
    def identifier(self) -> str:
        """16 hexadecimal digits of subject and text."""
        return hashlib.sha256(f"{self.subject}\n{self.text}".encode()).hexdigest()[:16]

    @property
    def digest(self) -> str:
        """SHA-256 of the text in UTF-8: what a person read is what is released."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the draft as its file holds it."""
        values = {"subject": self.subject, "text": self.text, "made_at": self.made_at.isoformat()}
        return json.dumps(values, ensure_ascii=False).encode()

    def released(self) -> bytes:
        """Return the asset that the draft becomes."""
        return json.dumps(
            {"subject": self.subject, "text": self.text}, ensure_ascii=False, sort_keys=True
        ).encode()


class Drafts:
    """The drafts of one node."""

    def __init__(self, home: NodeHome) -> None:
        self._folder = private_folder(home.vault / "reports")

    def keep(self, staged: Path, identifier: str) -> None:
        """Give a staged draft its name, durably."""
        with storage_errors(self._folder):
            staged.replace(self._folder / f"{identifier}{SUFFIX}")
            sync_folder(self._folder)

    def list(self) -> list[StoredDraft]:
        """Return the drafts, oldest first."""
        found = [self._read(path) for path in self._folder.glob(f"*{SUFFIX}")]
        return sorted(found, key=lambda draft: (draft.made_at, draft.identifier))

    def find(self, start: str) -> StoredDraft:
        """Return the one draft whose identifier begins with ``start``; else ``NotFound``."""
        names = [path for path in self._folder.glob(f"*{SUFFIX}") if path.stem.startswith(start)]
        if len(names) != 1 or not start:
            what = "No draft's" if not names else "More than one draft's"
            raise NotFound(f"{what} identifier begins with that; see `report list`.")
        return self._read(names[0])

    def remove(self, draft: StoredDraft) -> None:
        """Delete a draft that was released or rejected."""
        with storage_errors(self._folder):
            (self._folder / f"{draft.identifier}{SUFFIX}").unlink(missing_ok=True)
            sync_folder(self._folder)

    def _read(self, path: Path) -> StoredDraft:
        try:
            values = json.loads(read_bounded(path, MAX_BYTES))
            draft = StoredDraft(
                values["subject"], values["text"], datetime.fromisoformat(values["made_at"])
            )
        except (ValueError, KeyError, TypeError):
            raise DataError("A draft in the vault was changed; take its report in anew.") from None
        if not _ID.fullmatch(path.stem) or draft.identifier != path.stem:
            raise DataError("A draft in the vault was changed; take its report in anew.")
        return draft


def release_draft(
    home: NodeHome, catalog: Catalog, drafts: Drafts, draft: StoredDraft, now: datetime
) -> str:
    """Make a draft that a person has read an asset; return its digest. Doing it twice is fine."""
    data = draft.released()
    digest = hashlib.sha256(data).hexdigest()
    Vault(home).put(digest, data, SUFFIX)
    if digest not in catalog.get_assets([digest]):
        row = AssetRow(
            digest=digest,
            subject=draft.subject,
            study_uid="",
            series_uid="",
            sop_instance_uid="",
            sop_class_uid="",
            modality="",
            body_part="",
            manufacturer="",
            rows=0,
            columns=0,
            frames=0,
            size_bytes=len(data),
            ingested_at=now,
            kind="report",
            suffix=SUFFIX,
        )
        catalog.record([row], [])
    drafts.remove(draft)
    return digest
