"""The sandbox of foreign code, seen from outside: starting, bounding and ending it.

What a confined process has: a network, process, IPC, host name and cgroup namespace of its own with
nothing in them, an empty root with the Python installation and what it was given bound read-only,
two bounded ``tmpfs``, a bare environment, a list of system calls (``foundation.seccomp``), resource
limits, and bounds over all its processes where a cgroup was delegated (``foundation.cgroups``).
``foundation.confined`` is the inside: it sets the limits and gives up every privilege before any
foreign code is read. ``foundation.isolation`` proves that it all holds.

An ordinary user gets the mounts through a user namespace. Root doesn't: as root outside, the
process would be exempt from ``RLIMIT_NPROC``, so root's bubblewrap mounts and the inside then
becomes an unprivileged user, a different one for each process, which makes its process limit its
own. The range is the one that systemd keeps for ``DynamicUser=`` (systemd.exec(5)).
"""

from __future__ import annotations

import functools
import json
import os
import secrets
import select
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from contract.errors import SandboxError
from foundation import bubblewrap, cgroups, seccomp
from foundation.bubblewrap import (
    EVERY,
    Bind,
    Defences,
    Installation,
    Limits,
    bubblewrap_command,
    environment_of,
)
from foundation.confined import ORDER

UIDS = range(61184, 65520)
WORKER_GID = 61184
OWN_PROCESSES = 2  # bubblewrap's, outside and inside
STOPPING_TRIES = 10_000
"""A millisecond each."""
STOPPED = frozenset("TZX")
"""States of proc(5) in which a process can start no other."""
ENDING_MS = 30_000
FORBIDDEN_CALL = 128 + signal.SIGSYS
"""How bubblewrap ends when the kernel ended what it ran for a forbidden system call."""

_ENTER = """\
set -e
if [ -n "$1" ]; then echo 0 > "$1"; fi
echo 1000 > /proc/self/oom_score_adj
shift
exec "$@"
"""
"""Joins the cgroup, so that nothing is started outside it, and volunteers to be ended first when
the machine is out of memory. The inside's ``/proc`` is read-only, so that can't be undone there."""


@dataclass
class Confined:
    """A confined process that runs. ``kill`` ends it and everything that it started."""

    process: subprocess.Popen[bytes]
    uid: int | None
    group: cgroups.Group | None = None
    _freed: bool = field(default=False, repr=False)

    def kill(self) -> None:
        """End it now and wait until it is gone. May be called twice."""
        inside = self._kill_the_inside()
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        for descriptor in inside:
            _wait_for_the_end(descriptor)
        if self.group is not None:
            self.group.remove()
        if self.uid is not None and not self._freed:
            self._freed = True
            with _lock:
                _in_use.discard(self.uid)

    def _kill_the_inside(self) -> list[int]:
        """End bubblewrap's child first: one that hasn't begun yet would outlive its parent.

        The parent is stopped before its children are listed, so that none is added or reused.
        The child is the first process of its namespace, so the kernel ends all the others with it.
        Returns a descriptor of each child (pidfd_open(2)).
        """
        pid = self.process.pid
        inside: list[int] = []
        if self.process.poll() is not None:
            return inside
        with suppress(OSError):
            self.process.send_signal(signal.SIGSTOP)
            _wait_until_stopped(pid)
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                with suppress(OSError):  # without a descriptor it is ended all the same
                    inside.append(os.pidfd_open(int(child)))
                os.kill(int(child), signal.SIGKILL)
        return inside

    def why_it_ended(self) -> str:
        """Return what ended it, for a local log; empty when that isn't known."""
        if self.process.poll() == FORBIDDEN_CALL:
            return "it made a system call that the sandbox forbids"
        if self.group is not None and self.group.ran_out_of_memory():
            return "its processes together had more memory than the policy gives"
        return ""


def _wait_until_stopped(pid: int) -> None:
    """Wait until the process is stopped or has ended, for which a busy machine needs a while."""
    for _ in range(STOPPING_TRIES):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state in STOPPED:
            return
        time.sleep(0.001)


def _wait_for_the_end(descriptor: int) -> None:
    """Wait until the process of a pidfd, and with it its whole namespace, is gone; close it."""
    ended = select.poll()
    ended.register(descriptor, select.POLLIN)
    try:
        ended.poll(ENDING_MS)
    finally:
        os.close(descriptor)


_lock = threading.Lock()
_in_use: set[int] = set()
_spawner: ThreadPoolExecutor | None = None


