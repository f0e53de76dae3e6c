"""The sandbox of foreign code, seen from outside: bubblewrap's command line, and starting it.

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
import importlib.util
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from contract.errors import SandboxError
from foundation import cgroups, seccomp
from foundation.confined import ORDER

UIDS = range(61184, 65520)
WORKER_GID = 61184
HOST_NAME = "confined"
OWN_PROCESSES = 2  # bubblewrap's, outside and inside
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


@dataclass(frozen=True)
class Limits:
    """What a confined process may use. ``cpu_seconds`` counts over the whole life of a process."""

    memory_bytes: int = 8 * 2**30
    cpu_seconds: int = 24 * 3600
    processes: int = 256  # threads count
    open_files: int = 1024
    file_bytes: int = 2 * 2**30
    tmp_bytes: int = 2**30
    message_seconds: float = 3600.0
    reply_bytes: int = 256 * 2**20
    threads: int = 1
    gpus: bool = False


@dataclass(frozen=True)
class Defences:
    """The defences, each in force.

    A test takes one away, to show that an attack succeeds without it. No setting does, and no
    other code may (``tests/attacks/sandbox``).
    """

    network: bool = True
    """No network but an empty one."""
    processes: bool = True
    """No process is seen but its own."""
    root: bool = True
    """No file is seen but what is given."""
    read_only: bool = True
    """What is given can't be written."""
    tmp: bool = True
    """Temporary files are bounded."""
    user: bool = True
    """It is nobody in particular, without a capability."""
    limits: bool = True
    """Resource limits."""
    calls: bool = True
    """A list of system calls."""
    nesting: bool = True
    """No user namespace inside its own (where it has one)."""
    descriptors: bool = True
    """No open file is inherited but what is passed."""
    environment: bool = True
    """No variable is inherited."""
    session: bool = True
    """No terminal is inherited."""


EVERY = Defences()


@dataclass(frozen=True)
class Bind:
    """A file or folder of this machine, shown read-only at ``target``."""

    source: Path
    target: str


@dataclass(frozen=True)
class Installation:
    """What of this machine a confined Python needs to see, and whether we are root on it."""

    python: str
    read_only: tuple[Path, ...]
    links: tuple[tuple[str, str], ...]
    root: bool

    @classmethod
    def here(cls, packages: Sequence[str]) -> Installation:
        """Look at this machine. ``packages`` are those of ours that the process imports."""
        wanted = [Path(sys.base_prefix), Path(sys.prefix), Path(sys.base_exec_prefix)]
        for package in packages:
            spec = importlib.util.find_spec(package)
            if spec is None or spec.origin is None:
                raise SandboxError(f"The package {package} can't be found, so nothing can run.")
            wanted.append(Path(spec.origin).parent)
        links: list[tuple[str, str]] = []
        for name in ("/usr/lib", "/usr/lib32", "/usr/lib64", "/lib", "/lib32", "/lib64"):
            path = Path(name)
            if path.is_symlink() and not any(path.is_relative_to(given) for given in wanted):
                links.append((str(path.readlink()), name))
            elif path.is_dir() and not path.is_symlink():
                wanted.append(path)
        wanted += [Path("/etc/ld.so.cache"), Path("/usr/share/zoneinfo")]
        found = [path for path in wanted if path.exists()]
        return cls(sys.executable, outermost(found), tuple(links), os.geteuid() == 0)

    def with_everything(self) -> Installation:
        """Return it as where the root isn't empty: all of this machine's files are shown."""
        own = {"proc", "dev", "tmp"}
        places = [path for path in sorted(Path("/").iterdir()) if path.name not in own]
        folders = tuple(path for path in places if path.is_dir() and not path.is_symlink())
        links = tuple((str(path.readlink()), str(path)) for path in places if path.is_symlink())
        return Installation(self.python, folders, links, self.root)


