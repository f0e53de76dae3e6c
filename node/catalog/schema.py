"""The catalogue's tables, for SQLAlchemy Core. The migrations beside it create them."""

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
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

FACETS = (
    *("kind", "modality", "body_part", "laterality"),
    *("manufacturer", "device_model", "stain", "magnification"),
)
"""What assets are told apart by when a cohort is counted."""
UNDATED = -1_000_000
"""The day of what has no date."""
CHUNK_BITS = 65_536
"""How many numbers a row of ``postings`` speaks of."""

_COUNTER = BigInteger().with_variant(Integer, "sqlite")

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
    Column("number", _COUNTER, primary_key=True),
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
    Column("number", _COUNTER, primary_key=True),
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

Index("ix_jobs_researcher", jobs.c.consortium, jobs.c.researcher, jobs.c.received_at)
Index("ix_jobs_project", jobs.c.consortium, jobs.c.project, jobs.c.received_at)

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

ledger_marks = Table(
    "ledger_marks",
    metadata,
    Column("name", String(32), primary_key=True, doc="what was read of the ledger"),
    Column("sequence", BigInteger, nullable=False, doc="up to this entry"),
    Column("hash", String(64), nullable=False, doc="of its line"),
)

forgotten_jobs = Table(
    "forgotten_jobs",
    metadata,
    Column("digest", String(64), primary_key=True, doc="answered by the ledger, in no other table"),
)

# ---- what stewards decide one by one -----------------------------------------------------------

stewards = Table(
    "stewards",
    metadata,
    Column("key_id", String(64), primary_key=True, doc="SHA-256 of the public key"),
    Column("name", String(64), nullable=False),
    Column("envelope", LargeBinary, nullable=False, doc="DSSE, by the first steward"),
    Column("added_at", DateTime(timezone=True), nullable=False),
    Column("removed_at", DateTime(timezone=True), nullable=True),
)

inbox = Table(
    "inbox",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("what", String(16), nullable=False, doc="job or output"),
    Column("subject", String(64), nullable=False, unique=True, doc="what is decided on"),
    Column("job", String(64), ForeignKey("jobs.digest"), nullable=False, index=True),
    Column("task", String(64), nullable=False, doc="of an output"),
    Column("reasons", Text, nullable=False, doc="why it waits: codes between commas"),
    Column("state", String(16), nullable=False, doc="waiting, approved, refused or over"),
    Column("arrived_at", DateTime(timezone=True), nullable=False),
    Column("told_at", DateTime(timezone=True), nullable=True, doc="the steward was told"),
    Column("payload", LargeBinary, nullable=True, doc="an output that is held"),
    Column("tensors_digest", String(64), nullable=False, server_default=""),
    Column("tensors_size", BigInteger, nullable=False, server_default="0", doc="bytes"),
    Column("entry", Text, nullable=False, server_default="", doc="JSON, of an output"),
    Column("seconds", Float, nullable=False, server_default="0"),
    sqlite_autoincrement=True,
)

decisions = Table(
    "decisions",
    metadata,
    Column("subject", String(64), primary_key=True, doc="a job, an output or a bundle"),
    Column("key_id", String(64), primary_key=True, doc="the steward's"),
    Column("envelope", LargeBinary, nullable=False, doc="DSSE"),
    Column("made_at", DateTime(timezone=True), nullable=False),
)

# ---- what answers with noise cost --------------------------------------------------------------

privacy_pools = Table(
    "privacy_pools",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("ledger_sequence", BigInteger, nullable=False, doc="taken up to here; -1: nothing"),
    Column("ledger_hash", String(64), nullable=False, doc="of that entry"),
)

privacy_spends = Table(
    "privacy_spends",
    metadata,
    Column("id", String(32), primary_key=True, doc="random; the ledger's too"),
    Column("pool", String(64), ForeignKey("privacy_pools.name"), nullable=False),
    Column("consortium", String(64), nullable=False),
    Column("project", String(64), nullable=False),
    Column("release", String(64), nullable=False),
    Column("question", String(160), nullable=False, doc="its digest, or job and task"),
    Column("event", Text, nullable=False, doc="JSON: an epsilon, or a noise multiplier"),
    Column("spent_at", DateTime(timezone=True), nullable=False),
)

Index("ix_privacy_spends_pool", privacy_spends.c.pool, privacy_spends.c.spent_at)

privacy_draws = Table(
    "privacy_draws",
    metadata,
    Column("question", String(64), primary_key=True, doc="SHA-256 of its one form"),
    Column("epsilon", Float, nullable=False),
    Column("answer", LargeBinary, nullable=False, doc="with its noise"),
    Column("drawn_at", DateTime(timezone=True), nullable=False),
)

sum_partners = Table(
    "sum_partners",
    metadata,
    Column("release", String(64), primary_key=True),
    Column("sites", Text, nullable=False, doc="JSON: consortium and sites"),
    Column("settled_at", DateTime(timezone=True), nullable=False),
)
