"""Tables of what was taken in: files, assets, records, and what a cohort is counted from."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from node.catalog.schema.tables import COUNTER, metadata

FACETS = (
    *("kind", "modality", "body_part", "laterality"),
    *("manufacturer", "device_model", "stain", "magnification"),
)
"""What assets are told apart by when a cohort is counted."""
UNDATED = -1_000_000
"""The day of what has no date."""
CHUNK_BITS = 65_536
"""How many numbers a row of ``postings`` speaks of."""

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
    Column("study_uid", String(64), nullable=False, index=True, doc="remapped; empty without one"),
    Column("series_uid", String(64), nullable=False, doc="empty without one"),
    Column("sop_instance_uid", String(64), nullable=False, doc="empty without one"),
    Column("sop_class_uid", String(64), nullable=False),
    Column("modality", String(16), nullable=False, index=True),
    Column("body_part", String(64), nullable=False),
    Column("manufacturer", String(64), nullable=False),
    Column("rows", Integer, nullable=False, doc="pixels"),
    Column("columns", Integer, nullable=False, doc="pixels"),
    Column("frames", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("ingested_at", DateTime(timezone=True), nullable=False),
    Column("kind", String(16), nullable=False, server_default="dicom"),
    Column("suffix", String(16), nullable=False, server_default=".dcm", doc="of the vault's file"),
    Column("study_date", Date, nullable=True, doc="shifted"),
    Column("laterality", String(16), nullable=False, server_default=""),
    Column("stain", String(64), nullable=False, server_default=""),
    Column("magnification", Float, nullable=False, server_default="0", doc="0: unknown"),
    Column("device_model", String(64), nullable=False, server_default=""),
    Column("facet", Integer, ForeignKey("facets.number"), nullable=True),
)

# Slides and photographs have no instance's UID.
Index(
    "ix_assets_sop_instance_uid",
    assets.c.sop_instance_uid,
    unique=True,
    sqlite_where=assets.c.sop_instance_uid != "",
    postgresql_where=assets.c.sop_instance_uid != "",
)

intake = Table(
    "intake",
    metadata,
    Column("source_digest", String(64), primary_key=True, doc="keyed digest of the file taken in"),
    Column(
        "subject", String(64), primary_key=True, server_default="", doc="pseudonym; empty: unknown"
    ),
    Column("outcome", String(16), nullable=False, doc="accepted, duplicate or quarantined"),
    Column("reason", String(64), nullable=False),
    Column("asset", String(64), nullable=True),
    Column("time", DateTime(timezone=True), nullable=False),
)

subjects = Table(
    "subjects",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("subject", String(64), nullable=False, unique=True, doc="pseudonym"),
    Column("first_seen", DateTime(timezone=True), nullable=False),
)

studies = Table(
    "studies",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("study_uid", String(64), nullable=False, doc="remapped"),
    Column("subject", Integer, ForeignKey("subjects.number"), nullable=False, index=True),
    Column("date", Date, nullable=True, doc="shifted"),
    UniqueConstraint("study_uid", "subject", name="uq_studies_study_uid"),
)

# What a cohort is counted from, kept in step with ``assets`` in the same transactions: the kinds of
# asset, who and what has some of a kind (bits), and a row for each kind, day, subject and study.
facets = Table(
    "facets",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("modality", String(16), nullable=False),
    Column("body_part", String(64), nullable=False),
    Column("laterality", String(16), nullable=False),
    Column("manufacturer", String(64), nullable=False),
    Column("device_model", String(64), nullable=False),
    Column("stain", String(64), nullable=False),
    Column("magnification", Float, nullable=False),
    Column("assets", BigInteger, nullable=False, doc="how many"),
    UniqueConstraint(*FACETS, name="uq_facets_kind"),
)

postings = Table(
    "postings",
    metadata,
    Column("facet", Integer, ForeignKey("facets.number"), nullable=False),
    Column("holds", String(8), nullable=False, doc="subjects or studies"),
    Column("chunk", Integer, nullable=False, doc="which CHUNK_BITS numbers, from 0"),
    Column("bits", LargeBinary, nullable=False, doc="the lowest number first; zlib"),
    PrimaryKeyConstraint("facet", "holds", "chunk", name="pk_postings"),
    sqlite_with_rowid=False,
)

strata = Table(
    "strata",
    metadata,
    Column("facet", Integer, ForeignKey("facets.number"), nullable=False),
    Column("day", Integer, nullable=False, doc="days since 1970, shifted; UNDATED without one"),
    Column("subject", Integer, ForeignKey("subjects.number"), nullable=False),
    Column("study", Integer, nullable=False, doc="0 without one"),
    Column("assets", Integer, nullable=False, doc="how many"),
    PrimaryKeyConstraint("facet", "day", "subject", "study", name="pk_strata"),
    sqlite_with_rowid=False,
)

sources = Table(
    "sources",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("name", String(128), nullable=False, index=True),
    Column("kind", String(32), nullable=False, doc="for example fhir"),
    Column("digest", String(64), nullable=False, doc="keyed digest of the files taken in"),
    Column("current", Boolean, nullable=False, doc="false while it is being written or dropped"),
    Column("rows", BigInteger, nullable=False),
    Column("taken_at", DateTime(timezone=True), nullable=False),
)

terms = Table(
    "terms",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("system", Text, nullable=False, doc="the terminology's URI; empty: our own"),
    Column("code", Text, nullable=False),
    UniqueConstraint("system", "code", name="uq_terms_system"),
)

# What a source holds counts while the source is current.
observations = Table(
    "observations",
    metadata,
    Column("number", COUNTER, primary_key=True),
    Column("source", Integer, ForeignKey("sources.number"), nullable=False, index=True),
    Column("subject", Integer, ForeignKey("subjects.number"), nullable=False),
    Column("term", Integer, ForeignKey("terms.number"), nullable=False),
    Column("value_number", Float, nullable=True),
    Column("value_term", Integer, ForeignKey("terms.number"), nullable=True),
    Column("unit", Text, nullable=False, doc="UCUM"),
    Column(
        "time", BigInteger, nullable=True, doc="seconds since 1970, the hospital's clock, shifted"
    ),
)

Index(
    "ix_observations_term",
    observations.c.term,
    observations.c.subject,
    observations.c.time,
)

reported_studies = Table(
    "reported_studies",
    metadata,
    Column("number", COUNTER, primary_key=True),
    Column("source", Integer, ForeignKey("sources.number"), nullable=False, index=True),
    Column("subject", Integer, ForeignKey("subjects.number"), nullable=False),
    Column("study_uid", String(64), nullable=False, index=True, doc="remapped"),
    Column("time", BigInteger, nullable=True, doc="seconds since 1970, shifted"),
)

findings = Table(
    "findings",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("source", String(128), nullable=False, index=True),
    Column("rule", String(64), nullable=False),
    Column("variable", Text, nullable=False, doc="a variable, or a kind of record"),
    Column("count", BigInteger, nullable=False),
    Column("time", DateTime(timezone=True), nullable=False),
)

groups = Table(
    "groups",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("kind", String(16), nullable=False, doc="lesion or case"),
    Column("subject", String(64), nullable=False, index=True, doc="pseudonym"),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

group_links = Table(
    "group_links",
    metadata,
    Column("group", String(64), ForeignKey("groups.name"), primary_key=True),
    Column("role", String(64), primary_key=True, doc="for example dermoscopy"),
    Column("kind", String(16), primary_key=True, doc="asset, observations or table"),
    Column("target", String(128), primary_key=True, doc="digest, source or table"),
)
