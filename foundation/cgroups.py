"""Bounds on all processes of a sandbox together: a cgroup of version 2, where one was delegated.

A limit of a process says nothing of how many processes there are. What systemd gives a unit with
``Delegate=memory pids`` is ours to divide (cgroups(7), "Delegation containment"; systemd's
CGROUP_DELEGATION.md): the daemon moves itself into a group below, because the kernel wants no
process beside groups that are bounded, and makes another for each confined process.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

CONTROLLERS = ("memory", "pids")
OURSELVES = "daemon"
PREFIX = "confined-"
REMOVAL_SECONDS = 2.0
_PAUSE_SECONDS = 0.01
_DELEGATED = ("user.delegate", "trusted.delegate")


class NotDelegated(Exception):
    """There is no cgroup that we may divide; the text says why, in one line."""


@dataclass(frozen=True)
class Group:
    """The cgroup of one confined process."""

    folder: Path

    @property
    def entrance(self) -> Path:
        """The file that a process writes ``0`` to, to be in the group with all that it starts."""
        return self.folder / "cgroup.procs"

    def ran_out_of_memory(self) -> bool:
        """Say whether the kernel ended a process of it for want of memory."""
        with suppress(OSError):
            for line in (self.folder / "memory.events").read_text().splitlines():
                if line.startswith("oom_kill "):
                    return line != "oom_kill 0"
        return False

    def remove(self) -> None:
        """End every process of it, and take it away. May be called twice."""
        with suppress(OSError):
            (self.folder / "cgroup.kill").write_text("1")
        until = time.monotonic() + REMOVAL_SECONDS
        while self.folder.is_dir():
            with suppress(OSError):
                self.folder.rmdir()
                return
            if time.monotonic() > until:
                return  # the kernel still counts a dying process; the next claim takes it away
            time.sleep(_PAUSE_SECONDS)


@dataclass(frozen=True)
class Delegation:
    """A cgroup of ours, below which bounded ones can be made."""

    folder: Path
    controllers: tuple[str, ...] = CONTROLLERS

    def group(self, *, memory_bytes: int, processes: int) -> Group:
        """Make a group for one confined process. ``OSError`` when the kernel refuses."""
        made = Group(self.folder / f"{PREFIX}{secrets.token_hex(8)}")
        made.folder.mkdir()
        try:
            if "memory" in self.controllers:
                (made.folder / "memory.max").write_text(str(memory_bytes))
                with suppress(FileNotFoundError):  # a kernel without swap
                    (made.folder / "memory.swap.max").write_text("0")
                (made.folder / "memory.oom.group").write_text("1")
            if "pids" in self.controllers:
                (made.folder / "pids.max").write_text(str(processes))
        except OSError:
            made.remove()
            raise
        return made


def claim(folder: Path | None = None, controllers: Sequence[str] = CONTROLLERS) -> Delegation:
    """Make our own cgroup divisible, and return it. ``NotDelegated`` when it isn't ours.

    ``folder`` is our cgroup, unless it is to be found. What an earlier life left is removed.
    """
    own = folder if folder is not None else _own()
    if own.name == OURSELVES and _divided(own.parent, controllers):
        own = own.parent  # this process, or systemd (DelegateSubgroup=), did it before
    else:
        _divide(own, controllers, given=folder is not None)
    for left in own.glob(f"{PREFIX}*"):
        with suppress(OSError):
            left.rmdir()  # fails where somebody still runs
    return Delegation(own, tuple(controllers))


def _own() -> Path:
    """Return the folder of the cgroup that we are in."""
    root, mounted = _mount(Path("/proc/self/mountinfo").read_text())
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            path = Path(line.removeprefix("0::"))
            if not path.is_relative_to(root) or ".." in path.parts:
                break
            return mounted / path.relative_to(root)
    raise NotDelegated("this process is in no cgroup of version 2")


def _mount(mountinfo: str) -> tuple[Path, Path]:
    """Return which cgroup is mounted, and where (proc(5), ``mountinfo``)."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if after.split(" ", 1)[0] == "cgroup2":
            _, _, _, root, mounted, *_ = before.split(" ")
            return Path(root), Path(mounted)
    raise NotDelegated("no cgroup file system of version 2 is mounted")


def _divided(folder: Path, controllers: Sequence[str]) -> bool:
    try:
        enabled = (folder / "cgroup.subtree_control").read_text().split()
    except OSError:
        return False
    return set(controllers) <= set(enabled) and os.access(folder / "cgroup.procs", os.W_OK)


def _divide(folder: Path, controllers: Sequence[str], *, given: bool) -> None:
    try:
        there = (folder / "cgroup.controllers").read_text().split()
    except OSError as error:
        raise NotDelegated(f"{folder} can't be read: {error.strerror}") from None
    if missing := [name for name in controllers if name not in there]:
        raise NotDelegated(f"{folder} has no controller {' or '.join(missing)}")
    for path in (folder, folder / "cgroup.procs", folder / "cgroup.subtree_control"):
        if not os.access(path, os.W_OK):
            raise NotDelegated(f"{path} can't be written")
    if not given and not _marked(folder) and not _must_be_ours(folder):
        raise NotDelegated(f"{folder} is not marked as delegated, so it is its manager's")
    try:
        ourselves = folder / OURSELVES
        ourselves.mkdir(exist_ok=True)
        while processes := (folder / "cgroup.procs").read_text().split():
            for process in processes:
                with suppress(ProcessLookupError):
                    (ourselves / "cgroup.procs").write_text(process)
        (folder / "cgroup.subtree_control").write_text(" ".join(f"+{c}" for c in controllers))
    except OSError as error:
        raise NotDelegated(f"{folder} can't be divided: {error.strerror}") from None


def _marked(folder: Path) -> bool:
    """Say whether systemd marked a cgroup as delegated."""
    for name in _DELEGATED:
        with suppress(OSError):
            if os.getxattr(folder, name) == b"1":
                return True
    return False


def _must_be_ours(folder: Path) -> bool:
    """Say whether a cgroup that we may write is ours for that: systemd before 251 marks for root.

    Root may write all of them. A user may write those of their own session, which are the session
    manager's.
    """
    return os.geteuid() != 0 and "user.slice" not in folder.parts
