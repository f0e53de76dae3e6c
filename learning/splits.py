"""Who of a release's subjects is held out: by a digest of the subject, or by a table's column.

What a column says is how a published split, or one that a hospital made, is kept to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import polars as pl

from learning.releases import NAME, SUBJECT, Release, is_held_out

TEST = "test"
"""What a split's column says of those held out."""
Scalar = bool | int | float | str


@dataclass(frozen=True)
class Split:
    """The fraction held out and the seed; or a table and its column, which then decides alone."""

    held_out: float
    seed: int
    table: str = ""
    column: str = ""

    @classmethod
    def read(cls, config: Mapping[str, Scalar], table: str = "") -> Self:
        """Return what a run config says; ``ValueError`` names the key that doesn't fit.

        ``table`` is the recipe's own; where it has none the config names one, ``split-table``.
        """
        split = cls(
            float(config["held-out"]),
            int(config["split-seed"]),
            table or str(config.get("split-table", "")),
            str(config.get("split-column", "")),
        )
        if not 0 <= split.held_out < 1:
            raise ValueError("held-out: must be 0 or above and below 1")
        if split.column and not NAME.match(split.column):
            raise ValueError("split-column: is not a name")
        if split.column and not NAME.match(split.table):
            raise ValueError("split-table: is not a name")
        return split

    @property
    def scores(self) -> bool:
        """Whether anybody is held out."""
        return self.held_out > 0 or bool(self.column)

    def of(self, release: Release) -> Callable[[str], bool]:
        """Return what says of a subject whether it is held out.

        By a column: who has a row that says ``test``; everybody else is trained on.
        """
        if not self.column:
            return lambda subject: is_held_out(subject, self.held_out, self.seed)
        frame = release.table(self.table, [self.column])
        test = frame.filter(frame[self.column].cast(pl.String) == TEST)
        held_out = set(test[SUBJECT].cast(pl.String))
        return held_out.__contains__
