"""What a sandbox starts is in its cgroup and ends with it; a cgroup not ours is left alone."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from foundation import cgroups, confinement
from foundation.cgroups import CONTROLLERS, OURSELVES, Delegation, NotDelegated
from tests.attacks.sandbox import outside

HYBRID = """\
24 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw
30 24 0:27 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw
"""
IN_A_CONTAINER = "30 24 0:27 /docker/ab12 /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n"


def mounted() -> Path | None:
    """Return where cgroups of version 2 are, if we may make some."""
    try:
        _, folder = cgroups._mount(Path("/proc/self/mountinfo").read_text())
    except NotDelegated:
        return None
    return folder if os.access(folder, os.W_OK) and os.geteuid() == 0 else None


@pytest.fixture
def ours() -> Iterator[Path]:
    """A cgroup that nobody else uses."""
    root = mounted()
    if root is None:
        pytest.skip("no cgroup can be made here")
    folder = root / f"wardgate-test-{secrets.token_hex(4)}"
    folder.mkdir()
    yield folder
    with suppress(OSError):
        (folder / "cgroup.kill").write_text("1")
    for path in (*folder.glob("*/"), folder):
        until = time.monotonic() + 20
        while path.exists() and time.monotonic() < until:
            with suppress(OSError):
                path.rmdir()


def processes(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "cgroup.procs").read_text().split()]


def runs(pid: int) -> bool:
    """Say whether a process is there and not only waited for."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def available() -> tuple[str, ...]:
    """Return the controllers of which this machine lets version 2 dispose."""
    root = mounted()
    there = (root / "cgroup.subtree_control").read_text().split() if root else []
    return tuple(name for name in CONTROLLERS if name in there)


def test_we_move_below_and_what_we_make_is_beside_us(ours: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as daemon:
        (ours / "cgroup.procs").write_text(str(daemon.pid))
        delegation = cgroups.claim(ours, ())
        assert delegation.folder == ours
        assert processes(ours) == []
        assert processes(ours / OURSELVES) == [daemon.pid]
        assert cgroups.claim(ours / OURSELVES, ()).folder == ours  # by who is there already
        left = ours / "confined-0123"
        left.mkdir()
        cgroups.claim(ours, ())
        assert not left.exists()
        daemon.kill()


def test_all_that_a_sandbox_starts_is_in_its_group_and_ends_with_it(
    ours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confinement, "delegation", lambda: Delegation(ours, ()))
    confined = outside.begin("fork_bomb", ["8"])
    assert confined.group is not None
    assert confined.process.stdout is not None
    assert b"succeeded" in confined.process.stdout.readline()
    inside = processes(confined.group.folder)
    assert confined.process.pid in inside
    assert len(inside) >= 9
    confined.kill()
    assert not confined.group.folder.exists()
    until = time.monotonic() + 60
    while any(map(runs, inside)) and time.monotonic() < until:
        time.sleep(0.01)  # a process that dies is in no group any more
    assert not [pid for pid in inside if runs(pid)]
    confined.kill()


@pytest.mark.skipif("memory" not in available(), reason="this kernel's version 2 has no memory")
def test_memory_is_bounded_over_all_processes_together(
    ours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delegation = cgroups.claim(ours, ("memory",))
    monkeypatch.setattr(confinement, "delegation", lambda: delegation)
    confined = outside.begin("many_memories", ["8", "64"])
    assert confined.process.wait(60) == -signal.SIGKILL
    assert "more memory than the policy gives" in confined.why_it_ended()
    confined.kill()
    monkeypatch.setattr(confinement, "delegation", lambda: "none")
    assert outside.run("many_memories", ["8", "64"]).succeeded


def test_processes_of_a_group_are_bounded(ours: Path) -> None:
    if "pids" not in available():
        pytest.skip("this kernel's version 2 has no pids")
    group = cgroups.claim(ours, ("pids",)).group(memory_bytes=2**30, processes=7)
    many = 'echo 0 > "$1"; for i in 1 2 3 4 5 6 7 8; do sleep 60 & done'
    shell = ["/bin/sh", "-c", many, "sh", str(group.entrance)]
    done = subprocess.run(shell, capture_output=True, text=True, check=False)
    assert "fork" in done.stderr
    group.remove()


def test_a_cgroup_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    def refuses(why: str) -> None:
        before = sorted(tmp_path.iterdir())
        with pytest.raises(NotDelegated, match=why):
            cgroups.claim(tmp_path)
        assert sorted(tmp_path.iterdir()) == before

    refuses("can't be read")
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    refuses("has no controller pids")
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (tmp_path / "cgroup.procs").write_text("")
    refuses("cgroup.subtree_control can't be written")


def test_root_divides_a_cgroup_of_its_own_only_where_it_is_marked(
    ours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "_own", lambda: ours)
    with pytest.raises(NotDelegated, match="not marked as delegated"):
        cgroups.claim(controllers=())
    assert not (ours / OURSELVES).exists()
    os.setxattr(ours, "user.delegate", b"1")
    assert cgroups.claim(controllers=()).folder == ours


def test_the_mount_of_version_2_is_found_among_others() -> None:
    assert cgroups._mount(HYBRID) == (Path("/"), Path("/sys/fs/cgroup/unified"))
    assert cgroups._mount(IN_A_CONTAINER) == (Path("/docker/ab12"), Path("/sys/fs/cgroup"))
    with pytest.raises(NotDelegated, match="no cgroup file system of version 2"):
        cgroups._mount(HYBRID.splitlines()[0])
