"""The command line of the sandbox: what is shown, as whom, and with which namespaces."""

import contextlib
import errno
import os
import subprocess
import time
from pathlib import Path

import pytest

from foundation import confinement
from foundation.bubblewrap import Bind, Installation, Limits, bubblewrap_command
from foundation.confined import privileges

LIMITS = Limits(tmp_bytes=1000)


def command(root: bool) -> list[str]:
    where = Installation("/v/bin/python", (Path("/v"), Path("/w/src/node")), (), root)
    return bubblewrap_command(
        ["/v/bin/python"],
        installation=where,
        binds=[Bind(Path("/private/release"), "/release")],
        limits=LIMITS,
        environment={"HOME": "/tmp"},
    )


def test_every_option_is_known_to_the_installed_bubblewrap():
    known = subprocess.run(["bwrap", "--help"], capture_output=True, text=True, check=True)
    for option in command(True) + command(False):
        if option.startswith("--") and option != "--":
            assert option in known.stdout + known.stderr, option


def test_an_ordinary_user_gets_a_user_namespace_and_root_gets_none():
    assert "--unshare-user" in command(False)
    assert "--unshare-user" not in command(True)
    assert "--cap-drop" in command(True)
    assert "--cap-drop" not in command(False)


def test_only_what_was_given_is_bound_and_only_for_reading():
    line = command(True)
    assert "--bind" not in line
    bound = [line[i + 2] for i, option in enumerate(line) if option == "--ro-bind"]
    assert bound == ["/v", "/w/src/node", "/release"]
    for namespace in ("pid", "net", "ipc", "uts", "cgroup-try"):
        assert f"--unshare-{namespace}" in line


def test_a_process_with_any_privilege_is_noticed():
    clean = "".join(f"Cap{c}:\t0000000000000000\n" for c in ("Inh", "Prm", "Eff", "Bnd", "Amb"))
    clean += "NoNewPrivs:\t1\nUid:\t61190\t61190\t61190\t61190\nGid:\t7\t7\t7\t7\nGroups:\t \n"
    assert privileges(clean) == []
    assert privileges(clean.replace("CapBnd:\t0000000000000000", "CapBnd:\t0000000000000001"))
    assert privileges(clean.replace("NoNewPrivs:\t1", "NoNewPrivs:\t0"))
    assert privileges(clean.replace("Uid:\t61190", "Uid:\t0"))
    assert privileges(clean.replace("Groups:\t ", "Groups:\t0 "))
    assert privileges("")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands files to other users")
def test_root_lets_the_workers_group_read_and_nobody_else(tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True, mode=0o700)
    file = inner / "f"
    file.write_bytes(b"x")
    file.chmod(0o600)
    confinement.make_readable(tmp_path / "a")
    assert (file.stat().st_mode & 0o777, file.stat().st_gid) == (0o640, confinement.WORKER_GID)
    assert inner.stat().st_mode & 0o007 == 0


def test_each_worker_of_root_has_a_uid_of_its_own():
    taken = {confinement._take_uid() for _ in range(50)}
    assert len(taken) == 50
    assert taken <= set(confinement.UIDS)
    confinement._in_use.difference_update(taken)


def test_a_process_that_is_ended_before_it_began_leaves_nothing_behind():
    mark = f"never-{os.getpid()}"
    for number in range(20):
        confined = confinement.start(
            "json.tool",
            [mark],
            packages=["contract", "foundation"],
            binds=[],
            limits=Limits(processes=8),
        )
        time.sleep(number / 1000)
        confined.kill()
        confined.process.stdout.close()
    left = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if mark.encode() in path.read_bytes():
                left.append(path.parent.name)
    assert left == []


def test_where_no_descriptor_of_a_process_is_to_be_had_it_is_ended_all_the_same(monkeypatch):
    def none(_pid):
        raise OSError(errno.EMFILE, "too many open files")

    ended = []
    kill = os.kill
    monkeypatch.setattr(os, "pidfd_open", none)
    monkeypatch.setattr(os, "kill", lambda pid, number: (ended.append(pid), kill(pid, number)))
    confined = confinement.start(
        "json.tool", [], packages=["contract"], binds=[], limits=Limits(processes=8)
    )
    pid = confined.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children")
    while not children.read_text().split():
        time.sleep(0.001)
    inside = int(children.read_text().split()[0])
    confined.kill()
    confined.process.stdout.close()
    assert inside in ended
