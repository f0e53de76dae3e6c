"""Tables and observations in memory, to map from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from node.catalog.dictionary import Dictionary, parse_dictionary
from node.catalog.mapping.compilation import VaultTable
from node.catalog.mapping.evaluation import Mapped, apply_mapping
from node.catalog.mapping.file import parse_mapping
from node.intake.clinical import columns
from node.intake.schema import parse_schema

Observation = tuple[str, str, float | None, str | None, str, datetime | None]


@dataclass
class MemorySources:
    """What a test has put together."""

    folder: Path
    tables: dict[str, VaultTable] = field(default_factory=dict)
    batches: list[list[Observation]] = field(default_factory=list)

    def add(self, declared: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        """Put a table into the vault, as intake would."""
        schema = parse_schema({"subject": "pid", **declared}, "test")
        types = {
            "integer": pl.Int64,
            "number": pl.Float64,
            "category": pl.String,
            "boolean": pl.Boolean,
            "date": pl.Date,
        }
        named = {c.variable: types[c.type] for c in schema.kept}
        frame = pl.DataFrame(list(rows), schema={"subject": pl.String, **named})
        path = self.folder / f"{schema.table}.parquet"
        frame.write_parquet(path)
        subjects = frame["subject"].n_unique()
        self.tables[schema.table] = VaultTable(schema, path, frame.height, subjects, "0" * 64)

    def table(self, name: str) -> VaultTable | None:
        return self.tables.get(name)

    def observations(self, codes: Sequence[str]) -> Iterator[pl.DataFrame]:
        for batch in self.batches:
            rows = [row for row in batch if row[1] in codes]
            yield pl.DataFrame(rows, schema=columns("observations"), orient="row")


Apply = Callable[..., Mapped]


def map_variables(
    held: MemorySources, variables: list[dict[str, Any]], expressions: dict[str, Any], **keys: Any
) -> Mapped:
    """Apply a mapping given as TOML would give it."""
    dictionary = dictionary_of(variables)
    mapping = parse_mapping({"dictionary": "d", "variables": expressions, **keys}, "test")
    return apply_mapping(dictionary, mapping, held)


def dictionary_of(variables: list[dict[str, Any]]) -> Dictionary:
    return parse_dictionary({"name": "d", "variables": variables}, "test")
