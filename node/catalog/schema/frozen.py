"""Tables of what the subjects allow, of releases, and of what stewards approved for training."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from node.catalog.schema.tables import metadata

# ---- what the subjects allow -------------------------------------------------------------------

consents = Table(
    "consents",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("source", Integer, ForeignKey("sources.number"), nullable=False, index=True),
    Column("subject", Integer, ForeignKey("subjects.number"), nullable=False, index=True),
    Column("basis", Text, nullable=False),
    Column("starts", Date, nullable=True, doc="first day, shifted"),
    Column("ends", Date, nullable=True, doc="last day, shifted"),
)

consent_purposes = Table(
    "consent_purposes",
    metadata,
    Column("consent", Integer, ForeignKey("consents.number"), primary_key=True),
    Column("purpose", String(128), primary_key=True),
)

withdrawals = Table(
    "withdrawals",
    metadata,
    Column("subject", String(64), primary_key=True, doc="pseudonym"),
    Column("withdrawn_at", DateTime(timezone=True), nullable=False),
    Column("released", Boolean, nullable=False, doc="whether a release held the subject"),
    Column("block", Integer, nullable=True, doc="those left out of releases together"),
)

# ---- what we froze -----------------------------------------------------------------------------

releases = Table(
    "releases",
    metadata,
    Column("digest", String(64), primary_key=True, doc="SHA-256 of the manifest"),
    Column("name", String(64), nullable=False, index=True),
    Column("manifest_json", Text, nullable=False),
    Column("subjects", BigInteger, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("revoked_at", DateTime(timezone=True), nullable=True),
    Column("revoked_reason", String(32), nullable=False, server_default="", doc="empty: steward's"),
)

release_index = Table(
    "release_index",
    metadata,
    Column("release", String(64), ForeignKey("releases.digest"), primary_key=True),
    Column("population", String(64), nullable=False, index=True, doc="whom it was made of"),
    Column("seals", LargeBinary, nullable=False, doc="16 bytes for each subject, sorted"),
)

omissions = Table(
    "omissions",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("population", String(64), nullable=False, doc="of the releases that omit the subject"),
    Column("block", Integer, nullable=False, doc="of withdrawals, which the omission hides"),
    Column("subject", String(64), nullable=False, doc="pseudonym"),
    UniqueConstraint("population", "subject", name="uq_omissions_population"),
)

grants = Table(
    "grants",
    metadata,
    Column("release", String(64), ForeignKey("releases.digest"), primary_key=True),
    Column("consortium", String(64), primary_key=True),
    Column("project", String(64), primary_key=True),
    Column("granted_at", DateTime(timezone=True), nullable=False),
)

recipes = Table(
    "recipes",
    metadata,
    Column("bundle", String(64), primary_key=True, doc="SHA-256 of the FAB"),
    Column("name", String(200), nullable=False),
    Column("version", String(64), nullable=False),
    Column("lock_json", Text, nullable=False, doc="dependencies with versions and digests"),
    Column("approved_at", DateTime(timezone=True), nullable=False),
    Column("withdrawn_at", DateTime(timezone=True), nullable=True),
)

weights = Table(
    "weights",
    metadata,
    Column("digest", String(64), primary_key=True, doc="SHA-256 of the safetensors file"),
    Column("name", String(200), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("tensors", Integer, nullable=False, doc="how many"),
    Column("approved_at", DateTime(timezone=True), nullable=False),
    Column("withdrawn_at", DateTime(timezone=True), nullable=True),
)

drafts = Table(
    "drafts",
    metadata,
    Column("job", String(64), primary_key=True),
    Column("name", String(128), primary_key=True, doc="of the file, as the recipe wrote it"),
    Column("digest", String(64), nullable=False, index=True, doc="SHA-256 of the file"),
    Column("kind", String(16), nullable=False, doc="dicom-seg, png, nifti or json"),
    Column("size_bytes", BigInteger, nullable=False),
    Column("asset", String(64), nullable=False, index=True, doc="SHA-256 of what it is of"),
    Column("release", String(64), nullable=False),
    Column("recipe", String(64), nullable=False, doc="SHA-256 of the FAB"),
    Column("made_at", DateTime(timezone=True), nullable=False),
)
