"""A hostile recipe against the sandbox: each attack succeeds without its defences, not with one.

Where several defences stop an attack, it succeeds only without all of them, and each alone stops
it.
"""

from __future__ import annotations

import ast
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from foundation import bubblewrap, confinement, isolation
from foundation.bubblewrap import EVERY, Defences
from foundation.frames import FrameError, Pipe
from node.work.training import worker
from tests.attacks.sandbox import outside
from tests.attacks.sandbox.cases import CASES, MITRE, SECRET, Case
from tests.attacks.sandbox.outside import run, without
from tests.attacks.sandbox.place import Place
from tests.foundation import ordinary

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="root alone can take the sandbox's defences away one by one"
)

_WORDS = {
    "network": "an empty network",
    "calls": "the list of system calls",
    "root": "an empty root",
    "processes": "a process namespace",
    "user": "another user without a capability",
    "read_only": "read-only mounts",
    "tmp": "a bounded tmpfs",
    "limits": "resource limits",
    "environment": "a bare environment",
}
ATTACKS = (
    *(
        (
            case.title,
            case.source,
            "; ".join(
                [
                    *(_WORDS[name] for name in case.defences.split()),
                    *(f"off with it: {_WORDS[name]}" for name in case.besides.split()),
                ]
            ),
            "test_an_attack_succeeds_without_its_defences_and_fails_with_any_of_them",
        )
        for case in CASES
    ),
    (
        "An open file of the node's", "CVE-2024-21626", "no descriptor is inherited",
        "test_a_file_that_the_node_has_open_is_not_inherited",
    ),
    (
        "Typing into the terminal", "CVE-2017-5226, CVE-2019-7303",
        "a session of its own; the list of system calls",
        "test_nothing_is_typed_into_the_terminal_that_the_node_was_started_from",
    ),
    (
        "A user namespace in a user namespace",
        "CVE-2022-0185",
        "no room for another; the list of system calls",
        "test_a_user_namespace_holds_no_other",
    ),
    (
        "A GPU that wasn't granted",
        "CVE-2021-1056",
        "devices are given by policy alone",
        "test_a_gpu_is_there_only_where_it_was_granted",
    ),
    (
        "An endless log", f"{MITRE} T1499", "a limit of the log",
        "test_a_log_is_kept_up_to_its_limit",
    ),
    (
        "A link where the log goes", "CWE-59", "the log follows no link",
        "test_a_log_follows_no_link",
    ),
    (
        "A link in a release, to have its target shared",
        "CWE-59",
        "files are shared by descriptors that follow no link",
        "test_a_link_in_a_release_opens_no_other_file_to_workers",
    ),
    (
        "A huge reply", "CWE-789", "lengths are checked before anything is read",
        "test_a_huge_reply_is_refused_by_its_length",
    ),
    (
        "A reply in slow drops", "Hansen 2009, Slowloris", "a deadline of the whole reply",
        "test_a_reply_in_slow_drops_ends_at_the_tasks_time",
    ),
)  # fmt: skip
"""What the threat model lists: attack, source, defences of which each alone stops it, test."""


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    # Not below /tmp, which the sandbox has of its own.
    folder = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="wardgate-attacks-"))
    one = Place(folder)
    yield one
    one.close()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def users_python() -> Iterator[Path]:
    with ordinary.python() as program:
        yield program


@pytest.fixture(autouse=True)
def secret_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARDGATE_TEST_TOKEN", "secret")


@pytest.mark.parametrize("attack", CASES, ids=lambda case: f"{case.name} {case.title}")
def test_an_attack_succeeds_without_its_defences_and_fails_with_any_of_them(
    attack: Case, place: Place
) -> None:
    if not place.can(attack):
        pytest.skip("no IPv6 here")
    arguments = place.filled_in(attack)
    besides = set(attack.besides.split())

    def tried(*off: str) -> outside.Outcome:
        defences = without({*off, *besides})
        return run(attack.name, arguments, defences=defences, release=place.release)

    bare = tried(*attack.layers)
    if "Function not implemented" in bare.output:
        pytest.skip("this kernel doesn't have what is attacked")
    assert bare.succeeded, bare
    for layer in attack.layers:
        held = tried(*(attack.layers - {layer}))
        assert not held.succeeded, (layer, held)
        assert held.was_ended or "failed: " in held.output, (layer, held)


def test_a_file_that_the_node_has_open_is_not_inherited(place: Place) -> None:
    with (place.folder / "open" / "file").open("rb") as file:
        os.set_inheritable(file.fileno(), True)
        bare = run("descriptors", defences=without(["descriptors"]))
        assert bare.succeeded, bare
        held = run("descriptors")
        assert not held.succeeded, held


