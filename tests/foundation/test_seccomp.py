"""The list of system calls: what is on it, on every machine, and what a program meets."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from contract.errors import SandboxError
from foundation import confinement, seccomp
from foundation.bubblewrap import Bind, Limits
from foundation.seccomp import Rule, rules

EVERY = [
    {"as_root": root, "descriptors": descriptors, "gpus": gpus}
    for root in (True, False)
    for descriptors in (True, False)
    for gpus in (True, False)
]
DANGEROUS = """
    ptrace process_vm_readv process_vm_writev keyctl add_key request_key bpf perf_event_open
    userfaultfd io_uring_setup io_uring_enter io_uring_register mount umount2 unshare setns
    kexec_load kexec_file_load init_module finit_module delete_module open_by_handle_at personality
    seccomp pivot_root chroot
"""


def answers(found: list[Rule], call: str) -> set[str]:
    return {rule.action for rule in found if rule.call == call}


@pytest.mark.parametrize("given", EVERY)
def test_what_only_an_attack_wants_ends_the_process_whatever_is_given(given) -> None:
    found = rules(**given)
    for call in DANGEROUS.split():
        assert answers(found, call) == {"kill"}, call
    for call in ("connect", "bind", "listen", "accept4", "setsockopt", "sendmmsg", "socket"):
        assert answers(found, call) == {"refuse"}, call
    assert answers(found, "clone3") == set()


def test_a_call_has_one_answer_or_conditions() -> None:
    for given in EVERY:
        found = rules(**given)
        whole = [rule.call for rule in found if not rule.conditions]
        assert len(whole) == len(set(whole))
        looked_at = {rule.call for rule in found if rule.conditions}
        assert not looked_at & set(whole)


def test_only_a_process_that_needs_them_has_the_calls_of_its_kind() -> None:
    worker = rules(as_root=False, descriptors=False, gpus=False)
    assert answers(worker, "setresuid") == {"refuse"}
    assert answers(rules(as_root=True, descriptors=False, gpus=False), "setresuid") == {"allow"}
    for call in ("sendmsg", "recvmsg", "memfd_create"):
        assert answers(worker, call) == {"refuse"}
        assert answers(rules(as_root=False, descriptors=True, gpus=False), call) == {"allow"}
    assert all(rule.conditions for rule in worker if rule.call in ("mmap", "ioctl", "clone"))


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "riscv64"])
def test_it_is_compiled_for_other_machines_too(machine: str) -> None:
    program = seccomp.compiled(rules(as_root=True, descriptors=True, gpus=True), machine)
    assert len(program) % 8 == 0  # struct sock_filter
    assert 100 < len(program) // 8 < 4096  # BPF_MAXINSNS


def test_libseccomp_knows_every_name() -> None:
    names = {rule.call for given in EVERY for rule in rules(**given)}
    known = subprocess.run(
        [
            seccomp.SYSTEM_PYTHON, "-I", "-c",
            "import seccomp, sys\n"
            "for name in sys.argv[1:]:\n"
            "    try: seccomp.resolve_syscall(seccomp.Arch(), name)\n"
            "    except Exception: print(name)",
            *sorted(names),
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    # fchmodat2 is of Linux 6.6.
    assert set(known.stdout.split()) <= {"fchmodat2"}


def test_what_libseccomp_says_is_told() -> None:
    with pytest.raises(SandboxError, match="libseccomp can't compile the system-call list"):
        seccomp.compiled([], "no-such-machine")


def test_an_honest_program_gets_what_it_needs_and_a_clear_error_for_the_rest() -> None:
    here = Path(__file__).parent
    confined = confinement.start(
        "tests.foundation.honest",
        packages=["contract", "foundation"],
        binds=[Bind(here, str(here))],
        limits=Limits(processes=32),
    )
    output, _ = confined.process.communicate(timeout=60)
    confined.kill()
    assert output.decode() == "all as it should be\n"
