"""What Table E.1-1 names, read from the project's own copy of its facts."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

_TABLE = Path(__file__).resolve().parents[2] / "node" / "deid" / "ps3_15_e1_1.csv"


@cache
def basic_actions() -> dict[str, str]:
    """Return the basic profile's action by tag, eight hexadecimal digits in capitals."""
    with _TABLE.open() as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return {row["tag"].upper(): row["basic"] for row in rows}
