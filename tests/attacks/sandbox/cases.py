"""The attacks on the sandbox, with the defences of which each alone stops one."""

from __future__ import annotations

from dataclasses import dataclass

SECRET = "secret-84417"


@dataclass(frozen=True)
class Case:
    """An attack in words, its source, its name in ``hostile``, and the defences that stop it alone.

    ``arguments`` is what it is told.
    """

    title: str
    source: str
    name: str
    defences: str
    arguments: str = ""
    besides: str = ""
    """A defence that is off all the time: what it stops depends on the kernel's settings."""

    @property
    def layers(self) -> set[str]:
        """Return the defences' names."""
        return set(self.defences.split())


MITRE = "MITRE ATT&CK"
CASES = (
    # the network
    Case("A connection over IPv4", f"{MITRE} T1041", "ipv4", "network calls", "{tcp}"),
    Case("A connection over IPv6", f"{MITRE} T1041", "ipv6", "network calls", "{tcp6}"),
    Case("A Unix socket in a folder", f"{MITRE} T1559", "unix", "root calls", "{folder}/open/unix"),
    Case("An abstract Unix socket", "CVE-2020-15257", "abstract", "network calls", "{abstract}"),
    Case("A record in a name to resolve", f"{MITRE} T1071.004", "dns", "network calls", "{udp}"),
    Case("A socket of any family", "CVE-2017-7308", "families", "calls"),
    Case("Datagrams out of a connected pair", "unix(7)", "datagram_pair", "calls"),
    Case("Out-of-band bytes on a Unix stream", "CVE-2025-38236", "out_of_band", "calls"),
    # other processes
    Case(
        "Tracing another process", f"{MITRE} T1055.008", "ptrace", "processes user calls",
        "{victim}",
    ),
    Case("The kernel's tracer", "CVE-2019-13272", "ptrace_of_a_child", "calls"),
    Case(
        "Reading another process's memory", f"{MITRE} T1003.007", "process_memory",
        "processes user calls", "{victim} {address}",
    ),
    Case(
        "Others' command lines in /proc", f"{MITRE} T1057", "command_lines", "processes",
        SECRET[::-1],
    ),
    Case("Signals to the node", f"{MITRE} T1489", "signals", "processes user", "{victim}"),
    # files
    Case(
        "Reading another release", f"{MITRE} T1005", "reads", "root user",
        "{folder}/other/patient",
    ),
    Case("A link in the release that leads out", "CWE-59", "reads", "root", "/release/link"),
    Case("A link in /tmp that leads out", "CWE-59", "links", "root", "{folder}/open/file"),
    Case("Changing a release", f"{MITRE} T1565", "writes", "read_only user", "/release/patient"),
    Case("Adding to a release", f"{MITRE} T1565", "writes", "read_only user", "/release/new"),
    Case(
        "Files by inode number", "Krahmer 2014, Shocker", "handles", "user calls",
        "/release/patient",
    ),
    Case("Filling /tmp", f"{MITRE} T1499", "fills_the_disk", "tmp", "/tmp 16"),
    Case("Filling /dev/shm", f"{MITRE} T1499", "fills_the_disk", "tmp", "/dev/shm 16"),
    # memory, processes
    Case("A fork bomb", f"{MITRE} T1499", "fork_bomb", "limits", "100"),
    Case("A memory bomb", f"{MITRE} T1499", "private_memory", "limits", "160"),
    Case("A bomb of shared memory", "mmap(2)", "shared_memory", "calls", "160"),
    Case("A bomb of memory files", "memfd_create(2)", "memory_files", "calls", "20"),
    # the kernel's other parts
    Case("io_uring", "CVE-2022-2602", "io_uring", "calls"),
    Case("A user namespace", "CVE-2022-0185", "user_namespace", "calls"),
    Case("A user namespace by clone3", "CVE-2022-0185", "user_namespace_by_clone", "calls"),
    Case("A key in the kernel's keyring", "CVE-2016-0728", "keys", "calls"),
    Case("Reading keyrings", "keyctl(2)", "reads_keys", "calls"),
    Case("BPF", "CVE-2021-3490", "bpf", "calls", besides="user"),
    Case("Performance events", "CVE-2013-2094", "perf_events", "calls", besides="user"),
    Case("Handling page faults", "userfaultfd(2)", "user_faults", "calls", besides="user"),
    Case("Addresses that aren't random", "personality(2)", "weaker_addresses", "calls"),
    Case("A mount", "CVE-2022-0492", "mounts", "user calls"),
    Case("A filter of its own", "seccomp(2)", "another_filter", "calls"),
    # what is left open
    Case("Secrets in the environment", f"{MITRE} T1552", "environment", "environment"),
)  # fmt: skip
