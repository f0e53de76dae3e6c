"""The sandbox of foreign code, seen from outside: bubblewrap's command line, and its self-test.

What a confined process has: a network, process and IPC namespace of its own with nothing in them,
an empty root with the Python installation and what it was given bound read-only, two bounded
``tmpfs``, a bare environment, and resource limits. ``foundation.confined`` is the inside: it sets
the limits and gives up every privilege before any foreign code is read.

An ordinary user gets the mounts through a user namespace. Root doesn't: as root outside, the
process would be exempt from ``RLIMIT_NPROC``, so root's bubblewrap mounts and the inside then
becomes an unprivileged user, a different one for each process, which makes its process limit its
own. The range is the one that systemd keeps for ``DynamicUser=`` (systemd.exec(5)).
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from contract.errors import SandboxError

ORDER = "WARDGATE_CONFINED"
"""The environment variable that tells the inside its limits and whom to become."""

UIDS = range(61184, 65520)
WORKER_GID = 61184
SELF_TEST_SECONDS = 30


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
) -> list[str]:
    """Return the whole command line that runs ``command`` confined. Decides only; starts nothing.

    Every option is in bubblewrap 0.8 and later.
    """
    line = ["bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    line += ["--unshare-cgroup-try", "--die-with-parent", "--new-session"]
    line += ["--hostname", "confined", "--clearenv"]
    if installation.root:
        line += ["--cap-drop", "ALL"]
        for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"):
            line += ["--cap-add", capability]
    else:
        line += ["--unshare-user"]
    line += ["--tmpfs", "/", "--proc", "/proc", "--dev", "/dev"]
    for folder in ("/tmp", "/dev/shm"):  # noqa: S108
        line += ["--perms", "1777", "--size", str(limits.tmp_bytes), "--tmpfs", folder]
    everything = [Bind(path, str(path)) for path in installation.read_only] + list(binds)
    line += _folders([bind.target for bind in everything])
    for bind in everything:
        line += ["--ro-bind", str(bind.source), bind.target]
    for points_to, name in installation.links:
        line += ["--symlink", points_to, name]
    line += ["--remount-ro", "/dev", "--remount-ro", "/"]
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
    _freed: bool = field(default=False, repr=False)

    def kill(self) -> None:
        """End it now and wait until it is gone. May be called twice."""
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        if self.uid is not None and not self._freed:
            self._freed = True
            with _lock:
                _in_use.discard(self.uid)


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
) -> Confined:
    """Start ``python -m module`` confined; its output and errors are one pipe, ``process.stdout``.

    Raises ``SandboxError`` when bubblewrap is missing.
    """
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxError("bubblewrap is missing; install it: apt-get install bubblewrap.")
    installation = Installation.here(packages)
    uid = _take_uid() if installation.root else None
    order = {"limits": asdict(limits), "uid": uid, "gid": WORKER_GID}
    command = bubblewrap_command(
        [installation.python, "-sP", "-m", module, *arguments],
        installation=installation,
        binds=binds,
        limits=limits,
        environment={**environment_of(limits), ORDER: json.dumps(order)},
    )
    process = _executor().submit(_popen, program, command, tuple(pass_fds)).result()
    return Confined(process, uid)


def _popen(
    program: str, command: Sequence[str], pass_fds: Sequence[int]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [program, *command[1:]],
        env={},  # bubblewrap's own environment can be read from inside: /proc/1/environ
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=pass_fds,
        cwd="/",
    )


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


def self_test() -> None:
    """Prove that the sandbox holds on this machine; ``SandboxError`` says what stands in the way.

    A confined process tries to reach a port that we listen on, to read a file of ours and
    ``/etc/passwd``, to write to ``/release``, and looks at its own privileges.
    """
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as server:
        release = Path(folder) / "release"
        release.mkdir()
        secret = Path(folder) / "outside"
        secret.write_bytes(b"outside")
        make_readable(release)
        confined = start(
            "foundation.confined",
            [str(server.getsockname()[1]), str(secret)],
            packages=["contract", "foundation"],
            binds=[Bind(release, "/release")],
            limits=Limits(tmp_bytes=2**20, processes=32),
        )
        try:
            output, _ = confined.process.communicate(timeout=SELF_TEST_SECONDS)
        except subprocess.TimeoutExpired:
            output = b"it didn't end in time"
        finally:
            confined.kill()
        if confined.process.returncode != 0 or output.strip() != b"confined":
            raise SandboxError(diagnose(output.decode(errors="replace"), _sysctls()))


def diagnose(output: str, sysctls: Mapping[str, str]) -> str:
    """Return one line about a sandbox that failed, from its output and the kernel's settings."""
    for name, bad in (
        ("kernel.unprivileged_userns_clone", "0"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1"),
        ("user.max_user_namespaces", "0"),
    ):
        denied = "ermission" in output or "not permitted" in output or "namespace" in output
        if denied and sysctls.get(name) == bad:
            good = {"0": "1", "1": "0"}[bad] if "max" not in name else "15000"
            return f"User namespaces are off: sysctl {name} is {bad}; set it to {good}."
    lines = [line for line in output.splitlines() if line.strip()] or ["it said nothing"]
    return f"The sandbox doesn't hold: {lines[-1][:300]}"


def _sysctls() -> dict[str, str]:
    values: dict[str, str] = {}
    for name in (
        "kernel.unprivileged_userns_clone",
        "kernel.apparmor_restrict_unprivileged_userns",
        "user.max_user_namespaces",
    ):
        with suppress(OSError):
            values[name] = Path("/proc/sys", *name.split(".")).read_text().strip()
    return values
