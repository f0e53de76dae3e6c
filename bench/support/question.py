"""A question over three nodes, 100,000 rows x 10 numbers each.

Count, mean, standard deviation and a 20-bin histogram of all columns, in one question; from the
researcher's call to its return, gate and ledger on.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from bench.support.federation import PROJECT, federation, percentile, wait_for_releases
from contract.work import Statistic
from researcher import Consortium, histogram, mean

SITES, ROWS, COLUMNS, ASKS, WARM_UP = ("a", "b", "c"), 100_000, 10, 200, 5
NAMES = [f"x{i}" for i in range(COLUMNS)]
GRIDS = [option for n in NAMES for option in ("--grid", f"{n}=0:100:20")]
"""Options of ``release create``."""
SCHEMA = (
    'table = "table"\nsubject = "pid"\n[[columns]]\nname = "pid"\ntype = "identifier"\n'
    + "".join(f'\n[[columns]]\nname = "{n}"\ntype = "number"\n' for n in NAMES)
)
PROJECT_TEXT = 'kinds = ["statistics"]\ntable = "table"\n' + "".join(
    f'\n[[variables]]\nname = "{n}"\nkind = "number"\nminimum = 0\nmaximum = 100\nbins = 20\n'
    for n in NAMES
)


def write_table(site: str, folder: Path, rows: int = ROWS) -> Path:
    """Write a site's CSV."""
    generator = np.random.default_rng(list(site.encode()))
    values = generator.uniform(0, 100, (rows, COLUMNS))
    path = folder / f"{site}.csv"
    with path.open("w") as file:
        file.write(",".join(["pid", *NAMES]) + "\n")
        for i, row in enumerate(values):
            file.write(f"{site}{i}," + ",".join(f"{v:.6f}" for v in row) + "\n")
    return path


def asked() -> list[Statistic]:
    """Return the question."""
    return [*(mean(n) for n in NAMES), *(histogram(n) for n in NAMES)]


def ask(consortium: Consortium, sites: int, rows: int, asks: int) -> list[float]:
    """Ask so often, after some to warm up; return the seconds of each."""
    seconds: list[float] = []
    for number in range(asks + WARM_UP):
        before = time.perf_counter()
        answer = consortium.statistics(PROJECT, asked(), minimum_sites=sites)
        if number >= WARM_UP:
            seconds.append(time.perf_counter() - before)
    if any(part.part.lane != "exact" for part in answer.parts):
        raise SystemExit("the answer is not exact")
    if answer[0].moments().n != rows * sites:
        raise SystemExit("the answer is not of all rows")
    return seconds


def measure() -> dict[str, float]:
    """Return what a question takes."""
    with (
        federation(SITES, write_table, SCHEMA, PROJECT_TEXT, declared=GRIDS) as bench,
        Consortium.connect(bench.researcher) as consortium,
    ):
        wait_for_releases(consortium, SITES)
        seconds = ask(consortium, len(SITES), ROWS, ASKS)
    return {
        "p50_ms": round(1000 * percentile(seconds, 0.50), 1),
        "p99_ms": round(1000 * percentile(seconds, 0.99), 1),
    }
