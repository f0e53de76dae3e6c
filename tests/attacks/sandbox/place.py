"""What is around the sandbox when it is attacked: releases, servers, a process to harm."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

from foundation import confinement
from tests.attacks.sandbox.cases import SECRET, Case


class Place:
    """What is around the sandbox: a release, another one, servers, a victim."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.chmod(0o755)
        self.release = folder / "release"
        for name in ("release", "other"):
            (folder / name).mkdir(mode=0o700)
            patient = folder / name / "patient"
            patient.write_text(SECRET)
            patient.chmod(0o640)
        (folder / "open").mkdir(mode=0o755)
        (folder / "open" / "file").write_text(SECRET)
        (self.release / "link").symlink_to(folder / "open" / "file")
        confinement.make_readable(self.release)
        if os.geteuid() == 0:
            os.chown(folder / "other" / "patient", -1, confinement.WORKER_GID)
        self.servers = [
            socket.create_server(("127.0.0.1", 0)),
            self._bound(socket.AF_UNIX, str(folder / "open" / "unix")),
            self._bound(socket.AF_UNIX, f"\0wardgate-{os.getpid()}"),
            self._bound(socket.AF_INET, ("127.0.0.1", 0), socket.SOCK_DGRAM),
        ]
        with contextlib.suppress(OSError):  # a machine without IPv6
            self.servers.append(socket.create_server(("::1", 0), family=socket.AF_INET6))
        (folder / "open" / "unix").chmod(0o777)
        self.victim = subprocess.Popen(
            [sys.executable, "-c", _VICTIM, SECRET], stdout=subprocess.PIPE, text=True
        )
        assert self.victim.stdout is not None
        self.values = {
            "folder": str(folder),
            "tcp": self.servers[0].getsockname()[1],
            "abstract": f"wardgate-{os.getpid()}",
            "udp": self.servers[3].getsockname()[1],
            "victim": self.victim.pid,
            "address": self.victim.stdout.readline().strip(),
        }
        for server in self.servers[4:]:
            self.values["tcp6"] = server.getsockname()[1]

    @staticmethod
    def _bound(
        family: int, address: object, kind: socket.SocketKind = socket.SOCK_STREAM
    ) -> socket.socket:
        server = socket.socket(family, kind)
        server.bind(address)  # type: ignore[arg-type]
        if kind == socket.SOCK_STREAM:
            server.listen()
        return server

    def can(self, case: Case) -> bool:
        """Say whether an attack makes sense on this machine."""
        return "{tcp6}" not in case.arguments or "tcp6" in self.values

    def filled_in(self, case: Case) -> list[str]:
        """Return what an attack is told."""
        return case.arguments.format(**self.values).split()

    def close(self) -> None:
        """End servers and victim."""
        for server in self.servers:
            server.close()
        self.victim.kill()
        self.victim.communicate()


_VICTIM = """
import ctypes, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
secret = ctypes.create_string_buffer(b"secret-84417")
print(hex(ctypes.addressof(secret)), flush=True)
time.sleep(600)
"""
