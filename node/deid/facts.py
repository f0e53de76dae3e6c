"""The standard's tables, which lie beside this module as CSV files."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path


def records(name: str) -> Iterator[dict[str, str]]:
    """Yield the rows of a table; lines that begin with # say where it is from."""
    text = Path(__file__).with_name(name).read_text()
    yield from csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))


def options(text: str) -> dict[str, str]:
    """Return a row's actions by option."""
    return dict(option.split("=", 1) for option in text.split())
