"""The catalogue's tables, for SQLAlchemy Core. The migrations beside it create them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# ---- what we hold ------------------------------------------------------------------------------

clinical_tables = Table(
    "clinical_tables",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("digest", String(64), nullable=False, doc="SHA-256 of the Parquet file in the vault"),
    Column("schema_json", Text, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("subjects", BigInteger, nullable=False),
    Column("source_digest", String(64), nullable=False, doc="keyed digest of the file taken in"),
    Column("ingested_at", DateTime(timezone=True), nullable=False),
)

assets = Table(
    "assets",
    metadata,
    Column("digest", String(64), primary_key=True, doc="SHA-256 of the de-identified file"),
    Column("subject", String(64), nullable=False, index=True, doc="pseudonym"),
    Column("study_uid", String(64), nullable=False, index=True, doc="remapped"),
    Column("series_uid", String(64), nullable=False),
    Column("sop_instance_uid", String(64), nullable=False, unique=True),
    Column("sop_class_uid", String(64), nullable=False),
    Column("modality", String(16), nullable=False, index=True),
    Column("body_part", String(64), nullable=False),
    Column("manufacturer", String(64), nullable=False),
    Column("rows", Integer, nullable=False, doc="pixels"),
    Column("columns", Integer, nullable=False, doc="pixels"),
    Column("frames", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("ingested_at", DateTime(timezone=True), nullable=False),
)

intake = Table(
    "intake",
    metadata,
    Column("source_digest", String(64), primary_key=True, doc="keyed digest of the file taken in"),
    Column("outcome", String(16), nullable=False, doc="accepted, duplicate or quarantined"),
    Column("reason", String(64), nullable=False),
    Column("asset", String(64), nullable=True),
    Column("time", DateTime(timezone=True), nullable=False),
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

# ---- whom we answer, and what we were asked ----------------------------------------------------

consortia = Table(
    "consortia",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("site", String(64), nullable=False),
    Column("address", String(255), nullable=False, doc="host:port of the coordinator"),
    Column("anchor", String(64), nullable=False, doc="our steward's key id"),
    Column("roster", LargeBinary, nullable=True, doc="DSSE envelope believed"),
    Column("joined_at", DateTime(timezone=True), nullable=False),
)

projects = Table(
    "projects",
    metadata,
    Column("consortium", String(64), ForeignKey("consortia.name"), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("envelope", LargeBinary, nullable=False, doc="DSSE envelope believed"),
    Column("version", Integer, nullable=False),
    Column("approved_digest", String(64), nullable=True, doc="what our steward approved"),
    Column("approved_at", DateTime(timezone=True), nullable=True),
)

jobs = Table(
    "jobs",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("consortium", String(64), nullable=False),
    Column("nonce", String(32), nullable=False, unique=True),
    Column("envelope", LargeBinary, nullable=False),
    Column("project", String(64), nullable=False),
    Column("researcher", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("release", String(64), nullable=False),
    Column("state", String(16), nullable=False, index=True, doc="accepted, refused or closed"),
    Column("code", String(64), nullable=False, doc="why refused; empty otherwise"),
    Column("received_at", DateTime(timezone=True), nullable=False),
    Column("closed_at", DateTime(timezone=True), nullable=True),
)

answers = Table(
    "answers",
    metadata,
    Column("job", String(64), ForeignKey("jobs.digest"), primary_key=True),
    Column("task", String(64), primary_key=True),
    Column("ledger_sequence", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("tensors_digest", String(64), nullable=False, doc="empty without tensors"),
    Column("tensors_size", BigInteger, nullable=False, doc="bytes"),
    Column("receipt", LargeBinary, nullable=False),
    Column("received", Boolean, nullable=False, doc="the coordinator has it durably"),
    Column("seconds", Float, nullable=False),
)

Index("ix_answers_open", answers.c.received, answers.c.job)
