"""Four release folders of the trial, as a recipe finds them: the real rows, test pseudonyms."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Any

import polars as pl

from demo import data

_TYPES = {"integer": pl.Int64, "number": pl.Float64, "category": pl.String}
_BOOLEAN = {"0": False, "1": True}


def columns_of_schema() -> list[dict[str, Any]]:
    """The declared columns of demo/trial.toml."""
    columns: list[dict[str, Any]] = tomllib.loads(data.SCHEMA.read_text())["columns"]
    return columns


def trial(site: str) -> pl.DataFrame:
    """A hospital's cells as text without the blanks around them, null where missing."""
    data.prepare(data.CACHE, print)
    missing = tomllib.loads(data.SCHEMA.read_text())["missing"]
    cells = pl.read_csv(data.CACHE / site / "trial.csv", infer_schema=False)
    stripped = cells.with_columns(pl.all().str.strip_chars())
    return stripped.with_columns(
        pl.when(pl.all().is_in(missing)).then(None).otherwise(pl.all()).name.keep()
    )


def typed(site: str) -> pl.DataFrame:
    """A hospital's table under its variables' names and types, with a pseudonymous subject."""
    cells = trial(site)
    columns = [
        pl.Series(
            "subject", [hashlib.sha256(f"key:{p}".encode()).hexdigest()[:32] for p in cells["PID"]]
        )
    ]
    for column in columns_of_schema():
        values = cells[column["name"]]
        if column["type"] == "identifier":
            continue
        if column["type"] == "boolean":
            values = values.replace_strict(_BOOLEAN, return_dtype=pl.Boolean)
        else:
            values = values.cast(_TYPES[column["type"]])
        columns.append(values.alias(column["rename"]))
    return pl.DataFrame(columns)


def write_release(folder: Path, frame: pl.DataFrame, table: str = "trial") -> Path:
    """Write what a recipe is shown of a release."""
    (folder / "tables").mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    frame.write_parquet(folder / "tables" / f"{table}.parquet")
    return folder


def write_releases(folder: Path) -> dict[str, Path]:
    """Write the releases of the four hospitals."""
    return {
        hospital.name: write_release(folder / hospital.name, typed(hospital.name))
        for hospital in data.HOSPITALS
    }
