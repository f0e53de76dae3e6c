"""The sandbox of foreign code, seen from inside: limits are set and every privilege given up.

``enter`` is the first thing that a confined program does. bubblewrap has put the list of system
calls in force before.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
from pathlib import Path
from typing import Any

from contract.errors import SandboxError

ORDER = "WARDGATE_CONFINED"
"""The environment variable that tells the inside its limits and whom to become."""

# <linux/prctl.h>, <linux/capability.h>
_SET_DUMPABLE = 4
_CAPBSET_DROP = 24
_SET_NO_NEW_PRIVS = 38
_CAP_AMBIENT = 47
_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_CAPABILITIES = 64


def enter() -> None:
    """Set the limits, become nobody in particular, and check that nothing was kept.

    Raises ``SandboxError`` when a privilege is left, so that no foreign code runs with it.
    """
    order: dict[str, Any] = json.loads(os.environ.pop(ORDER))
    if order["limits"] is not None:
        _limit(order["limits"])
    if not order["unprivileged"]:
        return  # a test's
    libc = ctypes.CDLL(None, use_errno=True)
    if order["uid"] is not None:
        for capability in range(_CAPABILITIES):
            libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0)
        os.setgroups([])
        os.setresgid(order["gid"], order["gid"], order["gid"])
        os.setresuid(order["uid"], order["uid"], order["uid"])
    libc.prctl(_CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    libc.capset(header, (ctypes.c_uint32 * 6)())
    libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_SET_DUMPABLE, 0, 0, 0, 0)
    if left := privileges(Path("/proc/self/status").read_text()):
        raise SandboxError(f"A confined process would keep {', '.join(left)}.")


def privileges(status: str) -> list[str]:
    """Return what of ``/proc/self/status`` says that a process is privileged (proc(5))."""
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    left = [
        name
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
        if int(fields.get(name, "1"), 16)
    ]
    if fields.get("NoNewPrivs", "").strip() != "1":
        left.append("the right to new privileges")
    if "0" in fields.get("Uid", "0").split():
        left.append("root's uid")
    if "0" in fields.get("Gid", "0").split() or "0" in fields.get("Groups", "").split():
        left.append("root's group")
    return left


def _limit(limits: dict[str, float]) -> None:
    for name, value in (
        (resource.RLIMIT_DATA, limits["memory_bytes"]),
        (resource.RLIMIT_CPU, limits["cpu_seconds"]),
        (resource.RLIMIT_NPROC, limits["processes"]),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(name)
        bound = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
        resource.setrlimit(name, (bound, bound))
