"""The sandbox's self-test: each property proved from inside, and what stands in the way named.

No foreign code runs before it has passed. A machine that can't bound all processes together (no
cgroup was delegated) is told so and passes: limits of each process are in force without it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from contract.errors import SandboxError
from foundation import bubblewrap, confinement
from foundation.bubblewrap import EVERY, Bind, Defences, Limits, environment_of
from foundation.confinement import UIDS, Confined

log = logging.getLogger("wardgate.sandbox")

SECONDS = 30
STARTS = "the sandbox starts"
_LIMITS = Limits(tmp_bytes=2**20, processes=32)
_SYSCTLS = {
    "user.max_user_namespaces": ("0", "15000"),
    "kernel.unprivileged_userns_clone": ("0", "1"),
    "kernel.apparmor_restrict_unprivileged_userns": ("1", "0"),
}
"""Settings of the kernel by which user namespaces are off: at this value; what to set instead."""
_SET_INSIDE = {"PWD", "GRPC_VERBOSITY", "LC_CTYPE"}  # by bubblewrap, by us, by Python


@dataclass(frozen=True)
class Property:
    """One property of the sandbox: whether it holds, and what is wrong if it doesn't."""

    name: str
    wrong: str = ""
    required: bool = True

    @property
    def holds(self) -> bool:
        """Say whether it does."""
        return not self.wrong


def examine(defences: Defences = EVERY) -> list[Property]:
    """Try the sandbox on this machine and return every property. Doesn't raise for a broken one.

    ``defences`` is for tests.
    """
    try:
        found = _from_inside(defences)
    except SandboxError as error:
        return [Property(STARTS, str(error))]
    return [Property(STARTS), *found, _bounded_together()]


def self_test() -> list[Property]:
    """Prove that the sandbox holds; ``SandboxError`` says what stands in the way.

    Returns the properties, of which some that aren't required may not hold.
    """
    found = examine()
    if wrong := refusal(found):
        raise SandboxError(wrong)
    return found


def refusal(found: Sequence[Property]) -> str:
    """Return why no recipe may run, in a line; empty when one may."""
    for one in found:
        if one.required and not one.holds:
            return (
                one.wrong if one.name == STARTS else f"The sandbox fails: {one.name}: {one.wrong}."
            )
    return ""


_proved = threading.Lock()
_holds = False


def ensure() -> None:
    """Run the self-test unless it has passed in this process; ``SandboxError`` when it fails."""
    global _holds  # noqa: PLW0603
    with _proved:
        if _holds:
            return
        for one in self_test():
            if not one.holds:
                log.warning("sandbox: not so: %s (%s)", one.name, one.wrong)
        _holds = True


def say() -> None:
    """Run the self-test where nobody waits for it, at a daemon's start, and log why it failed."""
    try:
        ensure()
    except SandboxError as error:
        log.error("sandbox: no recipe can run here: %s", error)


def _from_inside(defences: Defences) -> list[Property]:
    with tempfile.TemporaryDirectory() as folder:
        release = Path(folder) / "release"
        release.mkdir()
        secret = Path(folder) / "outside"
        secret.write_bytes(b"outside")
        confinement.make_readable(release)
        confined = confinement.start(
            "foundation.isolation_inside",
            [str(secret)],
            packages=["contract", "foundation"],
            binds=[Bind(release, "/release")],
            limits=_LIMITS,
            defences=defences,
        )
        output = _output(confined)
    try:
        seen: dict[str, Any] = json.loads(output)
    except ValueError:
        raise SandboxError(diagnose(output, _sysctls(), _container())) from None
    return [Property(name, wrong) for name, wrong in seen["holds"].items()] + _compared(seen)


def _output(confined: Confined) -> str:
    try:
        output, _ = confined.process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return "it didn't end in time"
    finally:
        confined.kill()
    return output.decode(errors="replace").strip() or confined.why_it_ended()


