"""What holds of every command of a node."""

from __future__ import annotations

import subprocess
import sys

SHOW = """
import resource, subprocess, sys
from node.cli import main
sys.argv = ["wardgate-node", "--help"]
try:
    main()
except SystemExit:
    pass
inner = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE))"
subprocess.run([sys.executable, "-c", inner], check=True)
"""


def test_no_process_of_a_node_leaves_its_memory_on_a_disk() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHOW], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "(0, 0)"
