"""The system calls of a confined process: an allow-list, compiled to BPF by libseccomp.

What isn't listed fails as on a kernel that is older than the call (``ENOSYS``), so that libraries
fall back. What an ordinary process may try without harm is refused (``EPERM``). What nobody but an
attacker wants ends the process. The lists were found by tracing CPython, NumPy, PyTorch with its
loaders, Polars and Flower; ``docs/reference/sandbox.md`` tells what a recipe notices of them.

libseccomp's own binding belongs to the system's Python, not to ours: ``seccomp_export`` is run by
that one (docs/decisions/0022-system-calls.md).
"""

from __future__ import annotations

import errno
import functools
import json
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from contract.errors import SandboxError

SYSTEM_PYTHON = "/usr/bin/python3"
EXPORT_SECONDS = 30


class Argument(NamedTuple):
    """A condition on one argument of a call: ``argument & mask == value``."""

    number: int
    mask: int
    value: int


class Rule(NamedTuple):
    """What becomes of a call whose arguments meet all the conditions."""

    action: Literal["allow", "refuse", "kill"]
    call: str
    conditions: tuple[Argument, ...] = ()


EVERY_BIT = 2**64 - 1

# ---- allowed, whatever the arguments -------------------------------------------------------------

_FILES = """
    read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek _llseek
    open openat creat close close_range stat lstat fstat stat64 lstat64 fstat64 newfstatat
    fstatat64 statx statfs fstatfs statfs64 fstatfs64 access faccessat faccessat2 readlink
    readlinkat getdents getdents64 getcwd chdir fchdir mkdir mkdirat rmdir unlink unlinkat rename
    renameat renameat2 link linkat symlink symlinkat chmod fchmod fchmodat fchmodat2 utime utimes
    utimensat futimesat truncate ftruncate truncate64 ftruncate64 fallocate fadvise64
    arm_fadvise64_64 copy_file_range sendfile sendfile64 dup dup2 dup3 fcntl fcntl64 flock fsync
    fdatasync sync_file_range umask pipe pipe2 listxattr llistxattr flistxattr getxattr lgetxattr
    fgetxattr
"""
_MEMORY = "brk munmap mprotect mremap madvise mincore msync membarrier mbind get_mempolicy"
_THREADS = """
    fork vfork execve exit exit_group wait4 waitid waitpid kill tkill tgkill futex futex_time64
    set_robust_list get_robust_list set_tid_address rseq restart_syscall arch_prctl gettid getpid
    getppid getpgid getpgrp getsid setsid setpgid sched_yield sched_getaffinity sched_setaffinity
    sched_getparam sched_getscheduler sched_get_priority_max sched_get_priority_min getcpu
    getpriority setpriority
"""
_SIGNALS = """
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigsuspend rt_sigtimedwait
    sigaltstack sigreturn alarm pause setitimer getitimer
"""
_TIME = """
    clock_gettime clock_gettime64 clock_getres clock_getres_time64 clock_nanosleep
    clock_nanosleep_time64 gettimeofday nanosleep time times
"""
_WAITING = """
    poll ppoll select pselect6 _newselect epoll_create epoll_create1 epoll_ctl epoll_wait
    epoll_pwait epoll_pwait2 eventfd eventfd2
"""
_ABOUT_ITSELF = """
    getuid geteuid getgid getegid getresuid getresgid getgroups uname sysinfo getrandom getrusage
    getrlimit ugetrlimit setrlimit capget capset
"""
_OF_A_PAIR = "getsockname getpeername getsockopt shutdown"
_BECOMING_ANOTHER = "setgroups setresgid setresuid"
"""Of root's sandbox, whose inside gives its privileges up; without one they do nothing."""

# ---- allowed with some arguments -----------------------------------------------------------------

