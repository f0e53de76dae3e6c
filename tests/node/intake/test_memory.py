"""Memory is flat in the size of a table: a process of its own takes a small and a large one in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import resource, sys
from datetime import UTC, datetime
from pathlib import Path
from node.catalog.store import Catalog
from node.deid.pseudonyms import Pseudonyms
from node.home import NodeHome
from node.intake.schema import parse_schema
from node.intake.tables import ingest_table

folder, rows = Path(sys.argv[1]), int(sys.argv[2])
source = folder / "t.csv"
with source.open("w") as file:
    file.write("pid,day,n,arm\\n")
    for row in range(rows):
        file.write(f"P{row % 50_000},2020-01-{1 + row % 28:02},{row / 7},{'AB'[row % 2]}\\n")
columns = [
    {"name": "day", "type": "date"},
    {"name": "n", "type": "number"},
    {"name": "arm", "type": "category", "levels": ["A", "B"]},
]
schema = parse_schema({"table": "t", "subject": "pid", "columns": columns}, "test")
home = NodeHome(folder / "home").create()
with Catalog.open(home) as catalog:
    report = ingest_table(
        source, schema, Pseudonyms(bytes(32)), catalog, home, now=datetime.now(UTC)
    )
assert (report.rows, report.subjects) == (rows, min(rows, 50_000))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak_mb(folder: Path, rows: int) -> int:
    folder.mkdir()
    command = [sys.executable, "-c", PROGRAM, str(folder), str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.slow
def test_a_table_four_times_as_large_takes_no_more_memory(tmp_path: Path) -> None:
    small = peak_mb(tmp_path / "small", 1_000_000)
    large = peak_mb(tmp_path / "large", 4_000_000)
    assert large < small + 60
    assert large < 600
