"""Latency of a question in statistics: three nodes, 100,000 rows x 10 numbers each.

Count, mean, standard deviation and a 20-bin histogram of all columns, in one question; from the
researcher's call to its return, gate and ledger on.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np

from bench.support.federation import PROJECT, federation, percentile, report, wait_for_releases
from researcher import Consortium, histogram, mean

SITES, ROWS, COLUMNS, ASKS, WARM_UP = ("a", "b", "c"), 100_000, 10, 200, 5
NAMES = [f"x{i}" for i in range(COLUMNS)]


def table(site: str, folder: Path) -> Path:
    """Write a site's CSV."""
    generator = np.random.default_rng(ord(site))
    values = generator.uniform(0, 100, (ROWS, COLUMNS))
    path = folder / f"{site}.csv"
    with path.open("w") as file:
        file.write(",".join(["pid", *NAMES]) + "\n")
        for i, row in enumerate(values):
            file.write(f"{site}{i}," + ",".join(f"{v:.6f}" for v in row) + "\n")
    return path


def main() -> None:
    """Run and report."""
    columns = "".join(f'\n[[columns]]\nname = "{n}"\ntype = "number"\n' for n in NAMES)
    schema = 'table = "table"\nsubject = "pid"\n[[columns]]\nname = "pid"\ntype = "identifier"\n'
    variables = "".join(
        f'\n[[variables]]\nname = "{n}"\nkind = "number"\nminimum = 0\nmaximum = 100\nbins = 20\n'
        for n in NAMES
    )
    project = 'kinds = ["statistics"]\ntable = "table"\n' + variables
    grids = [option for n in NAMES for option in ("--grid", f"{n}=0:100:20")]
    ask = [*(mean(n) for n in NAMES), *(histogram(n) for n in NAMES)]
    with (
        federation(SITES, table, schema + columns, project, declared=grids) as bench,
        Consortium.connect(bench.researcher) as consortium,
    ):
        wait_for_releases(consortium, SITES)
        milliseconds: list[float] = []
        for number in range(ASKS + WARM_UP):
            before = time.perf_counter()
            answer = consortium.statistics(PROJECT, ask, minimum_sites=len(SITES))
            if number >= WARM_UP:
                milliseconds.append((time.perf_counter() - before) * 1000)
        if any(part.part.lane != "exact" for part in answer.parts):
            raise SystemExit("the answer is not exact")
        if answer[0].moments().n != ROWS * len(SITES):
            raise SystemExit("the answer is not of all rows")
    report(
        {
            "p50_ms": round(percentile(milliseconds, 0.50), 1),
            "p99_ms": round(percentile(milliseconds, 0.99), 1),
            "asks": ASKS,
        },
        [f"{len(SITES)} nodes x {ROWS} rows x {COLUMNS} columns, {len(ask)} statistics a question"],
    )


if __name__ == "__main__":
    main()