def start(
    module: str,
    arguments: Sequence[str] = (),
    *,
    packages: Sequence[str],
    binds: Sequence[Bind],
    limits: Limits,
    pass_fds: Sequence[int] = (),
    over_a_socket: bool = False,
    defences: Defences = EVERY,
) -> Confined:
    """Start ``python -m module`` confined; its output and errors are one pipe, ``process.stdout``.

    ``over_a_socket``: it may exchange messages and memory files over a socket that is passed.
    ``defences`` is for tests. Raises ``SandboxError`` without bubblewrap or libseccomp.
    """
    program = bubblewrap.program()
    installation = Installation.here(packages)
    calls = seccomp.program(as_root=installation.root, descriptors=over_a_socket, gpus=limits.gpus)
    group = _group(limits) if defences.limits else None
    uid = _take_uid() if installation.root and defences.user else None
    order = {
        "limits": asdict(limits) if defences.limits else None,
        "uid": uid,
        "gid": WORKER_GID,
        "unprivileged": defences.user,
    }
    filter_file = _memory_file(calls)
    options_file = -1
    try:
        command = bubblewrap_command(
            [installation.python, "-sP", "-m", module, *arguments],
            installation=installation,
            binds=binds,
            limits=limits,
            environment={**environment_of(limits), ORDER: json.dumps(order)},
            devices=bubblewrap.graphics_devices() if limits.gpus else (),
            seccomp_descriptor=filter_file,
            defences=defences,
        )
        at = command.index("--")
        # The inside can read bubblewrap's command line, which would name our folders.
        options_file = _memory_file("\0".join([*command[1:at], ""]).encode())
        entrance = "" if group is None else str(group.entrance)
        whole = ["/bin/sh", "-c", _ENTER, "sh", entrance]
        whole += [program, "--args", str(options_file), *command[at:]]
        passed = (*pass_fds, filter_file, options_file)
        process = _executor().submit(_popen, whole, passed, defences).result()
    finally:
        for descriptor in {filter_file, options_file} - {-1}:
            os.close(descriptor)
    return Confined(process, uid, group)


def _memory_file(content: bytes) -> int:
    descriptor = os.memfd_create("confinement", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _popen(
    command: Sequence[str], pass_fds: Sequence[int], defences: Defences
) -> subprocess.Popen[bytes]:
    if not defences.descriptors:
        for descriptor in pass_fds:
            os.set_inheritable(descriptor, True)
    return subprocess.Popen(
        command,
        # bubblewrap's own environment can be read from inside: /proc/1/environ
        env={} if defences.environment else None,
        stdin=subprocess.DEVNULL if defences.session else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        close_fds=defences.descriptors,
        pass_fds=pass_fds if defences.descriptors else (),
        cwd="/",
    )


@functools.cache
def delegation() -> cgroups.Delegation | str:
    """Return the cgroup that this process may divide, or why there is none."""
    try:
        return cgroups.claim()
    except cgroups.NotDelegated as error:
        return str(error)


def _group(limits: Limits) -> cgroups.Group | None:
    """Make a cgroup with room for what the limits give: files in memory count too."""
    with _lock:
        ours = delegation()
    if isinstance(ours, str):
        return None
    try:
        return ours.group(
            memory_bytes=limits.memory_bytes + 2 * limits.tmp_bytes + limits.drafts_bytes,
            processes=limits.processes + OWN_PROCESSES,
        )
    except OSError as error:
        raise SandboxError(f"A cgroup can't be made in {ours.folder}: {error.strerror}.") from None


def _executor() -> ThreadPoolExecutor:
    """One thread that lives as long as we do: ``--die-with-parent`` watches the starting thread."""
    global _spawner  # noqa: PLW0603
    with _lock:
        if _spawner is None:
            _spawner = ThreadPoolExecutor(1, thread_name_prefix="confinement")
        return _spawner


def _take_uid() -> int:
    with _lock:
        free = [uid for uid in UIDS if uid not in _in_use]
        if not free:
            raise SandboxError(f"More than {len(UIDS)} confined processes run at once.")
        uid = secrets.choice(free)
        _in_use.add(uid)
        return uid


def make_readable(path: Path) -> None:
    """Let confined processes read ``path`` and what is in it, when we are root.

    They run as other users then; their group gets read access to the files. The folder above,
    which is its owner's alone, still keeps everybody else out. Does nothing for other users.
    """
    if os.geteuid() != 0:
        return
    _share(path)
    if path.is_dir() and not path.is_symlink():
        for folder, folders, files in os.walk(path):
            for name in (*folders, *files):
                _share(Path(folder) / name)


def _share(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return  # a link leads nowhere inside the sandbox
    try:
        state = os.fstat(descriptor)
        wanted = state.st_mode | (0o050 if path.is_dir() else 0o040)
        if state.st_gid != WORKER_GID:
            os.fchown(descriptor, -1, WORKER_GID)
        if state.st_mode != wanted:
            os.fchmod(descriptor, wanted & 0o7777)
    except OSError as error:
        raise SandboxError(
            f"{path} can't be opened to the workers' group ({error.strerror}); "
            "run the node as an ordinary user instead of root."
        ) from None
    finally:
        os.close(descriptor)
