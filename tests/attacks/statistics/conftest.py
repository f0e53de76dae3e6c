"""A hospital's node with a real release behind its gate, and the same without declared cells."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract import wire_pb2 as wire
from contract.cohorts import Cohort
from contract.dictionary import Variable
from contract.statistics import forms
from contract.statistics.answers import Part, answer_locally
from contract.statistics.summaries import Counts, Moments
from contract.work import Statistic, StatisticsWork
from node.catalog.declaring import Minimums, Wishes
from node.catalog.manifest import Grid
from node.catalog.releases import create_release
from node.catalog.selection import Selection
from node.catalog.store import Catalog
from node.catalog.strata import StratumWish
from node.config import NodeSettings
from node.deid.pseudonyms import Pseudonyms
from node.gate import exact
from node.gate.exact import Exactly
from node.gate.policy import DisclosureSettings, JobLimits, Policy, PrivacySettings
from node.home import NodeHome
from node.intake.schema import parse_schema
from node.intake.tables import ingest_table
from node.work import desk as work_desk
from node.work.desk import WorkDesk
from node.work.statistics import ColumnCache, cohort_rows
from tests.contract.world import NOW
from tests.node.gate.conftest import Hospital

SUBJECTS = 400
VARIABLES = (
    Variable(name="arm", kind="category", levels=("A", "B")),
    Variable(name="sex", kind="category", levels=("f", "m")),
    Variable(name="age", kind="number", whole=True, minimum=20, maximum=100, bins=8),
    Variable(name="marker", kind="number", minimum=0, maximum=200, bins=4),
    Variable(name="ill", kind="category", levels=("no", "yes")),
)
SCHEMA = parse_schema(
    {
        "table": "trial",
        "subject": "pid",
        "columns": [
            {"name": "arm", "type": "category", "levels": ["A", "B"]},
            {"name": "sex", "type": "category", "levels": ["f", "m"]},
            {"name": "age", "type": "integer", "minimum": 20, "maximum": 100},
            {"name": "marker", "type": "number", "minimum": 0, "maximum": 200},
            {"name": "ill", "type": "category", "levels": ["no", "yes"]},
        ],
    },
    "attacks",
)
STRICT = Minimums(20, 10, 0.5)
GRIDS = {"marker": Grid(minimum=0, maximum=200, bins=4)}


def rows(seed: int = 7) -> list[dict[str, Any]]:
    """The hospital's patients. Number 0 is the one whom the attacker knows and is after."""
    rng = np.random.default_rng(seed)
    found = [
        {
            "pid": f"p{i:04d}",
            "arm": "AB"[i % 2],
            "sex": "fm"[i // 2 % 2],
            "age": int(rng.integers(30, 80)),
            "marker": round(float(rng.uniform(5, 195)), 3),
            "ill": ("no", "yes")[int(rng.random() < 0.3)],
        }
        for i in range(SUBJECTS)
    ]
    found[0] |= {"age": 88, "marker": 123.456, "ill": "yes"}
    found[5]["marker"] = ""  # two have no marker
    found[9]["marker"] = ""
    found[3]["sex"] = ""  # one has no sex
    return found


def csv_of(table: Sequence[dict[str, Any]]) -> bytes:
    """A table as a hospital exports it."""
    lines = [",".join(table[0]), *(",".join(str(v) for v in row.values()) for row in table)]
    return ("\n".join(lines) + "\n").encode()


@dataclass
class Node:
    """A hospital with a release, asked over signed jobs; what it sends is read from its bytes."""

    hospital: Hospital
    desk: WorkDesk = field(init=False)
    table: list[dict[str, Any]] = field(default_factory=rows)
    release: str = ""
    nonces: int = 0
    version: int = 2
    """Of the project."""

    def __post_init__(self) -> None:
        self.hospital.policy = Policy(
            disclosure=DisclosureSettings(minimum_cohort=20, minimum_cell=10),
            privacy=PrivacySettings(allowed=False),
            jobs=JobLimits(per_hour=100_000),
        )
        self.hospital.settle(self.hospital.world.signed_project(2, variables=VARIABLES))
        self.restart()
        self.release = self.freeze(self.table)

    def restart(self) -> None:
        """A new process's memory over the same disk."""
        self.hospital.reopen()
        settings = NodeSettings()
        self.desk = WorkDesk(self.hospital.home, self.hospital.gate, settings, ColumnCache(2**28))

    def freeze(
        self,
        table: Sequence[dict[str, Any]],
        name: str = "trial",
        minimums: Minimums = STRICT,
    ) -> str:
        """Take a table in and freeze it, by arm and sex; return the release's digest."""
        hospital = self.hospital
        ingest_table(
            csv_of(table), SCHEMA, Pseudonyms(b"k" * 32), hospital.catalog, hospital.home, now=NOW
        )
        made = create_release(
            hospital.catalog,
            hospital.home,
            name,
            Selection(table="trial"),
            now=NOW,
            wishes=Wishes(
                strata=[StratumWish("arm"), StratumWish("sex")],
                analyses={"main": ("age", "marker")},
                grids=GRIDS,
                minimums=minimums,
            ),
        )
        hospital.catalog.grant(made.digest, hospital.world.consortium, "birth", NOW)
        return made.digest

    # ---- with its defence ----------------------------------------------------------------------

    def message(self, *ask: Statistic, **terms: Any) -> wire.FromNode:
        """Ask, and return the message that leaves."""
        work = StatisticsWork(ask=ask, **terms)
        envelope = self.hospital.job(
            self.release,
            work=work,
            project_version=self.version,
            nonce=f"{self.next_nonce():032x}",
        )
        sealed = self.desk.offered(self.hospital.member, envelope)
        assert sealed is not None
        return sealed.message

    def next_nonce(self) -> int:
        """A nonce that wasn't used."""
        self.nonces += 1
        return self.nonces

    def ask(self, *ask: Statistic, **terms: Any) -> list[Part] | None:
        """Ask, and return the parts of the answer; None when there is none."""
        message = self.message(*ask, **terms)
        if message.WhichOneof("body") != "reply":
            return None
        return forms.decode(wire.StatisticsAnswer.FromString(message.reply.payload))

    # ---- without it ----------------------------------------------------------------------------

    def undefended(self, *ask: Statistic, cohort: Cohort | None = None) -> list[Part] | None:
        """Ask without declared cells: of whatever rows a question names, if the minimums hold.

        That rule is in two places, which are off together: which questions are answered exactly,
        and that an answer is worked out of cells. All else is the node's own gate and desk.
        """
        with pytest.MonkeyPatch.context() as off:
            off.setattr(exact, "lanes", _each_by_itself)
            off.setattr(work_desk, "work_out", _of_its_rows)
            found = self.ask(*ask, cohort=cohort, lane="exact")
        return None if found is None or all(part.withheld for part in found) else found


def _each_by_itself(work: StatisticsWork, *_: Any) -> list[Exactly]:
    return [Exactly("", {"": ()}) for _ in work.ask]


def _of_its_rows(
    home: NodeHome, release: Any, project: Any, work: StatisticsWork, cache: ColumnCache, *_: Any
) -> list[Part]:
    columns, inside = cohort_rows(home, release, project, work, cache)
    if inside is not None:
        columns = {name: column[inside] for name, column in columns.items()}
    return list(answer_locally(work.ask, project, columns))


def moments(parts: list[Part] | None, group: str = "") -> Moments:
    """The moments of the first part; the attack fails without."""
    found = parts[0].groups.get(group) if parts else None
    assert isinstance(found, Moments), "no answer"
    return found


def counts(parts: list[Part] | None, place: int = 0, group: str = "") -> Counts:
    """The counts of a part; the attack fails without."""
    found = parts[place].groups.get(group) if parts else None
    assert isinstance(found, Counts), "no answer"
    return found


def total(found: Moments) -> float:
    """The sum of all values."""
    return found.n * found.mean


@pytest.fixture(scope="session")
def empty_catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty catalogue's file, migrated once for all tests."""
    home = NodeHome(tmp_path_factory.mktemp("template")).create()
    Catalog.open(home).close()
    return home.database


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, empty_catalogue: Path) -> Iterator[Node]:
    """A hospital's node with its release."""
    home = NodeHome(tmp_path_factory.mktemp("node") / "node").create()
    shutil.copy(empty_catalogue, home.database)
    with Catalog.open(home) as catalog:
        made = Node(Hospital(home, catalog))
        yield made
        made.hospital.gate.ledger.close()
