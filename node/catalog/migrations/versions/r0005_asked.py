"""Jobs are found by who asked them when: each question counts those of the last hour."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the indexes."""
    op.create_index("ix_jobs_researcher", "jobs", ["consortium", "researcher", "received_at"])
    op.create_index("ix_jobs_project", "jobs", ["consortium", "project", "received_at"])


def downgrade() -> None:
    """Drop them."""
    op.drop_index("ix_jobs_researcher", "jobs")
    op.drop_index("ix_jobs_project", "jobs")
