"""bubblewrap's command line: what a confined process sees, and with which namespaces.

This decides only; ``foundation.confinement`` starts what comes of it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from contract.errors import SandboxError

HOST_NAME = "confined"


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
    drafts_bytes: int = 0
    """Size of ``/drafts``, a folder for files that stay here; 0: there is none."""


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
        return Installation(self.python, outermost((*folders, *self.read_only)), links, self.root)


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
    if limits.drafts_bytes:
        line += ["--perms", "1777", "--size", str(limits.drafts_bytes), "--tmpfs", "/drafts"]
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
        # There is no network; a library that would look for one says at once what is missing.
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def program() -> str:
    """Return the path of bubblewrap's program; ``SandboxError`` when it is missing."""
    found = shutil.which("bwrap")
    if found is None:
        raise SandboxError("bubblewrap is missing; install it: apt-get install bubblewrap.")
    return found


def graphics_devices() -> tuple[Path, ...]:
    """Return NVIDIA's device files of this machine (others' need more than a file)."""
    names = ("nvidia[0-9]*", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools")
    return tuple(sorted(path for name in names for path in Path("/dev").glob(name)))
