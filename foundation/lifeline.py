"""A child process that does not outlive its parent, however that ends.

``python -m foundation.lifeline PARENT PROGRAM ...`` asks the kernel for SIGKILL at the parent's
death (prctl(2), PR_SET_PDEATHSIG) and becomes the program. The signal comes when the *thread*
that started it ends, so start it from one that lives as long as the process.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_SET_PDEATHSIG = 1


def tied(command: Sequence[str]) -> list[str]:
    """Return a command that runs ``command`` for as long as this process lives."""
    return [sys.executable, "-m", "foundation.lifeline", str(os.getpid()), *command]


def tie(parent: int) -> None:
    """Let this process end with its parent; end now if that is gone already."""
    ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    tie(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 (ours)
