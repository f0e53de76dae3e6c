"""Tables of whom we answer, of jobs, of what stewards decide, and of what answers cost."""

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
    String,
    Table,
    Text,
)

from node.catalog.schema.tables import metadata

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
