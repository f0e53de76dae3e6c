"""A regression over three nodes, 100,000 rows each: logistic, 20 numbers beside the intercept.

From the researcher's call to its return, gate and ledger on, until no coefficient moves by 1e-10
of its standard error. ``step_ms`` is that time over the steps of the fit.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from bench.support.federation import PROJECT, federation, percentile, wait_for_releases
from researcher import Consortium

SITES, ROWS, NUMBERS, FITS, WARM_UP = ("a", "b", "c"), 100_000, 20, 5, 1
NAMES = [f"x{i}" for i in range(NUMBERS)]


def table(site: str, folder: Path) -> Path:
    """Write a site's CSV: an outcome that depends on every number a little."""
    generator = np.random.default_rng(ord(site))
    values = generator.normal(0, 1, (ROWS, NUMBERS)).clip(-6, 6).round(4)
    eta = -1 + values @ np.linspace(-0.3, 0.3, NUMBERS)
    ill = generator.random(ROWS) < 1 / (1 + np.exp(-eta))
    path = folder / f"{site}.csv"
    with path.open("w") as file:
        file.write(",".join(["pid", "ill", *NAMES]) + "\n")
        for i, row in enumerate(values):
            file.write(f"{site}{i},{('no', 'yes')[int(ill[i])]}," + ",".join(map(str, row)) + "\n")
    return path


def measure() -> dict[str, float]:
    """Return what a fit takes."""
    columns = '\n[[columns]]\nname = "ill"\ntype = "category"\nlevels = ["no", "yes"]\n'
    ranged = "minimum = -6\nmaximum = 6\n"
    columns += "".join(f'\n[[columns]]\nname = "{n}"\ntype = "number"\n{ranged}' for n in NAMES)
    schema = 'table = "table"\nsubject = "pid"\n[[columns]]\nname = "pid"\ntype = "identifier"\n'
    variables = '\n[[variables]]\nname = "ill"\nkind = "category"\nlevels = ["no", "yes"]\n'
    variables += "".join(f'\n[[variables]]\nname = "{n}"\nkind = "number"\n{ranged}' for n in NAMES)
    project = 'kinds = ["statistics"]\ntable = "table"\n' + variables
    declared = ("--cells", "none", "--analysis", "main=" + ",".join(["ill", *NAMES]))
    with (
        federation(SITES, table, schema + columns, project, declared=declared) as bench,
        Consortium.connect(bench.researcher) as consortium,
    ):
        wait_for_releases(consortium, SITES)
        seconds: list[float] = []
        formula = "ill ~ " + " + ".join(NAMES)
        for number in range(FITS + WARM_UP):
            before = time.perf_counter()
            found = consortium.model(
                PROJECT, formula, "logistic", analysis="main", minimum_sites=len(SITES)
            )
            if number >= WARM_UP:
                seconds.append(time.perf_counter() - before)
        if not found.fit.converged or found.fit.n != ROWS * len(SITES):
            raise SystemExit("the fit is not of all rows, or has not converged")
    return {
        "logistic_s": round(percentile(seconds, 0.5), 2),
        "logistic_step_ms": round(1000 * percentile(seconds, 0.5) / (found.fit.steps + 1), 1),
        "logistic_steps": found.fit.steps + 1,
    }
