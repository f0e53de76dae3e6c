"""Files taken in are known by content and subject: one picture can be several patients'."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table anew with the subject in its key; DICOM says itself whose it is."""
    op.rename_table("intake", "intake_before")
    op.create_table(
        "intake",
        sa.Column("source_digest", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(64), nullable=False, server_default=""),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(64), nullable=False),
        sa.Column("asset", sa.String(64), nullable=True),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
    )
    op.execute(
        "INSERT INTO intake (source_digest, subject, outcome, reason, asset, time)"
        " SELECT i.source_digest, COALESCE(a.subject, ''), i.outcome, i.reason, i.asset, i.time"
        " FROM intake_before i LEFT JOIN assets a ON a.digest = i.asset AND a.kind <> 'dicom'"
    )
    op.drop_table("intake_before")
    with op.batch_alter_table("intake") as intake:
        intake.create_primary_key("pk_intake", ["source_digest", "subject"])


def downgrade() -> None:
    """Two subjects' same picture can't be expressed in the older catalogue."""
    raise NotImplementedError
