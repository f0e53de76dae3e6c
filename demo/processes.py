"""The demo's processes: commands that must succeed, and servers that must come up and end."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from contract.errors import Unavailable, WardgateError

BIN = Path(sys.executable).parent

PORTS = range(10_000, 20_000)
"""Below those that a kernel gives to whoever connects, so that none is taken in the meantime."""
_given: set[int] = set()


class StepFailed(WardgateError):
    """A command of the demo failed; its last line says why."""


@dataclass
class Processes:
    """What the demo started; ``stop`` ends all of it."""

    folder: Path
    servers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def run(self, command: str, *arguments: str | Path, stdin: str | None = None) -> str:
        """Run one of our commands and return what it printed; ``StepFailed`` when it fails."""
        line = [str(BIN / command), *map(str, arguments)]
        done = subprocess.run(
            line,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env=_environment(),
        )
        if done.returncode != 0:
            reason = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise StepFailed(
                f"{command} {' '.join(map(str, arguments[:3]))} ended with code "
                f"{done.returncode}: {reason[-1] if reason else 'no word why'}"
            )
        return done.stdout

    def serve(self, name: str, command: Sequence[str | Path], ready: str) -> None:
        """Start a server and wait until it prints ``ready``."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(BIN / str(command[0])), *map(str, command[1:])],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(),
                start_new_session=True,
            )
        self.servers[name] = process
        deadline = time.monotonic() + 60
        while ready not in log.read_text(errors="replace"):
            if process.poll() is not None or time.monotonic() > deadline:
                last = log.read_text(errors="replace").strip().splitlines()
                raise Unavailable(f"{name} did not come up: {last[-1] if last else 'no word why'}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End every server, politely and then not."""
        for process in self.servers.values():
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for process in self.servers.values():
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.servers.clear()


def _environment() -> dict[str, str]:
    """Return our environment without settings of another Wardgate on this machine."""
    return {k: v for k, v in os.environ.items() if not k.startswith("WARDGATE_")} | {
        "COLUMNS": "100",
        "NO_COLOR": "1",
    }


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody uses, another one each time."""
    while True:
        port = secrets.choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


def new_password() -> str:
    """Return a password for the demo's pages."""
    return secrets.token_urlsafe(16)
