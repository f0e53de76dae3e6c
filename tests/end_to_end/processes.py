"""Real processes: our commands as a user runs them, and servers that can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

BIN = Path(sys.executable).parent
PATIENCE_SECONDS = 120.0
"""How long a test waits for what must happen; never how fast it must be."""

T = TypeVar("T")


def eventually(what: Callable[[], T], why: str, pause: float = 0.05) -> T:
    """Return what ``what`` returns once that is true; fail with ``why`` when it never is."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < deadline, f"it never happened: {why}"
        time.sleep(pause)


def environment(**settings: str) -> dict[str, str]:
    """Return our environment with these settings of Wardgate and no others."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith("WARDGATE_")}
    return plain | {"COLUMNS": "200", "NO_COLOR": "1"} | settings


@dataclass(frozen=True)
class Done:
    """A command that ended: its exit code and what it said."""

    code: int
    out: str
    errors: list[str]

    def fails(self, code: int, words: str) -> None:
        """Check that it ended as documented: this code, one line that says why, no traceback."""
        assert self.code == code, (self.code, self.errors)
        assert len(self.errors) == 1, self.errors
        assert words.lower() in self.errors[0].lower(), self.errors
        assert "Traceback" not in self.out


def run(program: str, *arguments: str | Path, stdin: str = "", **settings: str) -> Done:
    """Run one of our commands to its end."""
    done = subprocess.run(
        [str(BIN / program), *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
        env=environment(**settings),
    )
    return Done(done.returncode, done.stdout, done.stderr.splitlines())


@dataclass
class Server:
    """One of our servers. Its output goes to files that a test can read."""

    name: str
    command: list[str]
    folder: Path
    ready: str
    settings: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    @property
    def log(self) -> str:
        """All that it ever printed, over all its lives."""
        return "".join(p.read_text(errors="replace") for p in sorted(self._logs("*")))

    def _logs(self, life: int | str) -> list[Path]:
        return list(self.folder.glob(f"{self.name}.{life}.*"))

    def _path(self, kind: str) -> Path:
        return self.folder / f"{self.name}.{self.starts}.{kind}"

    @property
    def out(self) -> str:
        """What the present life printed."""
        return self._path("out").read_text(errors="replace")

    @property
    def errors(self) -> list[str]:
        """The lines that the present life wrote to standard error."""
        return self._path("err").read_text(errors="replace").splitlines()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    def launch(self) -> Server:
        """Start it and return at once."""
        assert self.process is None or self.process.poll() is not None, f"{self.name} runs already"
        self.starts += 1
        with self._path("out").open("wb") as out, self._path("err").open("wb") as err:
            self.process = subprocess.Popen(
                [str(BIN / self.command[0]), *self.command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment(**self.settings),
                start_new_session=True,
            )
        return self

    def start(self) -> Server:
        """Start it and wait until it is up."""
        self.launch()
        return self.wait_until_ready()

    def wait_until_ready(self) -> Server:
        """Wait until it says that it is up."""

        def up() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, f"{self.name} ended: {self.errors[-3:]}"
            return self.ready in self.out

        eventually(up, f"{self.name} comes up")
        return self

    def kill(self) -> None:
        """Kill it at the very instruction where it is."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it politely, if it runs."""
        if self.process is None or self.process.poll() is not None:
            return
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        try:
            self.process.wait(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def ended(self) -> Done:
        """Wait for its own end and return how it ended.

        What the sandbox's self-test, which runs beside all else, says of this machine is left out.
        """
        assert self.process is not None
        self.process.wait(timeout=PATIENCE_SECONDS)
        said = [line for line in self.errors if " sandbox: " not in line]
        return Done(self.process.returncode, self.out, said)

    def confined(self) -> list[int]:
        """Return the process ids of the sandboxes that it started to work in."""
        return [pid for pid in _children(self.pid) if _is_sandbox(pid)]

    @contextmanager
    def work_stopped(self) -> Iterator[None]:
        """Stop what its sandboxes run, meanwhile: a round that asks this site doesn't end."""
        stopped = self.confined()
        assert stopped, f"{self.name} works on nothing"
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
            stopped += _children(pid)
        try:
            yield
        finally:
            for pid in stopped:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


def _children(parent: int) -> list[int]:
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The command's name is in brackets and may hold spaces; state and parent follow it.
            _, ppid, *_ = path.read_text().rpartition(")")[2].split()
            if int(ppid) == parent:
                found.append(int(path.parent.name))
    return found


def _is_sandbox(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return words[0].endswith(b"bwrap") and b"foundation.isolation_inside" not in words