_NAMESPACES = (  # <linux/sched.h>: CLONE_NEW...
    0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
_IOCTLS = {
    "TCGETS": 0x5401,  # isatty
    "TIOCGWINSZ": 0x5413,
    "FIONREAD": 0x541B,
    "FIONBIO": 0x5421,
    "FIONCLEX": 0x5450,
    "FIOCLEX": 0x5451,
}
_PRCTLS = {
    "PR_SET_PDEATHSIG": 1,  # multiprocessing's children
    "PR_GET_DUMPABLE": 3,
    "PR_SET_NAME": 15,
    "PR_GET_NAME": 16,
    "PR_GET_SECCOMP": 21,
    "PR_CAPBSET_READ": 23,
    "PR_CAPBSET_DROP": 24,
    "PR_SET_NO_NEW_PRIVS": 38,
    "PR_GET_NO_NEW_PRIVS": 39,
    "PR_CAP_AMBIENT": 47,
}
_PR_SET_DUMPABLE = 4
_MAP_TYPE, _MAP_PRIVATE, _MAP_ANONYMOUS = 0x0F, 0x02, 0x20
_AF_UNIX, _SOCK_STREAM, _SOCK_TYPE = 1, 1, 0x0F
_MSG_OOB = 1
_MFD_FLAGS = 0x3  # MFD_CLOEXEC, MFD_ALLOW_SEALING

# ---- refused, and worse --------------------------------------------------------------------------

_REFUSED = """
    socket socketpair connect bind listen accept accept4 setsockopt sendto recvfrom sendmsg recvmsg
    sendmmsg recvmmsg chown fchown lchown fchownat mknod mknodat setxattr lsetxattr fsetxattr
    removexattr setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid
    sethostname setdomainname mlock mlock2 mlockall sched_setscheduler sched_setparam sched_setattr
    ioprio_set inotify_init inotify_init1 memfd_create shmget semget msgget mq_open syslog
    settimeofday clock_settime adjtimex clock_adjtime vhangup sync syncfs
"""
_KILLED = """
    ptrace process_vm_readv process_vm_writev process_madvise kcmp pidfd_getfd
    keyctl add_key request_key bpf perf_event_open userfaultfd
    io_uring_setup io_uring_enter io_uring_register
    mount umount umount2 mount_setattr move_mount open_tree fsopen fsconfig fsmount fspick
    pivot_root chroot unshare setns open_by_handle_at fanotify_init quotactl quotactl_fd
    kexec_load kexec_file_load init_module finit_module delete_module
    personality modify_ldt iopl ioperm reboot swapon swapoff acct seccomp lookup_dcookie
    nfsservctl uselib
"""


def rules(*, as_root: bool, descriptors: bool, gpus: bool) -> list[Rule]:
    """Return the list, and decide nothing else.

    ``as_root``: the inside becomes another user first. ``descriptors``: it is handed memory files
    over a socket, and hands them out. ``gpus``: it may drive the devices that it was given.
    """
    allowed = [_FILES, _MEMORY, _THREADS, _SIGNALS, _TIME, _WAITING, _ABOUT_ITSELF, _OF_A_PAIR]
    if as_root:
        allowed.append(_BECOMING_ANOTHER)
    found = [Rule("allow", call) for call in " ".join(allowed).split()]
    found += _processes() + _memory(gpus) + _sockets(descriptors) + _devices(gpus)
    found += [
        Rule("allow", "prctl", (Argument(0, EVERY_BIT, option),)) for option in _PRCTLS.values()
    ]
    found.append(
        Rule(
            "allow",
            "prctl",
            (Argument(0, EVERY_BIT, _PR_SET_DUMPABLE), Argument(1, EVERY_BIT, 0)),
        )
    )
    found.append(Rule("allow", "prlimit64", (Argument(0, EVERY_BIT, 0),)))  # its own
    answered = {rule.call for rule in found}
    found += [Rule("refuse", call) for call in _REFUSED.split() if call not in answered]
    return found + [Rule("kill", call) for call in _KILLED.split()]


def _processes() -> list[Rule]:
    """``clone`` without a namespace; ``clone3``, whose flags no filter can see, isn't there."""
    found = [Rule("allow", "clone", (Argument(0, sum(_NAMESPACES), 0),))]
    return found + [Rule("kill", "clone", (Argument(0, flag, flag),)) for flag in _NAMESPACES]


def _memory(gpus: bool) -> list[Rule]:
    """Shared memory without a name counts against no limit of a process: only in a file of /tmp."""
    if gpus:
        return [Rule("allow", "mmap"), Rule("allow", "mmap2"), _memory_files()]
    private = _MAP_ANONYMOUS | _MAP_PRIVATE
    return [
        Rule("allow", call, (condition,))
        for call in ("mmap", "mmap2")
        for condition in (
            Argument(3, _MAP_ANONYMOUS, 0),
            Argument(3, _MAP_ANONYMOUS | _MAP_TYPE, private),
        )
    ]


def _sockets(descriptors: bool) -> list[Rule]:
    """No socket can be made but a connected pair of streams, which reaches nobody.

    Out-of-band bytes are left out: that part of the kernel has been broken before.
    """
    found = [
        Rule(
            "allow",
            "socketpair",
            (Argument(0, EVERY_BIT, _AF_UNIX), Argument(1, _SOCK_TYPE, _SOCK_STREAM)),
        ),
        Rule("allow", "sendto", (Argument(3, _MSG_OOB, 0), Argument(4, EVERY_BIT, 0))),
        Rule("allow", "recvfrom", (Argument(3, _MSG_OOB, 0),)),
    ]
    if descriptors:
        found += [Rule("allow", call, (Argument(2, _MSG_OOB, 0),)) for call in _MESSAGES]
        found.append(_memory_files())
    return found


_MESSAGES = ("sendmsg", "recvmsg")


def _memory_files() -> Rule:
    return Rule("allow", "memfd_create", (Argument(1, EVERY_BIT ^ _MFD_FLAGS, 0),))


def _devices(gpus: bool) -> list[Rule]:
    """A driver's commands are its own; typing into a terminal is nobody's."""
    if not gpus:
        return [
            Rule("allow", "ioctl", (Argument(1, EVERY_BIT, command),))
            for command in _IOCTLS.values()
        ]
    # The kernel looks at 32 bits of the command, so a filter must not look at more.
    letters, low = 0xFF00, 0xFFFFFFFF
    found = [
        Rule("allow", "ioctl", (Argument(1, letters, group << 8),))
        for group in range(256)
        if group != ord("T")
    ]
    return found + [
        Rule("allow", "ioctl", (Argument(1, low, command),)) for command in _IOCTLS.values()
    ]


@functools.cache
def program(*, as_root: bool, descriptors: bool, gpus: bool) -> bytes:
    """Return the compiled list, for ``bwrap --seccomp``. ``SandboxError`` without libseccomp."""
    return compiled(rules(as_root=as_root, descriptors=descriptors, gpus=gpus))


def compiled(found: Iterable[Rule], machine: str = "") -> bytes:
    """Have libseccomp compile rules, for this machine or for the one that is named."""
    order = {
        "otherwise": errno.ENOSYS,
        "refused": errno.EPERM,
        "machine": machine,
        "rules": list(found),
    }
    return _export(json.dumps(order), [SYSTEM_PYTHON])


def _export(order: str, python: Sequence[str]) -> bytes:
    script = Path(__file__).with_name("seccomp_export.py")
    try:
        done = subprocess.run(
            [*python, "-I", str(script)],
            input=order.encode(),
            capture_output=True,
            timeout=EXPORT_SECONDS,
            env={},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SandboxError(
            f"{python[0]} can't be run ({type(error).__name__}); it compiles the sandbox's "
            "system-call list: apt-get install python3 python3-seccomp."
        ) from None
    if done.returncode == 0 and done.stdout:
        return done.stdout
    said = (done.stderr.decode(errors="replace").strip().splitlines() or ["nothing"])[-1]
    if "No module named 'seccomp'" in said:
        raise SandboxError(
            f"libseccomp's binding is missing for {python[0]}: apt-get install python3-seccomp."
        )
    raise SandboxError(f"libseccomp can't compile the system-call list: {said[:200]}")
