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
    """Count cohorts of a large catalogue, a mixture like that of a hospital's archive."""
    times, memory, notes = _counted(root, count, one_each=False)
    opened = times.pop("open_ms")
    figures = {"count_ms": max(times.values()), "resident_mb": memory, "open_ms": opened}
    return {name: round(value, 1) for name, value in figures.items()}, notes


def single(root: Path, count: int) -> tuple[dict[str, float], list[str]]:
    """Count cohorts of a catalogue at its worst: every instance is a study of its own."""
    times, _, notes = _counted(root, count, one_each=True)
    del times["open_ms"]
    return {"single_count_ms": round(max(times.values()), 1)}, notes


def _counted(
    root: Path, count: int, *, one_each: bool
) -> tuple[dict[str, float], float, list[str]]:
    home = root / "catalogue"
    rate = fill(home, count, one_each=one_each)
    times, memory = ask_alone(home)
    shutil.rmtree(home)
    shown = ", ".join(f"{what.replace('_ms', '')} {taken:.0f} ms" for what, taken in times.items())
    return times, memory, [f"{count} instances, taken in at {rate:.0f}/s; {shown}"]


FIGURES: dict[str, Figure] = {"catalogue": catalogue, "receiving": receiving}
OTHERS: dict[str, Figure] = {"single": single}
"""Only when asked for."""


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--instances", type=int, default=1_000_000)
    parser.add_argument("--only", action="append", choices=sorted(FIGURES | OTHERS))
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="bench-ingest-"))
    figures: dict[str, float] = {}
    notes: list[str] = []
    try:
        for name in options.only or FIGURES:
            some, said = (FIGURES | OTHERS)[name](root, options.instances)
            figures |= some
            notes += said
        report(figures, notes)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
