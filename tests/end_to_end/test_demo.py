"""The demo, as ``make demo-once`` runs it: four hospitals, and the published trial's figures."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.end_to_end.processes import environment

ROOT = Path(__file__).resolve().parents[2]


def test_the_demo_runs_by_itself_and_agrees_with_the_pooled_truth() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "demo", "--once"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        env=environment(),
    )
    said = done.stdout
    assert done.returncode == 0, said[-2000:] + done.stderr[-2000:]
    assert "Traceback" not in said + done.stderr
    rows = re.findall(r"│\s*(yes|NO)\s*│$", said, re.MULTILINE)
    assert len(rows) > 10
    assert set(rows) == {"yes"}
    assert "50 of 408" in said
    assert "53 of 406" in said
    assert len(re.findall(r"\d+ entries verified", said)) == 4