def outermost(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Return the paths without those that lie inside another, parents first."""
    chosen: list[Path] = []
    for path in sorted(set(paths), key=lambda p: (len(p.parts), p)):
        if not any(path.is_relative_to(other) for other in chosen):
            chosen.append(path)
    return tuple(chosen)


def bubblewrap_command(
    command: Sequence[str],
    *,
    installation: Installation,
    binds: Sequence[Bind],
    limits: Limits,
    environment: Mapping[str, str],
    devices: Sequence[Path] = (),
    seccomp_descriptor: int | None = None,
    defences: Defences = EVERY,
) -> list[str]:
    """Return the whole command line that runs ``command`` confined. Decides only; starts nothing.

    Every option is in bubblewrap 0.8 and later.
    """
    line = ["bwrap", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    line += ["--die-with-parent", "--hostname", HOST_NAME]
    for kept, option in (
        (defences.processes, "--unshare-pid"),
        (defences.network, "--unshare-net"),
        (defences.session, "--new-session"),
        (defences.environment, "--clearenv"),
        (not installation.root, "--unshare-user"),
        (not installation.root and defences.nesting, "--disable-userns"),
    ):
        line += [option] if kept else []
    if installation.root and defences.user:
        line += ["--cap-drop", "ALL"]
        for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"):
            line += ["--cap-add", capability]
    if defences.calls and seccomp_descriptor is not None:
        line += ["--seccomp", str(seccomp_descriptor)]
    line += ["--tmpfs", "/", "--proc", "/proc", "--dev", "/dev"]
    for folder in ("/tmp", "/dev/shm"):  # noqa: S108
        size = ["--size", str(limits.tmp_bytes)] if defences.tmp else []
        line += ["--perms", "1777", *size, "--tmpfs", folder]
    shown = installation if defences.root else installation.with_everything()
    everything = [Bind(path, str(path)) for path in shown.read_only] + list(binds)
    line += _folders([bind.target for bind in everything])
    for bind in everything:
        line += ["--ro-bind" if defences.read_only else "--bind", str(bind.source), bind.target]
    for device in devices:
        line += ["--dev-bind", str(device), str(device)]
    for points_to, name in shown.links:
        line += ["--symlink", points_to, name]
    line += ["--remount-ro", "/dev", "--remount-ro", "/proc", "--remount-ro", "/"]
    line += ["--chdir", "/tmp"]  # noqa: S108
    for name, value in environment.items():
        line += ["--setenv", name, value]
    return [*line, "--", *command]


def _folders(targets: Sequence[str]) -> list[str]:
    """Make the folders above the targets, open to all: bubblewrap copies a source's 0700."""
    line: list[str] = []
    made: set[Path] = {Path("/tmp"), Path("/dev"), Path("/proc")}  # noqa: S108
    inside = {Path(target) for target in targets}
    for target in targets:
        for folder in reversed(Path(target).parents[:-1]):
            if folder not in made and not any(folder.is_relative_to(bound) for bound in inside):
                line += ["--perms", "0755", "--dir", str(folder)]
                made.add(folder)
    return line


def environment_of(limits: Limits) -> dict[str, str]:
    """Return the whole environment of a confined process."""
    threads = str(limits.threads)
    return {
        "HOME": "/tmp",  # noqa: S108
        "TMPDIR": "/tmp",  # noqa: S108
        "USER": "worker",
        "LOGNAME": "worker",
        "LANG": "C.UTF-8",
        "PATH": "/nonexistent",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "NUMEXPR_MAX_THREADS": threads,
        "POLARS_MAX_THREADS": threads,
        "RAYON_NUM_THREADS": threads,
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_HOME": "/tmp/.flwr",  # noqa: S108
    }


@dataclass
class Confined:
    """A confined process that runs. ``kill`` ends it and everything that it started."""

    process: subprocess.Popen[bytes]
    uid: int | None
    group: cgroups.Group | None = None
    _freed: bool = field(default=False, repr=False)

    def kill(self) -> None:
        """End it now and wait until it is gone. May be called twice."""
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        if self.group is not None:
            self.group.remove()
        if self.uid is not None and not self._freed:
            self._freed = True
            with _lock:
                _in_use.discard(self.uid)

    def why_it_ended(self) -> str:
        """Return what ended it, for a local log; empty when that isn't known."""
        if self.process.poll() == FORBIDDEN_CALL:
            return "it made a system call that the sandbox forbids"
        if self.group is not None and self.group.ran_out_of_memory():
            return "its processes together had more memory than the policy gives"
        return ""


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
    program = bubblewrap()
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
            devices=graphics_devices() if limits.gpus else (),
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


def bubblewrap() -> str:
    """Return the path of bubblewrap's program; ``SandboxError`` when it is missing."""
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxError("bubblewrap is missing; install it: apt-get install bubblewrap.")
    return program


def graphics_devices() -> tuple[Path, ...]:
    """Return NVIDIA's device files of this machine (others' need more than a file)."""
    names = ("nvidia[0-9]*", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools")
    return tuple(sorted(path for name in names for path in Path("/dev").glob(name)))


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
    """Make a cgroup with room for what the limits give: files of ``/tmp`` are memory too."""
    with _lock:
        ours = delegation()
    if isinstance(ours, str):
        return None
    try:
        return ours.group(
            memory_bytes=limits.memory_bytes + 2 * limits.tmp_bytes,
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
