"""The registry of models."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "models",
        sa.Column("job", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("project", sa.String(length=64), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.digest"], name=op.f("fk_models_job_jobs")),
        sa.PrimaryKeyConstraint("job", name=op.f("pk_models")),
    )
    with op.batch_alter_table("models", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_models_digest"), ["digest"], unique=False)
        batch_op.create_index(batch_op.f("ix_models_project"), ["project"], unique=False)


def downgrade() -> None:
    op.drop_table("models")
