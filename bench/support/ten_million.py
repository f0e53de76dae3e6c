"""A release of 10,000,000 rows at one site, and what it takes to work a question out of it.

The release is written as ``release create`` writes one; only who is in which set is written down
without being worked out: everybody is in all of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

ROWS, COLUMNS, BINS = 10_000_000, 10, 20
NAMES = [f"x{i}" for i in range(COLUMNS)]
DIGEST = "0" * 64


def write(home: Path) -> None:
    """Write the release."""
    import numpy as np
    import polars as pl

    from node.catalog.manifest import MEMBERSHIP, SUBJECT
    from node.home import NodeHome

    folder = NodeHome(home).create().release(DIGEST)
    (folder / "tables").mkdir(parents=True)
    generator = np.random.default_rng(1)
    subjects = pl.int_range(ROWS, eager=True).cast(pl.String)
    columns = {name: generator.uniform(0, 100, ROWS).round(4) for name in NAMES}
    pl.DataFrame({SUBJECT: subjects, **columns}).write_parquet(
        folder / "tables" / "table.parquet", compression="lz4"
    )
    inside = np.ones(ROWS, dtype=np.bool_)
    pl.DataFrame(
        {
            SUBJECT: subjects,
            "cell": np.zeros(ROWS, dtype=np.int32),
            **{f"variable:{name}": inside for name in NAMES},
        }
    ).write_parquet(folder / MEMBERSHIP, compression="lz4")


def work(home: Path) -> dict[str, float]:
    """Work out mean, variance and histogram of all columns, from the files; return what it took."""
    import polars as pl

    from contract.dictionary import Variable
    from contract.work import Statistic, StatisticsWork
    from node.catalog.manifest import (
        Declaration,
        DeclaredVariable,
        Grid,
        ReleaseColumn,
        ReleaseManifest,
    )
    from node.catalog.rows import ReleaseRow
    from node.config import NodeSettings
    from node.gate import exact
    from node.gate.policy import Policy
    from node.home import NodeHome
    from node.work.statistics import ColumnCache, work_out
    from tests.contract.world import World

    grid = Grid(minimum=0, maximum=100, bins=BINS)
    declaration = Declaration(
        minimum_cohort=20,
        minimum_cell=10,
        cells=(((),),),
        variables=tuple(
            DeclaredVariable(name=n, by={"moments": (), "histogram": ()}, grid=grid) for n in NAMES
        ),
    )
    manifest = ReleaseManifest(
        name="table",
        table="table",
        columns=tuple(ReleaseColumn(name=n, type="number", minimum=0, maximum=100) for n in NAMES),
        rows=ROWS,
        subjects=ROWS,
        declaration=declaration,
        files=(),
    )
    variables = tuple(
        Variable(name=n, kind="number", minimum=0, maximum=100, bins=BINS) for n in NAMES
    )
    project = World().project().model_copy(update={"variables": variables, "table": "table"})
    ask = tuple(Statistic(kind=k, variable=n) for k in ("moments", "histogram") for n in NAMES)
    question = StatisticsWork(ask=ask)
    row = ReleaseRow(DIGEST, "table", manifest, ROWS, datetime.now(UTC), None)
    cache = ColumnCache(NodeSettings().work.column_cache_bytes)
    plan = exact.plan(question, project, declaration)
    pl.DataFrame({"x": [1.0]}).lazy().collect()  # a node has read releases before
    before = time.perf_counter()
    parts = work_out(NodeHome(home), row, project, question, cache, Policy(), plan)
    seconds = time.perf_counter() - before
    if any(part is None or part.groups[""].n != ROWS for part in parts):
        raise SystemExit("the answer is not of all rows")
    peak = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
    return {"rows10m_s": round(seconds, 2), "rows10m_mb": round(int(peak) * 1024 / 1e6)}


def measure(home: Path) -> dict[str, float]:
    """Write the release and work in processes of their own; return the figures."""
    root = Path(__file__).resolve().parent.parent.parent
    said = ""
    for step in ("write", "work"):
        code = (
            "import json, pathlib, sys; from bench.support import ten_million as t; "
            f"print(json.dumps(t.{step}(pathlib.Path(sys.argv[1]))))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(home)],
            cwd=root,
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        said = done.stdout
    found: dict[str, float] = json.loads(said)
    return found
