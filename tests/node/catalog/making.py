"""Assets, observations and consents made up for tests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from node.catalog.rows import AssetRow
from node.home import NodeHome
from node.intake.clinical import Kind, SourceRow, columns
from node.intake.quality import Finding
from node.intake.vault import Vault

if TYPE_CHECKING:
    import polars as pl

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TODAY = NOW.date()


def asset(number: int, subject: str, home: NodeHome | None = None, **values: Any) -> AssetRow:
    """An asset, in the vault if a home is given."""
    data = f"asset {number} {sorted(values.items())}".encode()
    given: dict[str, Any] = {
        "digest": hashlib.sha256(data).hexdigest(),
        "subject": subject,
        "study_uid": "2.25.1",
        "series_uid": "2.25.2",
        "sop_instance_uid": f"2.25.3{number}",
        "sop_class_uid": "1.2",
        "modality": "CT",
        "body_part": "CHEST",
        "manufacturer": "ACME",
        "rows": 1,
        "columns": 1,
        "frames": 1,
        "size_bytes": len(data),
        "ingested_at": NOW,
    }
    row = AssetRow(**given | values)
    if home is not None:
        Vault(home).put(row.digest, data, row.suffix)
    return row


@dataclass
class Records:
    """Rows of a source, in batches."""

    rows: Mapping[Kind, Sequence[tuple[Any, ...]]] = field(default_factory=dict)
    batch: int = 3

    def batches(self, kind: Kind) -> Iterator[pl.DataFrame]:
        """Yield the rows of a kind."""
        import polars as pl

        rows = self.rows.get(kind, ())
        for at in range(0, len(rows), self.batch):
            yield pl.DataFrame(rows[at : at + self.batch], schema=columns(kind), orient="row")


def source(name: str = "epic", digest: str = "1" * 64, kind: str = "fhir") -> SourceRow:
    """A source of records."""
    return SourceRow(name, kind, digest, NOW)


def consent(
    subject: str,
    *purposes: str,
    basis: str = "consent",
    starts: date | None = None,
    ends: date | None = None,
) -> tuple[Any, ...]:
    """A consent; its days are moved already."""
    return (subject, basis, list(purposes), starts, ends)


def observation(
    subject: str,
    code: str,
    number: float | None = None,
    value: str | None = None,
    unit: str = "",
    time: datetime | None = None,
) -> tuple[Any, ...]:
    """An observation; its time is moved already."""
    return (subject, code, number, value, unit, time)


def finding(rule: str = "no-value", where: str = "Observation", count: int = 1) -> Finding:
    """Something that was wrong."""
    return Finding(rule, where, count)
