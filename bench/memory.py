"""Resident memory of an idle node and an idle coordinator, and of both after work.

Idle: linked, with a release and no question yet. A recipe's worker is a process of its own.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from bench.support.federation import PROJECT, Bench, federation, report, wait_for_releases
from researcher import Consortium, histogram, mean

SITES = ("a", "b")


def table(site: str, folder: Path) -> Path:
    """Write a site's CSV."""
    path = folder / f"{site}.csv"
    path.write_text("pid,x\n" + "".join(f"{site}{i},{i % 100}\n" for i in range(10_000)))
    return path


def resident_mb(bench: Bench, name: str) -> float:
    """Return a server's resident memory, in MB (10^6 bytes)."""
    status = Path(f"/proc/{bench.pid(name)}/status").read_text()
    kilobytes = int(next(li for li in status.splitlines() if li.startswith("VmRSS")).split()[1])
    return round(kilobytes * 1024 / 1e6, 1)


def main() -> None:
    """Run and report."""
    schema = (
        'table = "table"\nsubject = "pid"\n[[columns]]\nname = "pid"\ntype = "identifier"\n'
        '[[columns]]\nname = "x"\ntype = "number"\n'
    )
    project = (
        'kinds = ["statistics"]\ntable = "table"\n'
        '[[variables]]\nname = "x"\nkind = "number"\nminimum = 0\nmaximum = 100\nbins = 20\n'
    )
    with (
        federation(SITES, table, schema, project) as bench,
        Consortium.connect(bench.researcher) as consortium,
    ):
        wait_for_releases(consortium, SITES)
        time.sleep(5)
        idle = {
            "node_idle_mb": resident_mb(bench, SITES[0]),
            "coordinator_idle_mb": resident_mb(bench, "coordinator"),
        }
        for _ in range(50):
            consortium.statistics(PROJECT, [mean("x"), histogram("x")])
        after = {
            "node_after_statistics_mb": resident_mb(bench, SITES[0]),
            "coordinator_after_statistics_mb": resident_mb(bench, "coordinator"),
        }
    report({**idle, **after}, ["linked, one release, no question asked; then 50 questions"])


if __name__ == "__main__":
    main()