_AT_A_TERMINAL = """
import fcntl, os, select, sys, termios
from tests.attacks.sandbox.outside import run, without
from tests.attacks.sandbox.place import Place
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
for names in sys.argv[2:]:
    outcome = run(sys.argv[1], defences=without(names.split()))
    typed = b""
    while select.select([0], [], [], 0.1)[0]:
        typed += os.read(0, 100)
    print(names, outcome.succeeded, typed.strip().decode() or "nothing", sep=":", flush=True)
"""


@pytest.mark.skipif(
    Path("/proc/sys/dev/tty/legacy_tiocsti").exists()
    and Path("/proc/sys/dev/tty/legacy_tiocsti").read_text().strip() == "0",
    reason="this kernel lets nobody type into a terminal",
)
@pytest.mark.parametrize("name", ["typing", "typing_in_64_bits"])
def test_nothing_is_typed_into_the_terminal_that_the_node_was_started_from(name: str) -> None:
    ours, theirs = os.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", _AT_A_TERMINAL, name, "session calls", "session", "calls"],
            stdin=theirs,
            capture_output=True,
            text=True,
            check=True,
            start_new_session=True,
            timeout=120,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    bare, calls, session = (line.split(":") for line in done.stdout.split("\n")[:3])
    assert bare[1] == "True"
    assert calls[1:] == ["False", "nothing"]
    assert session[1:] == ["False", "nothing"]
    if name == "typing":
        assert bare[2] == "patient"


def test_a_link_in_a_release_opens_no_other_file_to_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shared(name: str) -> tuple[int, int]:
        """Group and mode of a file, once a release with a link to it is shared."""
        target, release = tmp_path / f"{name}-outside", tmp_path / f"{name}-release"
        target.write_text(SECRET)
        target.chmod(0o600)
        release.mkdir()
        (release / "link").symlink_to(target)
        confinement.make_readable(release)
        confinement.make_readable(release / "link")
        state = target.stat()
        return state.st_gid, state.st_mode & 0o777

    with monkeypatch.context() as off:
        off.setattr(confinement.os, "O_NOFOLLOW", 0)
        group, mode = shared("bare")
        assert group == confinement.WORKER_GID
        assert mode & 0o040
    assert shared("held") == (os.getgid(), 0o600)


# ---- what goes out -------------------------------------------------------------------------------


def test_a_log_is_kept_up_to_its_limit(place: Place, tmp_path: Path, monkeypatch) -> None:
    def log(name: str) -> int:
        confined = outside.begin("floods", [str(3 * 2**20)])
        worker._keep_log(confined, tmp_path / name)
        confined.kill()
        return (tmp_path / name).stat().st_size

    with monkeypatch.context() as off:
        off.setattr(worker, "MAX_LOG_BYTES", 2**40)
        assert log("bare") >= 3 * 2**20
    assert log("held") == worker.MAX_LOG_BYTES


def test_a_log_follows_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "outside"
    (tmp_path / "log").symlink_to(target)

    def written() -> int:
        target.write_text("")
        confined = outside.begin("floods", ["100"])
        worker._keep_log(confined, tmp_path / "log")
        confined.kill()
        return target.stat().st_size

    with monkeypatch.context() as off:
        off.setattr(worker.os, "O_NOFOLLOW", 0)
        assert written() >= 100
    assert written() == 0


def _reply(name: str, size: int, **limits: float) -> str:
    """Return what a frame that an attack sends comes to."""
    incoming, theirs = os.pipe()
    unused, outgoing = os.pipe()
    pipe = Pipe(incoming, outgoing)
    confined = outside.begin(name, [str(theirs), str(size)], pass_fds=[theirs])
    os.close(theirs)
    try:
        seconds = limits.get("seconds")
        deadline = time.monotonic() + seconds if seconds else None
        frame = pipe.receive(int(limits.get("bytes", 2**40)), deadline)
        return f"{len(frame.message) + len(frame.body)} bytes"
    except FrameError as error:
        return error.why.name
    finally:
        confined.kill()
        pipe.close()
        os.close(unused)


def test_a_huge_reply_is_refused_by_its_length() -> None:
    assert _reply("huge_reply", 50_000_000) == "50000000 bytes"
    assert _reply("huge_reply", 50_000_000, bytes=1_000_000) == "TOO_LARGE"


def test_a_reply_in_slow_drops_ends_at_the_tasks_time() -> None:
    assert _reply("slow_reply", 20) == "20 bytes"
    assert _reply("slow_reply", 100_000, seconds=1.0) == "OVERDUE"


