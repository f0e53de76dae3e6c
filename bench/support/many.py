"""A federation of hundreds of sites on one machine: nodes by the dozen in a few processes."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from bench.support import question
from bench.support.federation import CONSORTIUM, PROJECT, RESEARCHER, ROOT, Bench, percentile
from demo.processes import Processes, free_port
from researcher import Consortium

SITES, ROWS, NODES, ASKS = 400, 2000, 100, 10
"""Of ``NODES`` each in one process."""
UP_SECONDS = 600.0
REST_SECONDS, REST_SHARE = 5.0, 0.4
"""All of them rest when they together take less than this share of a processor."""


class Crowd:
    """A process with many nodes."""

    def __init__(self, root: Path, sites: Sequence[str]) -> None:
        code = "from bench.support.crowd import main; main()"
        self._log = (root / f"{sites[0]}.crowd.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(root), ",".join(sites)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=ROOT,
            text=True,
        )

    def tell(self, *words: str) -> None:
        """Say what to do next."""
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()

    def wait(self) -> None:
        """Wait until it is done."""
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "done\n":
            said = Path(self._log.name).read_text(errors="replace").strip().splitlines()
            raise SystemExit(f"a process of nodes ended: {said[-1] if said else 'no word why'}")

    def cpu_seconds(self) -> float:
        """Return the processor's time that it took so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        self._log.close()


def _in_turn(crowds: Sequence[Crowd], *words: str, at_once: int = 2) -> None:
    """Have all of them do one thing, no more at once than there are processors."""
    for start in range(0, len(crowds), at_once):
        some = crowds[start : start + at_once]
        for crowd in some:
            crowd.tell(*words)
        for crowd in some:
            crowd.wait()


def _coordinator(*arguments: str | Path) -> None:
    """Run a command of ``wardgate-coordinator`` in this process: hundreds are too many to start."""
    from coordinator.cli import app

    with redirect_stdout(io.StringIO()):
        app(list(map(str, arguments)), prog_name="wardgate-coordinator", standalone_mode=False)


def _until_at_rest(crowds: Sequence[Crowd]) -> None:
    """Wait until every node has taken the documents in and countersigned others' first heads."""
    deadline = time.monotonic() + UP_SECONDS
    before = sum(crowd.cpu_seconds() for crowd in crowds)
    while time.monotonic() < deadline:
        time.sleep(REST_SECONDS)
        after = sum(crowd.cpu_seconds() for crowd in crowds)
        if after - before < REST_SHARE * REST_SECONDS:
            return
        before = after
    raise SystemExit("the sites didn't come to rest")


@contextmanager
def many(
    number: int,
    table: Callable[[str, Path], Path],
    schema: str,
    project: str,
    declared: Sequence[str] = (),
) -> Iterator[Bench]:
    """Bring up a coordinator and so many sites; the same arguments as ``federation``'s."""
    root = Path(tempfile.mkdtemp(prefix="wardgate-bench-"))
    processes = Processes(root)
    sites = [f"s{i:03}" for i in range(number)]
    bench = Bench(root, processes, sites)
    home = ("--home", root / "coordinator")
    crowds: list[Crowd] = []
    try:
        address = f"127.0.0.1:{free_port()}"
        processes.run("wardgate-coordinator", "init", CONSORTIUM, "--address", address, *home)
        processes.serve("coordinator", ["wardgate-coordinator", "serve", *home], "serving")
        (root / "schema.toml").write_text(schema)
        for site in sites:
            table(site, root)
            _coordinator("invite", site, "-o", root / f"{site}.invitation", *home)
        crowds = [Crowd(root, sites[i : i + NODES]) for i in range(0, number, NODES)]
        _in_turn(crowds, "prepare", *declared)
        file = root / f"{RESEARCHER}.invitation"
        processes.run(
            "wardgate-coordinator", "invite", RESEARCHER, "--researcher", "-o", file, *home
        )
        processes.run("wardgate", "join", file, "--yes", "--home", bench.researcher)
        processes.run("wardgate-coordinator", "roster", "propose", "--threshold", "1", *home)
        _in_turn(crowds, "roster", "sign", "--yes")
        members = f'name = "{PROJECT}"\nsites = {json.dumps(sites)}\n'
        members += f'researchers = ["{RESEARCHER}"]\ntitle = "bench"\npurpose = "bench"\n'
        members += 'ethics_reference = "none"\nlegal_basis = "generated data"\n'
        (root / "project.toml").write_text(members + project)
        processes.run("wardgate-coordinator", "project", "propose", root / "project.toml", *home)
        _in_turn(crowds, "project", "approve", PROJECT, "--release", "table", "--yes")
        _in_turn(crowds, "serve", at_once=len(crowds))
        _until_at_rest(crowds)
        yield bench
    finally:
        for crowd in crowds:
            crowd.stop()
        processes.stop()
        shutil.rmtree(root, ignore_errors=True)


def measure() -> dict[str, float]:
    """Return what a question over ``SITES`` takes, and the coordinator's highest resident MB."""
    with (
        many(
            SITES,
            lambda site, folder: question.write_table(site, folder, ROWS),
            question.SCHEMA,
            question.PROJECT_TEXT,
            question.GRIDS,
        ) as bench,
        Consortium.connect(bench.researcher) as consortium,
    ):
        deadline = time.monotonic() + UP_SECONDS
        while len({r.site for r in consortium.releases(PROJECT)}) < SITES:
            if time.monotonic() > deadline:
                raise SystemExit("not every site came up")
            time.sleep(1.0)
        seconds = question.ask(consortium, SITES, ROWS, ASKS)
        status = Path(f"/proc/{bench.pid('coordinator')}/status").read_text()
    return {
        f"sites{SITES}_s": round(percentile(seconds, 0.5), 2),
        f"sites{SITES}_coordinator_mb": round(
            int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
        ),
    }
