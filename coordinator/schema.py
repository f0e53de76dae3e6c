"""The coordinator's tables, for SQLAlchemy Core. The migrations beside it create them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
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

consortium = Table(
    "consortium",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("address", String(255), nullable=False, doc="host:port that invitations name"),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

# ---- registry ----------------------------------------------------------------------------------

invitations = Table(
    "invitations",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("name", String(64), nullable=False),
    Column("token_hash", String(64), nullable=False, doc="SHA-256; the token itself is not kept"),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("used_at", DateTime(timezone=True), nullable=True),
)

members = Table(
    "members",
    metadata,
    Column("role", String(16), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("signing_key", String(44), nullable=False),
    Column("steward_key", String(44), nullable=False, doc="empty for a researcher"),
    Column("joined_at", DateTime(timezone=True), nullable=False),
    Column("revoked_at", DateTime(timezone=True), nullable=True),
    Column("seen_at", DateTime(timezone=True), nullable=True),
    Column("ledger_sequence", BigInteger, nullable=True, doc="newest head seen; sites only"),
    Column("ledger_hash", LargeBinary, nullable=True),
    Column("releases", LargeBinary, nullable=True, doc="Releases message; sites only"),
)

certificates = Table(
    "certificates",
    metadata,
    Column("serial", String(40), primary_key=True, doc="hexadecimal"),
    Column("role", String(16), nullable=False),
    Column("name", String(64), nullable=False, index=True),
    Column("issued_at", DateTime(timezone=True), nullable=False),
    Column("not_after", DateTime(timezone=True), nullable=False),
)

documents = Table(
    "documents",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("kind", String(16), nullable=False, doc="roster or project"),
    Column("name", String(64), nullable=False, doc="the project's name; the consortium's"),
    Column("version", Integer, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("state", String(16), nullable=False, doc="proposed, published or superseded"),
    Column("updated_at", DateTime(timezone=True), nullable=False),
)

heads = Table(
    "heads",
    metadata,
    Column("site", String(64), primary_key=True),
    Column("tree_size", BigInteger, nullable=False),
    Column("envelope", LargeBinary, nullable=False, doc="DSSE; the newest head of its ledger"),
)

# ---- jobs --------------------------------------------------------------------------------------

jobs = Table(
    "jobs",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("nonce", String(32), nullable=False, unique=True),
    Column("envelope", LargeBinary, nullable=False),
    Column("researcher", String(64), nullable=False),
    Column("project", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("reason", Text, nullable=False),
    Column("submitted_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True), nullable=True),
    Column("result", LargeBinary, nullable=True, doc="JobResult message without receipts"),
)

job_sites = Table(
    "job_sites",
    metadata,
    Column("job", String(64), ForeignKey("jobs.digest"), primary_key=True),
    Column("site", String(64), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("code", String(64), nullable=False),
    Column("sentence", Text, nullable=False),
)

replies = Table(
    "replies",
    metadata,
    Column("job", String(64), ForeignKey("jobs.digest"), primary_key=True),
    Column("site", String(64), primary_key=True),
    Column("task", String(64), primary_key=True),
    Column("payload", LargeBinary, nullable=False, doc="statistics only; empty for training"),
    Column("receipt", LargeBinary, nullable=False, doc="DSSE envelope"),
)

job_events = Table(
    "job_events",
    metadata,
    Column("job", String(64), ForeignKey("jobs.digest"), primary_key=True),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("event", LargeBinary, nullable=False, doc="JobEvent message"),
)

# ---- models ------------------------------------------------------------------------------------

models = Table(
    "models",
    metadata,
    Column("job", String(64), ForeignKey("jobs.digest"), primary_key=True),
    Column("digest", String(64), nullable=False, index=True),
    Column("project", String(64), nullable=False, index=True),
    Column("record", LargeBinary, nullable=False, doc="ModelRecord message, of a list"),
)
