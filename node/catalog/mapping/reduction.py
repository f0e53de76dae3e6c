"""One value for each subject out of its rows, taken batch by batch, in any order and any parts.

Every way to take a value is a minimum or maximum over a total order, a count or an "or", so that
the batches in which the rows come make no difference. Ties in time go by value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from node.catalog.manifest import SUBJECT
from node.catalog.mapping.compilation import Gathered
from node.catalog.mapping.expressions import Observed
from node.intake.measures import conversion, measure

if TYPE_CHECKING:
    import polars as pl

COMPACTED_ROWS: Final = 500_000
"""Rows of partial results that are held before they are reduced again."""


class Reduction:
    """What is gathered for one leaf. Memory is that of one row for each subject."""

    def __init__(self, gathered: Gathered, anchors: pl.DataFrame | None) -> None:
        """``anchors``: subject and ``_anchor`` (Date), for a leaf with a window."""
        self.gathered = gathered
        self.rows = 0
        """Rows met of its codes or column, whatever became of them."""
        self.in_other_units = 0
        """Numbers left out because their unit can't be converted."""
        self._anchors = anchors
        self._parts: list[pl.DataFrame] = []
        self._held = 0

    def add_observations(self, batch: pl.DataFrame) -> None:
        """Take a batch of observations of any codes."""
        import polars as pl

        leaf = self.gathered.leaf
        assert isinstance(leaf, Observed)
        rows = batch.filter(pl.col("code").is_in(list(leaf.codes)))
        self.rows += rows.height
        if leaf.values:
            rows = rows.filter(pl.col("value").is_in(list(leaf.values)))
        if leaf.without:
            rows = rows.filter(~pl.col("value").is_in(list(leaf.without)).fill_null(False))
        if leaf.value == "number" and leaf.take not in ("count", "any"):
            value = self._in_unit(rows, leaf)
        elif leaf.value == "date":
            value = rows["time"].dt.date()
        else:
            value = rows["value"]
        whose = rows["subject"].alias(SUBJECT)
        self._add(pl.DataFrame([whose, value.alias("value"), rows["time"]]))

    def add_rows(self, rows: pl.DataFrame) -> None:
        """Take a batch of a table's rows: subject, value and time."""
        self.rows += rows.height
        self._add(rows)

    def _add(self, rows: pl.DataFrame) -> None:
        import polars as pl

        leaf = self.gathered.leaf
        if leaf.within is not None:
            assert self._anchors is not None
            window = leaf.within
            rows = rows.join(self._anchors, on=SUBJECT, how="inner")
            days = (pl.col("time").dt.date() - pl.col("_anchor")).dt.total_days()
            rows = rows.filter(days.is_not_null())
            if window.from_days is not None:
                rows = rows.filter(days >= window.from_days)
            if window.to_days is not None:
                rows = rows.filter(days <= window.to_days)
        if leaf.take == "count":
            rows = rows.select(SUBJECT, value=pl.lit(1.0), time=pl.lit(None, pl.Datetime("us")))
        elif leaf.take == "any":
            rows = rows.select(SUBJECT, value=pl.lit(True), time=pl.lit(None, pl.Datetime("us")))
        else:
            rows = rows.select(SUBJECT, "value", "time").filter(pl.col("value").is_not_null())
        if rows.height:
            self._parts.append(self._reduced(rows))
            self._held += self._parts[-1].height
            if self._held > COMPACTED_ROWS and len(self._parts) > 1:
                self._compact()

    def result(self) -> pl.DataFrame | None:
        """Return subject and value, one row each; None if there is none."""
        if not self._parts:
            return None
        self._compact()
        return self._parts[0].select(SUBJECT, "value")

    def _compact(self) -> None:
        import polars as pl

        whole = self._reduced(pl.concat(self._parts))
        self._parts, self._held = [whole], 0

    def _reduced(self, rows: pl.DataFrame) -> pl.DataFrame:
        import polars as pl

        take = self.gathered.leaf.take
        if take in ("first", "last"):
            later = take == "last"
            ordered = rows.sort(
                pl.col("time").is_null(), "time", "value", descending=[False, later, later]
            )
            return ordered.unique(SUBJECT, keep="first", maintain_order=True)
        ways = {"count": pl.col("value").sum(), "maximum": pl.col("value").max()}
        way = ways.get(str(take), pl.col("value").min())
        return rows.group_by(SUBJECT).agg(way, pl.col("time").min())

    def _in_unit(self, rows: pl.DataFrame, leaf: Observed) -> pl.Series:
        import polars as pl

        wanted = measure(leaf.unit)
        found = {
            unit: conversion(measure(unit), wanted, leaf.molar_mass)
            for unit in rows["unit"].unique()
        }
        known = {unit: by for unit, by in found.items() if by is not None}
        number, unit = pl.col("number"), pl.col("unit")
        factors = {u: by.factor for u, by in known.items()}
        offsets = {u: by.offset for u, by in known.items()}
        converted = rows.select(
            value=number * unit.replace_strict(factors, default=None, return_dtype=pl.Float64)
            + unit.replace_strict(offsets, default=None, return_dtype=pl.Float64)
        )["value"]
        lost = converted.is_null() & rows["number"].is_not_null()
        self.in_other_units += int(lost.sum())
        return converted
