"""A clinical store in memory, and what it was given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from node.intake.clinical import Kind, Rows, SourceRow, columns
from node.intake.quality import Finding


@dataclass
class MemoryStore:
    """Keeps sources as the catalogue would."""

    sources: dict[str, SourceRow] = field(default_factory=dict)
    rows: dict[str, dict[Kind, pl.DataFrame]] = field(default_factory=dict)
    findings: dict[str, tuple[Finding, ...]] = field(default_factory=dict)

    def source_digest(self, name: str) -> str | None:
        row = self.sources.get(name)
        return None if row is None else row.digest

    def replace_source(self, source: SourceRow, rows: Rows, findings: Sequence[Finding]) -> None:
        kinds: tuple[Kind, ...] = ("observations", "consents", "studies")
        self.rows[source.name] = {
            kind: pl.concat([pl.DataFrame(schema=columns(kind)), *rows.batches(kind)])
            for kind in kinds
        }
        self.sources[source.name] = source
        self.findings[source.name] = tuple(findings)

    def kept(self, kind: Kind, name: str = "s") -> list[tuple[Any, ...]]:
        """Return a source's rows of a kind."""
        return self.rows[name][kind].rows()

    def found(self, name: str = "s") -> dict[str, int]:
        """Return how often each rule was broken."""
        counts: dict[str, int] = {}
        for finding in self.findings[name]:
            counts[finding.rule] = counts.get(finding.rule, 0) + finding.count
        return counts
