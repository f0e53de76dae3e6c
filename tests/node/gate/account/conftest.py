"""An account over a real catalogue and a real ledger."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from node.catalog.manifest import ReleaseFile, ReleaseManifest
from node.catalog.store import Catalog
from node.gate.account import Charge, Limits, Payer, PrivacyAccount, PureRelease, Standing
from node.gate.ledger import Ledger
from node.home import NodeHome
from tests.contract.world import NOW

ANA = Payer("north", "birth")
BEN = Payer("south", "stroke")
LIMITS = Limits(epsilon_project=2.0, epsilon_year=3.0, delta=0.0, cell=10)


@dataclass
class Books:
    """A node's account, catalogue and ledger, on its disk."""

    home: NodeHome
    now: datetime = NOW
    limits: Limits = LIMITS

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        """Begin as after a restart."""
        self.catalog = Catalog.open(self.home)
        self.ledger = Ledger(self.home.ledger)
        self.account = PrivacyAccount(self.catalog.engine, self.ledger)

    def close(self) -> None:
        """End as a process does."""
        self.catalog.close()
        self.ledger.close()

    def restart(self) -> None:
        """The same disk, a new process's memory."""
        self.close()
        self.open()

    def spend(
        self, epsilon: float, payer: Payer = ANA, question: str = "q", release: str = ""
    ) -> Standing:
        """Spend so much on a question."""
        charge = Charge(question, PureRelease(epsilon))
        return self.account.spend(payer, release, [charge], self.limits, self.now)

    def standing(self, payer: Payer = ANA) -> Standing:
        """How the account stands."""
        return self.account.standing(payer, self.limits, self.now)

    def release(self, subjects: int, name: str = "trial") -> str:
        """Register a release."""
        manifest = ReleaseManifest(
            name=name,
            table="trial",
            columns=(),
            rows=subjects,
            subjects=subjects,
            files=(ReleaseFile(path="tables/trial.parquet", sha256="0" * 64, size_bytes=1),),
        )
        self.catalog.add_release(manifest.digest, manifest, self.now)
        return manifest.digest


@pytest.fixture
def books(tmp_path: Path, new_catalogue: Path) -> Iterator[Books]:
    home = NodeHome(tmp_path / "node").create()
    shutil.copy(new_catalogue, home.database)
    made = Books(home)
    yield made
    made.close()
