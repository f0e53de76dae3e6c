"""What answers with noise cost, and the answers themselves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of the privacy account, with its one pool."""
    pools = op.create_table(
        "privacy_pools",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("ledger_sequence", sa.BigInteger(), nullable=False),
        sa.Column("ledger_hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_privacy_pools")),
    )
    op.bulk_insert(pools, [{"name": "node", "ledger_sequence": -1, "ledger_hash": ""}])
    op.create_table(
        "privacy_spends",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("pool", sa.String(64), nullable=False),
        sa.Column("consortium", sa.String(64), nullable=False),
        sa.Column("project", sa.String(64), nullable=False),
        sa.Column("release", sa.String(64), nullable=False),
        sa.Column("question", sa.String(160), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("spent_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["pool"], ["privacy_pools.name"], name=op.f("fk_privacy_spends_pool_privacy_pools")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_privacy_spends")),
    )
    op.create_index("ix_privacy_spends_pool", "privacy_spends", ["pool", "spent_at"], unique=False)
    op.create_table(
        "privacy_draws",
        sa.Column("question", sa.String(64), nullable=False),
        sa.Column("epsilon", sa.Float(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("drawn_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("question", name=op.f("pk_privacy_draws")),
    )


def downgrade() -> None:
    """What was spent can't be forgotten."""
    raise NotImplementedError
