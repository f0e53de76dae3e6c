"""Compile a list of system calls to BPF. Run by the system's own Python, which has libseccomp's.

Reads the rules as JSON from standard input and writes the program to standard output. It imports
nothing of Wardgate: our environment isn't on this Python's path.
"""

from __future__ import annotations

import json
import sys

import seccomp  # type: ignore[import-not-found,unused-ignore]

OPTIMIZE_AS_A_TREE = 2


def main() -> None:
    """Compile and write."""
    order = json.load(sys.stdin)
    actions = {
        "allow": seccomp.ALLOW,
        "refuse": seccomp.ERRNO(order["refused"]),
        "kill": seccomp.KILL_PROCESS,
    }
    found = seccomp.SyscallFilter(seccomp.ERRNO(order["otherwise"]))
    # Calls by another machine's numbers (32 bits, x32) would pass by other names.
    found.set_attr(seccomp.Attr.ACT_BADARCH, seccomp.KILL_PROCESS)
    if order["machine"]:
        found.remove_arch(seccomp.Arch())
        found.add_arch(seccomp.Arch(order["machine"]))
    found.set_attr(seccomp.Attr.CTL_OPTIMIZE, OPTIMIZE_AS_A_TREE)
    for action, call, conditions in order["rules"]:
        try:
            resolved = seccomp.resolve_syscall(seccomp.Arch(), call)
        except (ValueError, RuntimeError):
            continue  # newer than this libseccomp: it stays refused
        arguments = [
            seccomp.Arg(number, seccomp.MASKED_EQ, mask, value)
            for number, mask, value in conditions
        ]
        found.add_rule(actions[action], resolved, *arguments)
    found.export_bpf(sys.stdout.buffer)


if __name__ == "__main__":
    main()
