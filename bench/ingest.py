"""Intake and catalogue at size: a million instances from synthetic headers.

``count_ms`` is the slowest count of several kinds of cohort, the first one of a process included,
and ``resident_mb`` the highest resident memory of the process that counts. Each figure is a
function of ``bench.support``; ``--only`` runs some of them.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from bench.support.catalogue import ask_alone, fill
from bench.support.federation import report
from bench.support.receiving import receiving

Figure = Callable[[Path, int], tuple[dict[str, float], list[str]]]


def catalogue(root: Path, count: int) -> tuple[dict[str, float], list[str]]:
    """Count cohorts of a large catalogue, and of one whose every instance is a study."""
    figures: dict[str, float] = {}
    notes = []
    worst = 0.0
    resident = 0.0
    for name, one_each in (("archive", False), ("one instance a study", True)):
        home = root / name.replace(" ", "-")
        rate = fill(home, count, one_each=one_each)
        times, memory = ask_alone(home)
        opened = times.pop("open_ms")
        shown = ", ".join(f"{what} {taken:.0f} ms" for what, taken in times.items())
        notes.append(f"{name}: {count} instances ({rate:.0f}/s into it), open {opened:.0f} ms")
        notes.append(f"{name}: {shown}; {memory:.0f} MB")
        if not one_each:
            worst, resident = max(times.values()), memory
            figures["open_ms"] = round(opened, 1)
        shutil.rmtree(home)
    return {"count_ms": round(worst, 1), "resident_mb": round(resident, 1), **figures}, notes


FIGURES: dict[str, Figure] = {"catalogue": catalogue, "receiving": receiving}


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--instances", type=int, default=1_000_000)
    parser.add_argument("--only", action="append", choices=sorted(FIGURES))
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="bench-ingest-"))
    figures: dict[str, float] = {}
    notes: list[str] = []
    try:
        for name in options.only or FIGURES:
            some, said = FIGURES[name](root, options.instances)
            figures |= some
            notes += said
        report(figures, notes)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
