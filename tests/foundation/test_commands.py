"""How commands explain themselves on a narrow terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("wardgate-node")


def help_of(*command: str) -> list[str]:
    """Return a command's help on a terminal of 80 columns."""
    done = subprocess.run(
        [PROGRAM, *command, "--help"],
        env={**os.environ, "COLUMNS": "80", "TERM": "dumb"},
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.rstrip() for line in done.stdout.splitlines()]


def test_a_paragraph_of_help_flows_and_keeps_names_in_brackets() -> None:
    lines = help_of("watch")
    assert " A file is taken in when it has stayed the same for a while ([intake]" in lines
    assert " settle_seconds) and nobody has it open for writing. The manifest is read anew" in lines
    assert all(len(line) <= 80 for line in lines)
    said = " Who may send is in [receive]. Nothing is acknowledged before it is durable."
    assert said in help_of("receive")
