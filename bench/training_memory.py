"""Resident memory of a coordinator in a round of many sites: its daemon, and the job's ServerApp.

Real daemon, real sandbox, stock FedAvg, real TLS; the sites are simulated (``support/simulated``)
and all send at once. By default 100 sites of 45 MB each; ``--full`` takes 400, whose replies need
18 GB of disk a round, ``--sites`` and ``--mb`` any other number. ``seconds`` are those of one
round, on the machine that also plays the sites, and only told with two rounds and more. On a busy
machine sites are silent for long: they count as online for longer than they would.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from itertools import pairwise
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from bench.support import simulated
from bench.support.federation import CONSORTIUM, PROJECT, RESEARCHER, ROOT, report
from demo.processes import Processes, free_port
from researcher import Consortium

TENSORS = 122
RECIPE = Path(__file__).resolve().parent / "support" / "noop"
UP_SECONDS = 1800.0
PATIENT = {
    "heartbeat_seconds = 10 ": "heartbeat_seconds = 60 ",
    "absence_seconds = 120.0 ": "absence_seconds = 7200.0 ",
    "start_seconds = 60.0 ": "start_seconds = 900.0 ",
}
PROJECT_TEXT = f"""
name = "{PROJECT}"
researchers = ["{RESEARCHER}"]
title = "bench"
purpose = "bench"
ethics_reference = "none"
legal_basis = "generated data"
kinds = ["training"]
table = "table"
sites = SITES
[[variables]]
name = "x"
kind = "number"
[[recipes]]
name = "noop"
path = "{RECIPE}"
metrics = ["num-examples"]
parameters.num-server-rounds = {{ minimum = 1, maximum = 100 }}
parameters.tensors = {{ minimum = 1, maximum = 1000 }}
parameters.values = {{ minimum = 1, maximum = 100000000 }}
"""


@contextmanager
def crowd(sites: int, values: int) -> Iterator[tuple[Path, int]]:
    """Bring up a coordinator and its sites; yield the researcher's home, and the daemon's pid."""
    root = Path(tempfile.mkdtemp(prefix="wardgate-bench-"))
    processes = Processes(root)
    names = [f"s{i:03}" for i in range(sites)]
    home = ("--home", root / "coordinator")
    played: subprocess.Popen[bytes] | None = None
    try:
        address = f"127.0.0.1:{free_port()}"
        processes.run("wardgate-coordinator", "init", CONSORTIUM, "--address", address, *home)
        settings = root / "coordinator" / "coordinator.toml"
        text = settings.read_text()
        for default, patient in PATIENT.items():
            if default not in text:
                raise SystemExit(f"coordinator.toml has no {default}")
            text = text.replace(default, patient)
        settings.write_text(text)
        simulated.register(root, names)
        processes.serve("coordinator", ["wardgate-coordinator", "serve", *home], "serving")
        invitation = root / "invitation"
        processes.run(
            "wardgate-coordinator", "invite", RESEARCHER, "--researcher", "-o", invitation, *home
        )
        processes.run("wardgate", "join", invitation, "--yes", "--home", root / RESEARCHER)
        file = root / "project.toml"
        file.write_text(PROJECT_TEXT.replace("SITES", repr(names)))
        for words in (("roster", "propose", "--threshold", "1"), ("project", "propose", file)):
            with redirect_stdout(io.StringIO()):
                processes.run("wardgate-coordinator", *words, *home)
            simulated.publish(root, names[0])
        command = [sys.executable, "-m", "bench.support.simulated", root, address, sites]
        played = subprocess.Popen(
            [*map(str, command), str(TENSORS), str(values)],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=(root / "sites.log").open("wb"),
        )
        yield root / RESEARCHER, processes.servers["coordinator"].pid
    finally:
        if played is not None:
            played.kill()
            played.wait()
        processes.stop()
        shutil.rmtree(root, ignore_errors=True)


class Peaks:
    """The highest resident megabytes (10^6 bytes) of a process, and of those that it started."""

    def __init__(self, pid: int, trace: Path | None = None) -> None:
        self._pid = pid
        self._trace = trace
        self._started = time.monotonic()
        self._high: dict[int, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.5):
            now: dict[int, int] = {}
            for pid in _family(self._pid):
                with suppress(OSError, IndexError):  # it ended
                    status = Path(f"/proc/{pid}/status").read_text()
                    self._high[pid] = max(self._high.get(pid, 0), _kilobytes(status, "VmHWM:"))
                    now[pid] = _kilobytes(status, "VmRSS:")
            if self._trace is not None:
                own = now.pop(self._pid, 0)
                second = time.monotonic() - self._started
                with self._trace.open("a") as file:
                    print(
                        f"{second:.1f},{own * 1024 / 1e6:.0f},{sum(now.values()) * 1024 / 1e6:.0f}",
                        file=file,
                    )

    def end(self) -> tuple[float, float]:
        """Return the process's own, and the sum of its descendants'."""
        self._over.set()
        self._thread.join()
        own = self._high.pop(self._pid)
        return own * 1024 / 1e6, sum(self._high.values()) * 1024 / 1e6


def _kilobytes(status: str, name: str) -> int:
    return int(status.partition(name)[2].split()[0])


def _family(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        with suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def measure(sites: int, megabytes: int, rounds: int, trace: Path | None = None) -> dict[str, float]:
    """Train, and return the peaks and what a round takes."""
    values = megabytes * 1_000_000 // 4
    with crowd(sites, values) as (home, pid), Consortium.connect(home) as consortium:
        deadline = time.monotonic() + UP_SECONDS
        while len({r.site for r in consortium.releases(PROJECT)}) < sites:
            if time.monotonic() > deadline:
                raise SystemExit("not every site came up")
            time.sleep(0.5)
        peaks = Peaks(pid, trace)
        handle = consortium.train(
            PROJECT,
            "noop",
            {"num-server-rounds": rounds, "tensors": TENSORS, "values": values},
            minimum_sites=sites,
        )
        times = [event.time for event in handle.events() if event.kind == "round"]
        handle.result()
        daemon, app = peaks.end()
    found = {
        f"training{sites}_peak_mb": round(daemon + app, 1),
        f"training{sites}_daemon_mb": round(daemon, 1),
        f"training{sites}_app_mb": round(app, 1),
    }
    if len(times) > 1:
        found[f"training{sites}_round_s"] = round(max(b - a for a, b in pairwise(times)), 1)
    return found


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, default=100)
    parser.add_argument("--mb", type=int, default=45, help="of one model")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--full", action="store_true", help="400 sites")
    parser.add_argument("--trace", type=Path, help="a file: second, daemon MB, ServerApp MB")
    given = parser.parse_args()
    sites = 400 if given.full else given.sites
    described = f"{sites} simulated sites of {given.mb} MB, rounds: {given.rounds}"
    report(measure(sites, given.mb, given.rounds, given.trace), [described])


if __name__ == "__main__":
    main()
