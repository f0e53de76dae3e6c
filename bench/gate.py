"""What the gate adds: to a question over a million subjects, to a training round; and the ledger.

``added_ms_p50`` is what admission, rules, ledger and receipt take of a question of 20 statistics
over a release of 1,000,000 subjects, with 10,000 earlier questions on record, as many in an hour as
the default policy lets one researcher ask; the work itself and the wait for the period's end are
not in it. ``added_cpu_ms_p50`` is the processor's time of it, which a busy machine changes less.
``resident_mb`` is the process at its end, ``columns_mb`` what of it is the columns that the work
holds.
``round_overhead_pct`` is the gate's time for a reply of 45 MB in 122 tensors, as a share of the
round that ``bench/training_round.py`` measures. The ledger's figures are those of
``bench/ledger.py``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np

from bench.support.federation import percentile, report
from contract.dictionary import Variable
from contract.documents import ParameterRange, RecipeGrant
from contract.records import Arrays, Metrics, Records
from contract.work import Statistic, StatisticsWork, TrainingWork
from foundation import tensors
from node.catalog import schema
from node.catalog.asked import ConsortiumRow
from node.catalog.store import Catalog
from node.gate.gate import Gate, Membership
from node.gate.ledger import Ledger
from node.gate.policy import Policy
from node.gate.rules import TrainingOutput
from node.home import NodeHome
from node.work.statistics import ColumnCache, work_out
from tests.contract.world import BUNDLE, World

SITE = "kentucky"
SUBJECTS, COLUMNS = 1_000_000, 10
EARLIER, ASKS, REPLIES = 10_000, 200, 12
PAUSE = timedelta(seconds=4)
"""Between two questions, by the gate's clock."""
LARGE_VALUES, LARGE_TENSORS = 45_000_000 // 4, 122
NAMES = [f"x{i}" for i in range(COLUMNS)]
VARIABLES = tuple(Variable(name=n, kind="number", minimum=0, maximum=100, bins=20) for n in NAMES)
GRANT = RecipeGrant(
    name="noop",
    bundle=BUNDLE,
    parameters={"rate": ParameterRange(minimum=0, maximum=1)},
    metrics=("num-examples",),
)
RESIDENT = Path("/proc/self/status")