def _compared(seen: Mapping[str, Any]) -> list[Property]:
    """Judge what the inside saw by what the outside knows."""
    root = os.geteuid() == 0
    shared = [
        name
        for name, theirs in seen["namespaces"].items()
        if theirs == str(Path(f"/proc/self/ns/{name}").readlink()) and not (root and name == "user")
    ]
    given = asdict(_LIMITS)
    wanted = {
        "DATA": given["memory_bytes"],
        "CPU": given["cpu_seconds"],
        "NPROC": given["processes"],
        "NOFILE": given["open_files"],
        "FSIZE": given["file_bytes"],
        "CORE": 0,
    }
    loose = [
        name for name, bound in wanted.items() if not 0 <= seen["limits"].get(name, -1) <= bound
    ]
    variables = set(seen["environment"]) - set(environment_of(_LIMITS)) - _SET_INSIDE
    unbounded = [path for path, size in seen["tmp_bytes"].items() if size > _LIMITS.tmp_bytes]
    another = "" if not root or seen["uid"] in UIDS else f"its user is {seen['uid']}"
    return [
        Property("its namespaces are its own", ", ".join(shared)),
        Property("its user is its own", another),
        Property("its limits are in force", ", ".join(loose)),
        Property("its temporary files are bounded", ", ".join(unbounded)),
        Property("its environment is bare", ", ".join(sorted(variables))),
        Property("its host has no name", "" if seen["host"] == bubblewrap.HOST_NAME else "it has"),
        Property("it ends first when memory is short", "" if seen["oom"] == 1000 else "it doesn't"),
    ]


def _bounded_together() -> Property:
    ours = confinement.delegation()
    return Property(
        "all its processes are bounded together",
        f"{ours}; limits hold for each process only (systemd: Delegate=memory pids)"
        if isinstance(ours, str)
        else "",
        required=False,
    )


_CAUSES = (
    (r"No permissions to create|Creating new namespace failed|setting up uid map", "namespaces"),
    (r"Can't mount proc", "proc"),
    (r"Failed to make / slave|Failed to mount|pivot_root", "mounts"),
    (r"RTM_NEWADDR|NETLINK_ROUTE|loopback", "loopback"),
    (r"PR_SET_SECCOMP|SECCOMP", "seccomp"),
    (r"oom_score_adj|cgroup\.procs|Directory nonexistent", "entering"),
    (r"Unknown option", "version"),
)
_SENTENCES = {
    "proc": (
        "A new /proc can't be mounted while parts of the machine's are covered. Under systemd: no "
        "ProtectKernelTunables=, ProtectKernelLogs=, ProtectProc= or ProcSubset= in the unit."
    ),
    "mounts": "An AppArmor or SELinux profile forbids mounts.",
    "loopback": (
        "The sandbox's empty network can't be set up. Under systemd: AF_NETLINK must be in "
        "RestrictAddressFamilies=; on Ubuntu bwrap needs an AppArmor profile that allows userns."
    ),
    "seccomp": "The kernel refuses a system-call list; it needs CONFIG_SECCOMP_FILTER.",
    "entering": "The sandbox's first step failed: its cgroup or /proc can't be written.",
    "version": "bubblewrap is too old; 0.8 or later is needed.",
    "namespaces": "The kernel lets this user make no namespaces.",
}
_IN_A_CONTAINER = (
    " In a container it needs --security-opt seccomp=deploy/container/seccomp-sandbox.json, "
    "apparmor=unconfined and systempaths=unconfined (deploy/compose/node.training.compose.yaml)."
)
_BY_CONTAINER = {"namespaces", "proc", "mounts"}


def diagnose(output: str, sysctls: Mapping[str, str], container: bool = False) -> str:
    """Return what stands in the way, in a line, from bubblewrap's words and the kernel's settings.

    ``container``: whether this machine is one.
    """
    lines = [line for line in output.splitlines() if line.strip()] or ["it said nothing"]
    said = lines[-1][:200]
    cause = next((cause for pattern, cause in _CAUSES if re.search(pattern, output)), "")
    if cause in ("namespaces", "loopback"):
        for name, (bad, good) in _SYSCTLS.items():
            if sysctls.get(name) == bad:
                return (
                    f"User namespaces are off: sysctl {name} is {bad}; set it to {good}. ({said})"
                )
    if not cause:
        return f"The sandbox doesn't hold: {said}"
    advice = _IN_A_CONTAINER if container and cause in _BY_CONTAINER else ""
    return f"{_SENTENCES[cause]}{advice} ({said})"


def _sysctls() -> dict[str, str]:
    values: dict[str, str] = {}
    for name in _SYSCTLS:
        with suppress(OSError):
            values[name] = Path("/proc/sys", *name.split(".")).read_text().strip()
    return values


def _container() -> bool:
    """Say whether an engine's mark is here: Docker's, Podman's, or systemd's for both."""
    marks = ("/.dockerenv", "/run/.containerenv", "/run/systemd/container")
    return any(Path(mark).exists() for mark in marks)
