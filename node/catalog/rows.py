"""What the catalogue's methods take and return: a frozen dataclass for each table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from node.catalog.manifest import ReleaseManifest


@dataclass(frozen=True)
class TableRow:
    """A clinical table in the vault."""

    name: str
    digest: str
    schema_json: str
    rows: int
    subjects: int
    source_digest: str
    ingested_at: datetime


@dataclass(frozen=True)
class AssetRow:
    """A de-identified file in the vault: ``<digest><suffix>``."""

    digest: str
    subject: str
    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    modality: str
    body_part: str
    manufacturer: str
    rows: int
    columns: int
    frames: int
    size_bytes: int
    ingested_at: datetime
    kind: str = "dicom"
    """What it is: dicom, slide, photograph, volume or report."""
    suffix: str = ".dcm"
    study_date: date | None = None
    """Moved by the subject's own number of days."""
    laterality: str = ""
    stain: str = ""
    magnification: float = 0.0
    """Of the objective; 0 when unknown."""
    device_model: str = ""


@dataclass(frozen=True)
class IntakeRow:
    """What became of one file: ``accepted``, ``duplicate`` or ``quarantined``, and why.

    A picture that doesn't say whose it is can be several patients', as a blank mask is: then it has
    a row for each.
    """

    source_digest: str
    outcome: str
    reason: str
    asset: str | None
    time: datetime
    subject: str = ""
    """Pseudonym; empty where it isn't known."""


@dataclass(frozen=True)
class MemberRow:
    """An asset of a group; both are of one subject, or it isn't linked."""

    group: str
    subject: str
    role: str
    """As what: for example ``dermoscopy``."""
    asset: str
    time: datetime
    kind: str = "case"
    """What the group is: ``case`` or ``lesion``."""


@dataclass(frozen=True)
class ReleaseRow:
    """A frozen release."""

    digest: str
    name: str
    manifest: ReleaseManifest
    subjects: int
    created_at: datetime
    revoked_at: datetime | None
    revoked_reason: str = ""
    """Why, if not by the steward's own decision: ``withdrawal``."""


@dataclass(frozen=True)
class GrantRow:
    """A release that a project may ask."""

    release: str
    consortium: str
    project: str
    granted_at: datetime
