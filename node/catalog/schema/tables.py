"""What all tables of the catalogue share: how their constraints are named."""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer, MetaData

COUNTER = BigInteger().with_variant(Integer, "sqlite")
"""Of tables with more rows than an integer counts."""
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)
