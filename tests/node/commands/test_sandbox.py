"""``sandbox check`` prints each property, and ends with 13 where no recipe may run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("wardgate-node")


def check(path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, "sandbox", "check"],
        env={"PATH": path, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_where_it_holds_each_property_is_printed() -> None:
    done = check("/usr/bin:/bin")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line for line in done.stdout.splitlines() if line.startswith("│")]
    assert len(rows) > 20
    assert not [row for row in rows if row.startswith("│ NO")]
    assert done.stdout.splitlines()[-1].startswith("the sandbox holds")


def test_where_it_does_not_one_line_says_why() -> None:
    done = check("/nonexistent")
    assert done.returncode == 13
    assert done.stderr.strip().count("\n") == 0
    assert "apt-get install bubblewrap" in done.stderr
    assert "│ NO" in done.stdout
