"""DICOM PS3.15 2026d Table E.1-1: what the basic profile and its options do to each attribute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from node.deid import facts

EDITION = "2026d"
OPTIONS = (
    "retain_safe_private",
    "retain_uids",
    "retain_device_identity",
    "retain_institution_identity",
    "retain_patient_characteristics",
    "retain_longitudinal_full_dates",
    "retain_longitudinal_modified_dates",
    "clean_descriptors",
    "clean_structured_content",
    "clean_graphics",
)


@dataclass(frozen=True)
class Row:
    """A row of the table: an attribute, its action in the basic profile, and those of options."""

    tag: str
    """Eight hexadecimal digits, ``x`` for any; or ``private``."""
    name: str
    basic: str
    options: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """The table, to be asked by tag."""

    rows: tuple[Row, ...]
    exact: Mapping[int, Row]
    repeating: tuple[Row, ...]
    private: Row

    def row(self, tag: int) -> Row | None:
        """Return the row for ``tag``, or None if the table doesn't name it."""
        if (tag >> 16) & 1:
            return self.private
        found = self.exact.get(tag)
        if found is None and (tag >> 24) in (0x50, 0x60):
            digits = f"{tag:08x}"
            return next((row for row in self.repeating if _matches(row.tag, digits)), None)
        return found


@cache
def e1_1() -> Table:
    """Return the table."""
    rows = tuple(
        Row(record["tag"], record["name"], record["basic"], facts.options(record["options"]))
        for record in facts.records("ps3_15_e1_1.csv")
    )
    return Table(
        rows,
        {int(row.tag, 16): row for row in rows if "x" not in row.tag and row.tag != "private"},
        tuple(row for row in rows if "x" in row.tag),
        next(row for row in rows if row.tag == "private"),
    )


def _matches(pattern: str, digits: str) -> bool:
    return all(p in ("x", d) for p, d in zip(pattern, digits, strict=True))
