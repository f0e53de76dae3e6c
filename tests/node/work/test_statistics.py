"""A site's part of each statistic is the same, however its rows come into memory."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from contract.dictionary import Variable
from contract.statistics.answers import Part, Summary
from contract.work import Statistic, StatisticsWork
from node.catalog.declaring import Minimums, Wishes, declare
from node.catalog.manifest import MEMBERSHIP, SUBJECT, Grid, ReleaseColumn, ReleaseManifest
from node.catalog.membership import Membership
from node.catalog.rows import ReleaseRow
from node.catalog.strata import Categories, Held, StratumWish
from node.gate import exact
from node.gate.policy import Policy
from node.home import NodeHome
from node.work import statistics
from node.work.statistics import ColumnCache, Rows, work_out
from tests.contract.world import World

ROWS, DIGEST, LEVELS = 400, "0" * 64, ("A", "B")
NUMBERS = ("age", "bmi")
VARIABLES = (
    Variable(name="arm", kind="category", levels=LEVELS),
    *(Variable(name=n, kind="number", minimum=0, maximum=100, bins=4) for n in NUMBERS),
)
ASK = (
    *(
        Statistic(kind=kind, variable=name, by=by)
        for name in NUMBERS
        for kind in ("count", "moments", "shape", "histogram")
        for by in (None, "arm")
    ),
    Statistic(kind="levels", variable="arm"),
    Statistic(kind="comoments", variable="age", across=("bmi",)),
    Statistic(kind="crosstab", variable="arm", across=("age",)),
)


def released(home: NodeHome, *, gaps: bool, rows_in_a_group: int) -> ReleaseRow:
    """Write a release whose table lies in small row groups."""
    rng = np.random.default_rng(8)
    numbers = {name: rng.uniform(0, 100, ROWS) for name in NUMBERS}
    if gaps:
        numbers["bmi"][rng.permutation(ROWS)[:37]] = np.nan
    arms = rng.integers(0, 2, ROWS)
    arms[:50] = arms[50:100] = 0
    held: Held = {"arm": Categories(arms.astype(np.int64), LEVELS), **numbers}
    wishes = Wishes(
        strata=[StratumWish("arm")],
        analyses={"complete": ("arm", *NUMBERS)},
        grids={name: Grid(minimum=0, maximum=100, bins=4) for name in NUMBERS},
        minimums=Minimums(),
    )
    subjects = [f"{i:08x}" for i in range(ROWS)]
    declared = declare(held, subjects, wishes)
    folder = home.create().release(DIGEST)
    (folder / "tables").mkdir(parents=True)
    table = {
        SUBJECT: subjects,
        "arm": [LEVELS[i] for i in arms],
        **{name: pl.Series(values).fill_nan(None) for name, values in numbers.items()},
    }
    pl.DataFrame(table).write_parquet(
        folder / "tables" / "trial.parquet", row_group_size=rows_in_a_group
    )
    inside = {f"variable:{name}": held for name, held in declared.variables.items()}
    inside |= {f"analysis:{name}": held for name, held in declared.analyses.items()}
    pl.DataFrame({SUBJECT: subjects, "cell": declared.cells, **inside}).write_parquet(
        folder / MEMBERSHIP
    )
    manifest = ReleaseManifest(
        name="trial",
        table="trial",
        columns=(
            ReleaseColumn(name="arm", type="category", levels=LEVELS),
            *(ReleaseColumn(name=n, type="number") for n in NUMBERS),
        ),
        rows=ROWS,
        subjects=ROWS,
        declaration=declared.declaration,
        files=(),
    )
    return ReleaseRow(DIGEST, "trial", manifest, ROWS, datetime.now(UTC), None)


def parts(home: NodeHome, row: ReleaseRow, cache: ColumnCache) -> list[Part | None]:
    """Work the whole question out."""
    project = World().project().model_copy(update={"variables": VARIABLES, "table": "trial"})
    question = StatisticsWork(ask=ASK, analysis="complete")
    plan = exact.plan(question, project, row.manifest.declaration)
    return work_out(home, row, project, question, cache, Policy(), plan)


class Counting(ColumnCache):
    """Counts how often it is asked who is in a set."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(limit_bytes)
        self.made: Counter[tuple[str, tuple[int, ...]]] = Counter()

    def rows(
        self, release: str, minimums: Minimums, members: Membership, name: str, cells: Sequence[int]
    ) -> Rows:
        self.made[name, tuple(cells)] += 1
        return super().rows(release, minimums, members, name, cells)


def figures(summary: Summary) -> list[float]:
    """All numbers of a summary."""
    return [float(x) for value in dataclasses.astuple(summary) for x in np.ravel(value)]


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("rows_in_a_group", [7, 64, ROWS])
def test_rows_in_blocks_give_the_parts_of_all_rows_at_once(
    tmp_path: Path, gaps: bool, rows_in_a_group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[dict[tuple[str, tuple[int, ...]], slice | NDArray[np.uint8]]] = []

    class Watched(statistics._Exact):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            kept.append(self._rows)

    monkeypatch.setattr(statistics, "_Exact", Watched)
    home = NodeHome(tmp_path / "node")
    row = released(home, gaps=gaps, rows_in_a_group=rows_in_a_group)
    whole = parts(home, row, ColumnCache(1 << 30))
    assert not any(kept)
    cache = Counting(0)
    blocks = parts(home, row, cache)
    # Who is in a set is made out once for all blocks, though the cache keeps nothing.
    together = len({frozenset(statistic.variables) for statistic in ASK})
    assert cache.made
    assert max(cache.made.values()) <= together
    masks = [one for some in kept for one in some.values() if not isinstance(one, slice)]
    assert masks
    assert {one.nbytes for one in masks} == {-(-ROWS // 8)}
    assert len([part for part in whole if part is not None and part.groups]) >= len(ASK) - 2
    for a, b in zip(whole, blocks, strict=True):
        assert (a is None) == (b is None)
        if a is None or b is None:
            continue
        assert a.groups.keys() == b.groups.keys()
        for level, summary in a.groups.items():
            assert figures(b.groups[level]) == pytest.approx(figures(summary), rel=1e-12, abs=1e-9)
