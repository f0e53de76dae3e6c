"""Whether an answer's time tells how many are asked about: nobody, or as many as are too few.

One node, 2,000 subjects. 500 questions with noise about a cohort of nobody and 500 about one of
``k - 1``, in turn, each asked once; the two samples of times are compared by Kolmogorov and
Smirnov. ``ks_p`` far above 0.01 says that they can't be told apart.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from scipy.stats import ks_2samp

from bench.support.federation import PROJECT, federation, percentile, report, wait_for_releases
from contract.cohorts import Cohort
from researcher import Consortium, count

ROWS, ASKS, WARM_UP = 2000, 500, 10
FEW = 4
"""One below the smallest cohort of the policy ``open-research``."""
EPSILON = 0.01


def table(site: str, folder: Path) -> Path:
    """Write a site's CSV: ``FEW`` subjects have a high ``x``, nobody has a higher one."""
    path = folder / f"{site}.csv"
    rows = (f"{site}{i},{900 if i < FEW else i % 500}" for i in range(ROWS))
    path.write_text("pid,x\n" + "\n".join(rows) + "\n")
    return path


def main() -> None:
    """Run and report."""
    schema = (
        'table = "table"\nsubject = "pid"\n[[columns]]\nname = "pid"\ntype = "identifier"\n'
        '[[columns]]\nname = "x"\ntype = "number"\n'
    )
    project = (
        'kinds = ["statistics"]\ntable = "table"\n'
        '[[variables]]\nname = "x"\nkind = "number"\nminimum = 0\nmaximum = 1000\nbins = 10\n'
    )
    taken: dict[str, list[float]] = {"nobody": [], "few": []}
    with (
        federation(("a",), table, schema, project) as bench,
        Consortium.connect(bench.researcher) as consortium,
    ):
        wait_for_releases(consortium, ("a",))
        for number in range(ASKS + WARM_UP):
            for name, least in (("nobody", 901), ("few", 501)):
                cohort = Cohort(variable="x", at_least=least + number / (ASKS + WARM_UP) * 90)
                before = time.perf_counter()
                consortium.statistics(
                    PROJECT, [count("x")], cohort=cohort, lane="dp", epsilon=EPSILON
                )
                if number >= WARM_UP:
                    taken[name].append((time.perf_counter() - before) * 1000)
    tested = ks_2samp(taken["nobody"], taken["few"])
    report(
        {
            "ks_p": round(float(tested.pvalue), 3),
            "ks_statistic": round(float(tested.statistic), 3),
            "nobody_p50_ms": round(percentile(taken["nobody"], 0.5), 1),
            "few_p50_ms": round(percentile(taken["few"], 0.5), 1),
        },
        [f"{ASKS} questions each, {FEW} subjects or none"],
    )


if __name__ == "__main__":
    main()
