"""With which sites a release was summed: for good, so that no two sums can be subtracted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, insert, select
from sqlalchemy.exc import IntegrityError

from node.catalog import schema


@dataclass(frozen=True)
class SumPartners:
    """The sites of each release's secure sums with small sites."""

    engine: Engine

    def settle(self, release: str, sites: str, now: datetime) -> str:
        """Return the sites of a release's sums: those of the first time, which are kept durably."""
        table = schema.sum_partners
        known = select(table.c.sites).where(table.c.release == release)
        try:
            with self.engine.begin() as connection:
                found = connection.execute(known).scalar_one_or_none()
                if found is None:
                    connection.execute(
                        insert(table).values(release=release, sites=sites, settled_at=now)
                    )
                    return sites
        except IntegrityError:  # somebody else settled them at this moment
            with self.engine.begin() as connection:
                found = connection.execute(known).scalar_one()
        return str(found)
