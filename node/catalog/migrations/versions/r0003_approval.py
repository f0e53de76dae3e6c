"""What waits for a steward, what stewards decided, and jobs that a backup forgot."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of stewards, inbox and decisions, and of what the ledger remembers."""
    op.create_table(
        "ledger_marks",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_ledger_marks")),
    )
    op.create_table(
        "forgotten_jobs",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_forgotten_jobs")),
    )
    op.create_table(
        "stewards",
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_stewards")),
    )
    op.create_table(
        "inbox",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("what", sa.String(16), nullable=False),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("job", sa.String(64), nullable=False),
        sa.Column("task", sa.String(64), nullable=False),
        sa.Column("reasons", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("arrived_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("payload", sa.LargeBinary(), nullable=True),
        sa.Column("tensors_digest", sa.String(64), server_default="", nullable=False),
        sa.Column("tensors_size", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("entry", sa.Text(), server_default="", nullable=False),
        sa.Column("seconds", sa.Float(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.digest"], name=op.f("fk_inbox_job_jobs")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_inbox")),
        sa.UniqueConstraint("subject", name=op.f("uq_inbox_subject")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_inbox_job"), "inbox", ["job"])
    op.create_table(
        "decisions",
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("subject", "key_id", name=op.f("pk_decisions")),
    )


def downgrade() -> None:
    """What waits can't be expressed in the older catalogue."""
    raise NotImplementedError
