"""The self-test's inside: what a confined process finds of itself, printed as JSON.

Each property is tried or read, not assumed. ``foundation.isolation`` judges what needs a view of
both sides: namespaces, limits, the environment.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contract.errors import SandboxError
from foundation import confined

NAMESPACES = ("pid", "net", "ipc", "uts", "cgroup", "mnt", "user")
LIMITS = ("DATA", "CPU", "NPROC", "NOFILE", "FSIZE", "CORE")
DEVICES = {
    "null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "pts", "shm", "mqueue",
    "fd", "core", "stdin", "stdout", "stderr",
}  # fmt: skip
_FAMILIES = ("AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_VSOCK", "AF_ALG")
_FORBIDDEN = {"x86_64": 135, "aarch64": 92}  # personality
_WITHOUT_ARGUMENT = 0xFFFFFFFF


def main(secret: str) -> None:
    """Look, and print what was found: tried properties, and what the outside compares."""
    confined.enter()
    status = Path("/proc/self/status").read_text()
    print(json.dumps({"holds": _properties(secret, status), **_seen(status)}))


def _properties(secret: str, status: str) -> dict[str, str]:
    """Return for each property an empty text, or what is wrong."""
    return {
        "no privilege is left": ", ".join(confined.privileges(status)),
        "system calls are filtered": ""
        if "Seccomp:\t2" in status
        else "the kernel has no seccomp filter",
        "a forbidden call ends a process": _forbidden_call(),
        "no socket can be made": ", ".join(f for f in _FAMILIES if _makes_socket(f)),
        "there is no network": _interfaces(),
        "no other process is seen": _processes(),
        "files outside are out of reach": _reaches(secret, "/etc/passwd", "/etc/shadow", "/home"),
        "the release can be read": "" if _may(lambda: os.listdir("/release")) else "it can't",  # noqa: PTH208
        "the release can't be written": _writes("/release/x"),
        "nothing else can be written": _writes("/x", "/dev/x", "/proc/self/oom_score_adj"),
        "no open file is inherited": _open_files(),
        "there is no terminal": "/dev/tty opens" if _may(lambda: _open("/dev/tty")) else "",
        "devices are the harmless ones": ", ".join(sorted(set(os.listdir("/dev")) - DEVICES)),  # noqa: PTH208
    }


def _seen(status: str) -> dict[str, Any]:
    return {
        "namespaces": {name: str(Path(f"/proc/self/ns/{name}").readlink()) for name in NAMESPACES},
        "limits": {
            name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1] for name in LIMITS
        },
        "environment": sorted(os.environ),
        "host": os.uname().nodename,
        "tmp_bytes": {path: _fills(path) for path in ("/tmp", "/dev/shm")},  # noqa: S108
        "oom": int(Path("/proc/self/oom_score_adj").read_text()),
        "uid": os.getuid(),
    }


def _may(action: Callable[[], object]) -> bool:
    try:
        action()
    except OSError:
        return False
    return True


def _open(path: str) -> None:
    os.close(os.open(path, os.O_RDWR | os.O_NOCTTY))


def _makes_socket(family: str) -> bool:
    number = getattr(socket, family, None)
    return number is not None and _may(
        lambda: socket.socket(
            number, socket.SOCK_RAW if family == "AF_PACKET" else socket.SOCK_STREAM
        )
    )


def _interfaces() -> str:
    lines = Path("/proc/net/dev").read_text().splitlines()[2:]
    return ", ".join(n for line in lines if (n := line.partition(":")[0].strip()) != "lo")


def _processes() -> str:
    seen = {int(name) for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208
    others = seen - {1, os.getpid()}
    return f"{len(others)} others" if others else ""


def _reaches(*paths: str) -> str:
    return ", ".join(path for path in paths if Path(path).exists())


def _writes(*paths: str) -> str:
    return ", ".join(path for path in paths if _may(lambda p=path: Path(p).write_bytes(b"0")))  # type: ignore[misc]


def _open_files() -> str:
    listing = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY)
    try:
        found = {int(name) for name in os.listdir(listing)}  # noqa: PTH208
    finally:
        os.close(listing)
    # What listdir itself opened is closed by now.
    extra = [n for n in sorted(found - {0, 1, 2, listing}) if _is_open(n)]
    return ", ".join(map(str, extra))


def _is_open(number: int) -> bool:
    return _may(lambda: os.fstat(number))


def _forbidden_call() -> str:
    """Let a child make a call that must end it."""
    number = _FORBIDDEN.get(os.uname().machine)
    if number is None:
        return f"nobody has listed the calls of {os.uname().machine}"
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).syscall(number, _WITHOUT_ARGUMENT)
        os._exit(0)
    _, ended = os.waitpid(child, 0)
    return "" if os.WIFSIGNALED(ended) and os.WTERMSIG(ended) == signal.SIGSYS else "it went on"


def _fills(path: str) -> int:
    """Write to a folder until it is full; return how much went in, up to what is tried."""
    written = 0
    piece = bytes(1 << 16)
    name = f"{path}/fill"
    try:
        with open(name, "wb", buffering=0) as file:  # noqa: PTH123
            while written < TRIED_BYTES:
                written += file.write(piece)
    except OSError:
        pass
    finally:
        Path(name).unlink(missing_ok=True)
    return written


TRIED_BYTES = 4 << 20

if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except SandboxError as error:
        print(error)