_ALL_AS_A_USER = """
import os, pathlib, tempfile
from tests.attacks.sandbox.cases import CASES
from tests.attacks.sandbox.outside import run, without
from tests.attacks.sandbox.place import Place
os.environ["WARDGATE_TEST_TOKEN"] = "secret"
place = Place(pathlib.Path(tempfile.mkdtemp(dir="/var/tmp", prefix="wardgate-attacks-")))
for case in CASES:
    if place.can(case):
        layers = case.layers - {"user"}
        if layers & {"calls"} and case.name.startswith("user_namespace"):
            layers |= {"nesting"}
        told = place.filled_in(case)
        bare = run(case.name, told, defences=without(layers), release=place.release)
        held = run(case.name, told, release=place.release)
        print(int(bare.succeeded), int(held.succeeded), case.title, flush=True)
place.close()
__import__("shutil").rmtree(place.folder)
"""
_ONLY_ROOTS = {
    "A mount",
    "BPF",
    "Files by inode number",
    "Handling page faults",
    "Performance events",
    "Reading another process's memory",
    "Tracing another process",
}
"""What an ordinary user cannot do anyway, or not on every kernel."""


def test_every_attack_fails_where_an_ordinary_user_runs_the_node_too(users_python: Path) -> None:
    done = subprocess.run(
        [*ordinary.BECOME, users_python, "-c", _ALL_AS_A_USER],
        env=ordinary.ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    rows = [line.split(" ", 2) for line in done.stdout.splitlines()]
    assert len(rows) >= len(CASES) - 1
    assert [title for _, held, title in rows if held == "1"] == []
    assert {title for bare, _, title in rows if bare == "0"} <= _ONLY_ROOTS


_AS_A_USER = """
import sys
from tests.attacks.sandbox.outside import run, without
from tests.attacks.sandbox.place import Place
for names in ("nesting calls", "nesting", "calls"):
    print(run(sys.argv[1], defences=without(names.split())).succeeded)
"""


@pytest.mark.parametrize("name", ["user_namespace", "user_namespace_by_clone"])
def test_a_user_namespace_holds_no_other(name: str, users_python: Path) -> None:
    done = subprocess.run(
        [*ordinary.BECOME, users_python, "-c", _AS_A_USER, name],
        env=ordinary.ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    assert done.stdout.split() == ["True", "False", "False"]


def test_a_gpu_is_there_only_where_it_was_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    # A device that every machine has, in place of a GPU's.
    monkeypatch.setattr(bubblewrap, "graphics_devices", lambda: (Path("/dev/kmsg"),))
    granted = dataclasses.replace(outside.LIMITS, gpus=True)
    assert run("devices", ["kmsg"], limits=granted).succeeded
    assert not run("devices", ["kmsg"]).succeeded
    # What stands behind a driver is open then, and no more than that.
    assert run("shared_memory", ["16"], limits=granted).succeeded
    for name in ("ipv4", "io_uring", "user_namespace", "mounts"):
        assert not run(name, ["1"] * (name == "ipv4"), limits=granted).succeeded, name


# ---- the defences themselves ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("defence", "noticed"),
    [
        ("network", "there is no network|its namespaces are its own"),
        ("processes", "no other process is seen"),
        ("root", "files outside are out of reach"),
        ("read_only", "the release can't be written"),
        ("tmp", "its temporary files are bounded"),
        ("user", "no privilege is left"),
        ("limits", "its limits are in force"),
        ("calls", "system calls are filtered"),
        ("descriptors", "no open file is inherited"),
        ("environment", "its environment is bare"),
    ],
)
def test_the_self_test_notices_each_defence_that_is_missing(
    defence: str, noticed: str, place: Place
) -> None:
    with (place.folder / "open" / "file").open("rb") as file:
        os.set_inheritable(file.fileno(), True)
        # As root nothing is written that a user may not write.
        names = {defence, "user"} if defence == "read_only" else {defence}
        found = isolation.examine(without(names))
    wrong = [one.name for one in found if one.required and not one.holds]
    assert any(re.fullmatch(noticed, name) for name in wrong), wrong
    assert isolation.refusal(found)


def test_no_code_of_ours_takes_a_defence_away() -> None:
    root = Path(__file__).parents[3]
    given: set[str] = set()
    for package in ("contract", "foundation", "node", "coordinator", "researcher", "recipes"):
        for path in (root / package).rglob("*.py"):
            text = path.read_text()
            if "efences" not in text:
                continue
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Call):
                    named = {keyword.arg for keyword in node.keywords}
                    made = isinstance(node.func, ast.Name) and node.func.id == "Defences"
                    if "defences" in named or (made and node.keywords):
                        given.add(str(path.relative_to(root)))
    # They hand on what they were given, which is all of them unless a test says otherwise.
    assert given <= {"foundation/confinement.py", "foundation/isolation.py"}
    assert Defences() == EVERY
    assert all(vars(EVERY).values())
