"""A federation on loopback for the benchmarks: real processes, real TLS, gate and ledger on.

Its nodes use the profile ``open-research``.
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from demo.processes import Processes, free_port

CONSORTIUM, PROJECT, RESEARCHER = "bench", "bench", "ana"


@dataclass
class Bench:
    """A running federation; ``sites`` are its nodes."""

    root: Path
    processes: Processes
    sites: Sequence[str]

    @property
    def researcher(self) -> Path:
        """The researcher's home."""
        return self.root / RESEARCHER

    def pid(self, name: str) -> int:
        """The process id of a server."""
        return self.processes.servers[name].pid


@contextmanager
def federation(
    sites: Sequence[str],
    table: Callable[[str, Path], Path],
    schema: str,
    project: str,
    recipes: Sequence[Path] = (),
    declared: Sequence[str] = (),
) -> Iterator[Bench]:
    """Bring up a coordinator and ``sites``; ``table`` writes a site's CSV and returns its path.

    ``schema`` is the table's TOML, ``project`` the project's, without names and members;
    ``declared`` are options of ``release create``.
    """
    root = Path(tempfile.mkdtemp(prefix="wardgate-bench-"))
    processes = Processes(root)
    bench = Bench(root, processes, sites)
    coordinator = root / "coordinator"
    try:
        address = f"127.0.0.1:{free_port()}"
        processes.run(
            "wardgate-coordinator", "init", CONSORTIUM, "--address", address, "--home", coordinator
        )
        processes.serve(
            "coordinator", ["wardgate-coordinator", "serve", "--home", coordinator], "serving"
        )

        def on(site: str, *arguments: str | Path) -> str:
            return processes.run("wardgate-node", *arguments, "--home", root / site)

        def invite(name: str, *more: str) -> Path:
            file = root / f"{name}.invitation"
            processes.run(
                "wardgate-coordinator", "invite", name, *more, "-o", file, "--home", coordinator
            )
            return file

        (root / "schema.toml").write_text(schema)
        for site in sites:
            on(site, "join", invite(site), "--yes")
            on(site, "policy", "use", "open-research")
            on(site, "ingest", table(site, root), "--schema", root / "schema.toml")
            on(site, "release", "create", "table", "--table", "table", *declared)
        processes.run(
            "wardgate",
            "join",
            invite(RESEARCHER, "--researcher"),
            "--yes",
            "--home",
            bench.researcher,
        )
        processes.run("wardgate-coordinator", "roster", "propose", "--home", coordinator)
        for site in sites:
            on(site, "roster", "sign", "--yes")
        members = f'name = "{PROJECT}"\nsites = {json.dumps(list(sites))}\n'
        members += f'researchers = ["{RESEARCHER}"]\ntitle = "bench"\npurpose = "bench"\n'
        members += 'ethics_reference = "none"\nlegal_basis = "generated data"\n'
        (root / "project.toml").write_text(members + project)
        processes.run(
            "wardgate-coordinator",
            "project",
            "propose",
            root / "project.toml",
            "--home",
            coordinator,
        )
        for site in sites:
            for recipe in recipes:
                on(site, "recipe", "approve", recipe, "--yes")
            on(site, "project", "approve", PROJECT, "--release", "table", "--yes")
            processes.serve(
                site, ["wardgate-node", "serve", "--verbose", "--home", root / site], "linked to"
            )
        yield bench
    finally:
        processes.stop()
        shutil.rmtree(root, ignore_errors=True)


def wait_for_releases(consortium: object, sites: Sequence[str]) -> None:
    """Wait until every site offers its release."""
    import time

    from researcher import Consortium

    assert isinstance(consortium, Consortium)
    deadline = time.monotonic() + 30
    while {r.site for r in consortium.releases(PROJECT)} != set(sites):
        if time.monotonic() > deadline:
            raise SystemExit("not every site came up")
        time.sleep(0.1)


def report(figures: Mapping[str, float], notes: Sequence[str]) -> None:
    """Print lines for people and, last, one flat JSON object on a line of its own."""
    print(f"machine: {platform.machine()}, {_processor()}")
    for note in notes:
        print(note)
    for name, value in figures.items():
        print(f"{name:>24}  {value:g}")
    print(json.dumps(figures))


def _processor() -> str:
    import os

    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"{os.cpu_count()} x {line.partition(':')[2].strip()}"
    return f"{os.cpu_count()} processors"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of the values don't exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * int(share * 100) // 100) - 1))]
