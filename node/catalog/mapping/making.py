"""A mapping applied to this node: from its tables and observations to a table in the vault."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from contract.dictionary import Variable
from contract.errors import DataError, UsageError
from node.catalog.dictionary import Dictionary
from node.catalog.manifest import SUBJECT
from node.catalog.mapping.compilation import VaultTable
from node.catalog.mapping.coverage import CoverageReport, findings_of
from node.catalog.mapping.evaluation import Mapped, apply_mapping
from node.catalog.mapping.file import Mapping
from node.catalog.rows import TableRow
from node.catalog.store import Catalog
from node.home import NodeHome
from node.intake.clinical import ClinicalStore, SourceRow, Staging
from node.intake.schema import TableSchema
from node.intake.sorting import SortedTable

if TYPE_CHECKING:
    import polars as pl


class ObservationReader(Protocol):
    """Where observations are read from."""

    def observations(self, codes: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Yield the observations of some codes (``clinical.OBSERVATIONS``), in any order."""


@dataclass(frozen=True)
class NodeSources:
    """What this node holds, for a mapping."""

    catalog: Catalog
    home: NodeHome
    reader: ObservationReader

    def table(self, name: str) -> VaultTable | None:
        """Return a table in the vault; ``DataError`` if its file is gone."""
        row = self.catalog.get_table(name)
        if row is None:
            return None
        path = self.home.vault / "tables" / f"{row.digest}.parquet"
        if not path.is_file():
            raise DataError(f"Table {name!r} is not in the vault; `ingest` it again.")
        schema = TableSchema.model_validate(json.loads(row.schema_json))
        return VaultTable(schema, path, row.rows, row.subjects, row.digest)

    def observations(self, codes: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Yield the catalogue's observations of some codes."""
        return self.reader.observations(codes)


@dataclass(frozen=True)
class MadeTable:
    """What a mapping made."""

    mapped: Mapped
    row: TableRow | None
    """None on a dry run."""
    unchanged: bool


def make_table(
    dictionary: Dictionary,
    mapping: Mapping,
    sources: NodeSources,
    store: ClinicalStore | None,
    *,
    now: datetime,
    needs_all: bool = True,
    dry_run: bool = False,
    observe: Callable[[int, int], None] = lambda done, total: None,
) -> MadeTable:
    """Put the mapped table into the vault and the catalogue, in place of one of its name.

    ``DataError`` when no variable can be derived, there is no subject, or, if it ``needs_all``, a
    required variable isn't covered. The caller holds the vault (``only_intake``).
    """
    name = mapping.table or dictionary.table
    check_target(mapping, name)
    mapped = apply_mapping(dictionary, mapping, sources, observe=observe)
    if mapped.frame.width < 2:
        raise DataError("No variable can be derived; see `mapping check`.")
    if not mapped.subjects:
        raise DataError("There is no subject in what the mapping names.")
    lacking = CoverageReport.of(dictionary.name, mapped).lacking if needs_all else ()
    if lacking:
        raise DataError(f"Required variable {lacking[0]} is not covered; see `mapping check`.")
    if dry_run:
        return MadeTable(mapped, None, False)
    catalog, home = sources.catalog, sources.home
    known = catalog.get_table(name)
    if known is not None and not json.loads(known.schema_json).get("mapped"):
        raise UsageError(f"Table {name} was taken in, not mapped; name another in the mapping.")
    table = SortedTable(home.vault / "tables")
    try:
        table.add(mapped.frame)
        digest = table.finish()
    finally:
        table.clear()
    schema = schema_of(dictionary, mapped, name)
    text = json.dumps(schema.model_dump(mode="json"), sort_keys=True)
    said = hashlib.sha256(f"{dictionary.model_dump_json()}\n{mapping!r}".encode()).hexdigest()
    row = TableRow(name, digest, text, mapped.subjects, mapped.subjects, said, now)
    unchanged = known is not None and (known.digest, known.schema_json) == (digest, text)
    if store is not None:
        source = SourceRow(f"mapping {name}", "mapping", said, now)
        store.replace_source(source, Staging(None), findings_of(mapped, name).findings())
    catalog.put_table(row)
    if known is not None and known.digest not in {one.digest for one in catalog.list_tables()}:
        (home.vault / "tables" / f"{known.digest}.parquet").unlink(missing_ok=True)
    return MadeTable(mapped, row, unchanged)


def check_target(mapping: Mapping, name: str) -> None:
    """Raise ``UsageError`` for a mapping that would replace what it reads."""
    if name in mapping.tables:
        raise UsageError(f"The mapping reads table {name} and would replace it; set its `table`.")


def schema_of(dictionary: Dictionary, mapped: Mapped, name: str) -> TableSchema:
    """Return the declared schema of a mapped table."""
    columns = [_column(v) for v in dictionary.variables if v.name in mapped.frame.columns]
    return TableSchema.model_validate(
        {"table": name, "subject": SUBJECT, "rows": "one", "mapped": True, "columns": columns}
    )


def _column(variable: Variable) -> dict[str, Any]:
    number = "integer" if variable.whole else "number"
    declared: dict[str, Any] = {
        "name": variable.name,
        "type": number if variable.kind == "number" else "category",
        "levels": variable.levels,
        "codes": {level: code.model_dump() for level, code in variable.codes.items()},
    }
    if variable.kind == "number":
        declared |= {
            "unit": variable.unit,
            "minimum": variable.minimum,
            "maximum": variable.maximum,
            "levels": (),
            "codes": {},
        }
    if variable.coded is not None:
        declared |= variable.coded.model_dump()
    return declared
