"""Statistics: a question, a regression, many sites, many rows.

``p50_ms``: of a question over three nodes (``bench/support/question.py``). ``logistic_s``: of a
regression over three nodes (``regression.py``). ``rows10m_s``, ``rows10m_mb``: 10,000,000 rows at
one site (``ten_million.py``). ``sites400_s``, ``sites400_coordinator_mb``: a question over 400
sites (``many.py``), which takes some minutes to bring up.

Example: python bench/statistics.py question regression
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from bench.support import many, question, regression, ten_million
from bench.support.federation import report


def _rows() -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="wardgate-bench-") as folder:
        return ten_million.measure(Path(folder) / "home")


PARTS: dict[str, Callable[[], dict[str, float]]] = {
    "question": question.measure,
    "regression": regression.measure,
    "rows": _rows,
    "sites": many.measure,
}


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all when absent")
    figures: dict[str, float] = {}
    for part in parser.parse_args().parts or PARTS:
        figures |= PARTS[part]()
    report(figures, ["nodes, coordinator and researcher share this machine's processors"])


if __name__ == "__main__":
    main()