def run(*arguments: str | Path) -> None:
    """Run one of the node's commands."""
    command = [str(Path(sys.executable).parent / "wardgate-node"), *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def table(folder: Path) -> tuple[Path, Path]:
    """Write the table and its schema."""
    values = np.random.default_rng(1).uniform(0, 100, (SUBJECTS, COLUMNS))
    path = folder / "table.csv"
    with path.open("w") as file:
        file.write(",".join(["pid", *NAMES]) + "\n")
        for i, row in enumerate(values):
            file.write(f"p{i}," + ",".join(f"{v:.4f}" for v in row) + "\n")
    columns = "".join(f'[[columns]]\nname = "{n}"\ntype = "number"\n' for n in NAMES)
    text = 'table = "table"\nsubject = "pid"\n[[columns]]\nname = "pid"\ntype = "identifier"\n'
    (folder / "schema.toml").write_text(text + columns)
    return path, folder / "schema.toml"


class Hospital:
    """A node's gate in this process, in a consortium that exists in memory."""

    def __init__(self, home: NodeHome) -> None:
        self.home = home
        self.world = World()
        self.now = datetime.now(UTC)
        issued = {
            "issued_at": self.now - timedelta(days=1),
            "expires_at": self.now.replace(year=2100),
        }
        self.trusted = self.world.view(SITE)
        roster = self.world.signed_roster(**issued)
        self.trusted.update_roster(roster, self.now)
        self.catalog = Catalog.open(home)
        policy = Policy()
        self.gate = Gate(self.catalog, Ledger(home.ledger), lambda: policy, lambda: self.now)
        asked = self.gate.asked
        name = self.world.consortium
        asked.put_consortium(
            ConsortiumRow(name, SITE, "localhost:1", self.trusted.anchor, None), self.now
        )
        project = self.world.signed_project(variables=VARIABLES, recipes=(GRANT,), **issued)
        self.trusted.update_project(project, self.now)
        asked.put_project(name, "birth", 1, project)
        asked.approve_project(name, "birth", self.trusted.projects["birth"].digest, self.now)
        self.release = self.catalog.find_release("table")
        self.catalog.grant(self.release.digest, name, "birth", self.now)
        with self.catalog.engine.begin() as connection:
            connection.execute(
                schema.recipes.insert().values(
                    bundle=BUNDLE, name="noop", version="1", lock_json="[]", approved_at=self.now
                )
            )
        self.member = Membership(
            name, SITE, self.trusted.anchor, self.world.sites[SITE], self.trusted
        )

    def job(self, work: Any) -> bytes:
        """Return a signed job of this release."""
        self.now += PAUSE
        return self.world.signed_job(
            work=work,
            releases={SITE: self.release.digest},
            issued_at=self.now - timedelta(seconds=1),
            expires_at=self.now + timedelta(hours=1),
        )

    def ask(self, work: StatisticsWork, cache: ColumnCache) -> tuple[float, float]:
        """Ask a question; return the milliseconds that were not the work's: wall, processor."""
        envelope = self.job(work)
        begun, begun_cpu = time.perf_counter(), time.thread_time()
        admission = self.gate.admit(self.member, envelope)
        before, before_cpu = time.perf_counter(), time.thread_time()
        found = work_out(
            self.home,
            admission.release,
            admission.project,
            work,
            cache,
            self.gate.policy(),
            admission.plan,
        )
        parts = [part for part in found if part is not None]
        worked, worked_cpu = time.perf_counter() - before, time.thread_time() - before_cpu
        self.gate.check_still_allowed(self.member, admission)
        self.gate.answer_statistics(self.member, admission, parts, worked)
        wall = time.perf_counter() - begun - worked
        return wall * 1000, (time.thread_time() - begun_cpu - worked_cpu) * 1000

    def reply(self) -> float:
        """Let a large update out; return the seconds that the gate took."""
        admission = self.gate.admit(self.member, self.job(TrainingWork(bundle=BUNDLE)))
        each = LARGE_VALUES // LARGE_TENSORS
        arrays = {f"t{i}": np.ones(each, np.float32) for i in range(LARGE_TENSORS)}
        records: Records = {
            "arrays": Arrays(dict(arrays)), "metrics": Metrics({"num-examples": 1000}),
        }  # fmt: skip
        encoded = tensors.encode(records)
        form = {name: (a.dtype.name, a.shape) for name, a in arrays.items()}
        output = TrainingOutput("train", records, {"arrays": form}, GRANT)
        before = time.perf_counter()
        self.gate.answer_task(
            self.member, admission, "1", output, encoded.message, encoded.blob, 0.0
        )
        return time.perf_counter() - before


@contextmanager
def hospital() -> Iterator[Hospital]:
    """A hospital with a release of a million subjects."""
    with tempfile.TemporaryDirectory(prefix="wardgate-bench-") as folder:
        place = Path(folder)
        path, form = table(place)
        home = place / "node"
        run("ingest", path, "--schema", form, "--home", home)
        grids = [option for name in NAMES for option in ("--grid", f"{name}=0:100:20")]
        run("release", "create", "table", "--table", "table", *grids, "--home", home)
        yield Hospital(NodeHome(home))


def resident_mb() -> float:
    """Return the process's resident memory, in 10^6 bytes."""
    line = next(x for x in RESIDENT.read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) * 1024 / 1e6


def measure() -> dict[str, float]:
    """Ask, after many earlier questions; then let updates out."""
    work = StatisticsWork(
        ask=tuple(Statistic(kind=k, variable=n) for k in ("moments", "histogram") for n in NAMES)
    )
    small = StatisticsWork(ask=(Statistic(kind="count", variable="x0"),))
    with hospital() as one:
        cache = ColumnCache(256 * 2**20)
        for _ in range(EARLIER):
            one.ask(small, cache)
        added = [one.ask(work, cache) for _ in range(ASKS)]
        resident = resident_mb()
        replies = sorted(one.reply() for _ in range(REPLIES))
    return {
        "added_ms_p50": round(percentile([wall for wall, _ in added], 0.5), 2),
        "added_ms_p99": round(percentile([wall for wall, _ in added], 0.99), 2),
        "added_cpu_ms_p50": round(percentile([cpu for _, cpu in added], 0.5), 2),
        "resident_mb": round(resident),
        "columns_mb": round(SUBJECTS * COLUMNS * 8 / 1e6),
        "large_reply_s": round(replies[len(replies) // 2], 4),
    }


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", choices=("questions", "round", "ledger"), help="leave the other parts out"
    )
    only = parser.parse_args().only
    found: dict[str, float] = {}
    if only in (None, "questions", "round"):
        found |= measure()
    if only in (None, "round"):
        from bench import training_round

        round_s = training_round.measure()["large_round_s"]
        found["round_overhead_pct"] = round(100 * found["large_reply_s"] / round_s, 1)
    if only in (None, "ledger"):
        from bench import ledger

        with tempfile.TemporaryDirectory(prefix="wardgate-bench-") as folder:
            found |= ledger.measure(Path(folder))
    report(found, [f"{SUBJECTS} subjects, {EARLIER} earlier questions, {ASKS} asked"])


if __name__ == "__main__":
    main()
