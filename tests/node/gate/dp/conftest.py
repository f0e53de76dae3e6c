"""A dp lane over a real catalogue, ledger and account, and a cohort to ask about."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from contract import cohorts
from contract.cohorts import Cohort
from contract.dictionary import Variable
from contract.documents import Project
from contract.work import Statistic, StatisticsWork
from node.catalog.store import Catalog
from node.gate.account import Limits, Payer, PrivacyAccount
from node.gate.dp.draws import Draws
from node.gate.dp.lane import Answered, Asked, DpLane
from node.gate.dp.mechanism import Draw, discrete_laplace
from node.gate.ledger import Ledger
from node.home import NodeHome
from tests.contract.world import NOW, World

RELEASE = "e" * 64
VARIABLES = (
    Variable(name="age", kind="number", minimum=18, maximum=98, bins=8, meaning="in years"),
    Variable(name="sex", kind="category", levels=("f", "m")),
    Variable(name="arm", kind="category", levels=("a", "b", "c")),
    Variable(name="relapse", kind="category", levels=("no", "yes")),
)
ANA = Payer("north", "birth")
BEN = Payer("south", "stroke")
PLENTY = Limits(1e6, 1e6, 1e-6, 10)


@dataclass
class Lane:
    """A node's dp lane on its disk, with the knobs that a test turns."""

    home: NodeHome
    columns: dict[str, NDArray[Any]]
    project: Project = field(default_factory=lambda: World().project(variables=VARIABLES))
    limits: Limits = PLENTY
    now: datetime = NOW
    draw: Draw = discrete_laplace
    looks: int = 0

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        """Begin as after a restart."""
        self.catalog = Catalog.open(self.home)
        self.ledger = Ledger(self.home.ledger)
        self.account = PrivacyAccount(self.catalog.engine, self.ledger)
        self.lane = DpLane(self.account, Draws(self.catalog.engine), self.draw)

    def close(self) -> None:
        """End as a process does."""
        self.catalog.close()
        self.ledger.close()

    def restart(self) -> None:
        """The same disk, a new process's memory."""
        self.close()
        self.open()

    def asked(
        self,
        *ask: Statistic,
        cohort: Cohort | None = None,
        epsilon: float = 0.5,
        payer: Payer = ANA,
        release: str = RELEASE,
        most: float = 16.0,
    ) -> Asked:
        """A question."""
        work = StatisticsWork(ask=ask, cohort=cohort, epsilon=epsilon)
        return Asked(payer, "", release, work, self.project, self.limits, most, self.now)

    def ask(self, *ask: Statistic, **how: Any) -> Answered:
        """Ask it."""
        asked = self.asked(*ask, **how)
        return self.lane.answer(asked, lambda: self._look(asked.work.cohort))

    def _look(self, cohort: Cohort | None) -> Any:
        self.looks += 1
        chosen = None if cohort is None else cohorts.mask(cohort, self.columns, self.project)
        return self.columns, chosen

    def count(self, cohort: Cohort | None = None, **how: Any) -> int:
        """The answer to how many of a cohort have an age."""
        return self.ask(COUNT, cohort=cohort, **how).parts[0].groups[""].n


COUNT = Statistic(kind="count", variable="sex")


def some_columns(subjects: int, seed: int = 1) -> dict[str, NDArray[Any]]:
    """Columns of so many subjects, some values missing."""
    random = np.random.default_rng(seed)
    age = np.clip(random.normal(58, 12, subjects), 18, 98)
    age[random.random(subjects) < 0.05] = np.nan
    found: dict[str, NDArray[Any]] = {"age": age}
    for name, levels in (("sex", 2), ("arm", 3), ("relapse", 2)):
        found[name] = random.integers(0, levels, subjects)
    found["arm"][random.random(subjects) < 0.03] = -1
    return found


@pytest.fixture
def lane(tmp_path: Path, new_catalogue: Path) -> Iterator[Lane]:
    home = NodeHome(tmp_path / "node").create()
    shutil.copy(new_catalogue, home.database)
    made = Lane(home, some_columns(2000))
    yield made
    made.close()
