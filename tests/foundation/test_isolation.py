"""The self-test proves the sandbox, as root and as another user, and names what is in the way."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest

from contract.errors import SandboxError
from foundation import isolation, seccomp
from foundation.isolation import Property, diagnose, refusal
from tests.foundation import ordinary

SYSTEM = {
    "user.max_user_namespaces": "15000",
    "kernel.unprivileged_userns_clone": "1",
    "kernel.apparmor_restrict_unprivileged_userns": "0",
}


def test_every_property_holds_here() -> None:
    found = isolation.self_test()
    assert [one.name for one in found if one.required and not one.holds] == []
    assert len(found) > 20


def test_a_machine_that_cannot_bound_all_processes_together_is_told_so_and_passes() -> None:
    assert refusal([Property("a"), Property("b", "there is no cgroup", required=False)]) == ""
    assert refusal([Property("a", "why"), Property("b")]) == "The sandbox fails: a: why."


def test_self_test_names_a_missing_bubblewrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SandboxError, match="apt-get install bubblewrap"):
        isolation.self_test()


def test_a_missing_binding_of_libseccomp_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "SYSTEM_PYTHON", "/nonexistent/python3")
    with pytest.raises(SandboxError, match="apt-get install python3 python3-seccomp"):
        seccomp.compiled([])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kernel.unprivileged_userns_clone", "0"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1"),
        ("user.max_user_namespaces", "0"),
    ],
)
@pytest.mark.parametrize(
    "output",
    [
        "bwrap: No permissions to create new namespace, likely because the kernel",
        "bwrap: setting up uid map: Permission denied",
        "bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted",
    ],
)
def test_a_switched_off_user_namespace_is_named(name: str, value: str, output: str) -> None:
    assert f"sysctl {name} is {value}; set it to" in diagnose(output, SYSTEM | {name: value})


def test_what_nobody_foresaw_is_told_in_bubblewraps_words() -> None:
    assert diagnose("bwrap: the moon is full", SYSTEM) == (
        "The sandbox doesn't hold: bwrap: the moon is full"
    )
    assert "it said nothing" in diagnose("", SYSTEM)


# ---- on a machine where something is in the way --------------------------------------------------

_TRY = """
from foundation import isolation
from contract.errors import SandboxError
try:
    isolation.self_test()
    print("it holds")
except SandboxError as error:
    print(error)
"""
_REFUSING = """
import os, seccomp, sys
number, *calls = sys.argv[1].split()
found = seccomp.SyscallFilter(seccomp.ALLOW)
for call in calls:
    name, _, flag = call.partition(":")
    arguments = [seccomp.Arg(0, seccomp.MASKED_EQ, int(flag, 0), int(flag, 0))] if flag else []
    found.add_rule(seccomp.ERRNO(int(number)), name, *arguments)
found.load()
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Callable[..., str]]:
    """Run the self-test as an ordinary user of another Python, below some other program."""
    with ordinary.python() as python:

        def tried(*before: str, user: bool = True) -> str:
            done = subprocess.run(
                [*(ordinary.BECOME if user else []), *before, python, "-c", _TRY],
                env=ordinary.ENVIRONMENT,
                capture_output=True,
                text=True,
                check=True,
                cwd="/",
            )
            return done.stdout.strip()

        yield tried


def refusing(number: int, calls: str) -> list[str]:
    """Return what runs a program for which these system calls fail."""
    return [seccomp.SYSTEM_PYTHON, "-I", "-c", _REFUSING, f"{number} {calls}"]


def test_an_ordinary_users_sandbox_holds_too(elsewhere: Callable[..., str]) -> None:
    assert elsewhere() == "it holds"


def test_a_kernel_without_user_namespaces_is_named(elsewhere: Callable[..., str]) -> None:
    off = "echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-all "
    said = elsewhere(
        "unshare", "--user", "--map-current-user", "--keep-caps",
        "sh", "-c", off + '--inh-caps=-all --ambient-caps=-all "$@"', "sh",
    )  # fmt: skip
    assert said.startswith(
        "User namespaces are off: sysctl user.max_user_namespaces is 0; set it to 15000."
    )


def test_a_containers_own_list_of_system_calls_is_named(elsewhere: Callable[..., str]) -> None:
    # As Docker's default profile does without CAP_SYS_ADMIN.
    said = elsewhere(*refusing(1, "unshare:0x10000000 clone:0x10000000"))
    assert "The kernel lets this user make no namespaces" in said
    assert ("seccomp-sandbox.json" in said) == isolation._container()


def test_a_covered_proc_is_named(elsewhere: Callable[..., str]) -> None:
    covered = "mount -t tmpfs none /proc/fs && exec setpriv --reuid 65534 --regid 65534 "
    said = elsewhere(
        "unshare", "--mount", "sh", "-c", covered + '--clear-groups "$@"', "sh", user=False
    )
    assert said.startswith("A new /proc can't be mounted while parts of the machine's are covered")


def test_a_profile_that_forbids_mounts_is_named(elsewhere: Callable[..., str]) -> None:
    assert "AppArmor" in elsewhere(*refusing(13, "mount"))


def test_a_unit_that_forbids_netlink_is_named(elsewhere: Callable[..., str]) -> None:
    assert "AF_NETLINK must be in RestrictAddressFamilies=" in elsewhere(
        *refusing(97, "socket:0x10")
    )


def test_a_kernel_without_filters_is_named(elsewhere: Callable[..., str]) -> None:
    assert "CONFIG_SECCOMP_FILTER" in elsewhere(*refusing(22, "prctl:0x16"))
