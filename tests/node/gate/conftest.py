"""A gate over a real catalogue and ledger, in a consortium that exists in memory."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from contract.documents import ParameterRange, RecipeGrant
from contract.trust import TrustedDocuments
from contract.work import TrainingWork
from node.catalog import schema
from node.catalog.asked import ConsortiumRow
from node.catalog.manifest import ReleaseColumn, ReleaseFile, ReleaseManifest
from node.catalog.store import Catalog
from node.gate.gate import Gate, Membership
from node.gate.ledger import Ledger, read_entries
from node.gate.policy import DisclosureSettings, JobLimits, Policy, TrainingSettings
from node.home import NodeHome
from tests.contract.world import BUNDLE, NOW, World

SITE = "kentucky"
GRANT = RecipeGrant(
    name="tabular",
    bundle=BUNDLE,
    parameters={"rate": ParameterRange(minimum=0, maximum=1)},
    metrics=("loss", "num-examples"),
)


@dataclass
class Hospital:
    """One node's gate, with the knobs that a test turns."""

    home: NodeHome
    catalog: Catalog
    world: World = field(default_factory=World)
    site: str = SITE
    now: datetime = NOW
    policy: Policy = field(
        default_factory=lambda: Policy(
            disclosure=DisclosureSettings(minimum_cohort=20, minimum_cell=10),
            training=TrainingSettings(minimum_subjects=20),
            jobs=JobLimits(per_hour=100_000),
        )
    )
    trusted: TrustedDocuments = field(init=False)
    gate: Gate = field(init=False)

    def __post_init__(self) -> None:
        self.trusted = self.world.view(self.site)
        self.reopen()
        self.gate.asked.put_consortium(
            ConsortiumRow(
                self.world.consortium, self.site, "localhost:1", self.trusted.anchor, None
            ),
            self.now,
        )
        self.settle(self.world.signed_project(recipes=(GRANT,)))
        with self.catalog.engine.begin() as connection:
            connection.execute(
                schema.recipes.insert().values(
                    bundle=BUNDLE, name="tabular", version="1", lock_json="[]", approved_at=NOW
                )
            )

    def reopen(self) -> None:
        """Begin again as after a restart: same disk, a new process's memory."""
        if hasattr(self, "gate"):
            self.gate.ledger.close()
        self.gate = Gate(
            self.catalog,
            Ledger(self.home.ledger),
            lambda: self.policy,
            lambda: self.now,
            self.home.noise_key,
        )

    def settle(self, project: bytes) -> None:
        """Believe roster and project, and let our steward approve it."""
        if self.trusted.roster is None:
            self.trusted.update_roster(self.world.signed_roster(), self.now)
        self.trusted.update_project(project, self.now)
        believed = self.trusted.projects["birth"]
        asked = self.gate.asked
        asked.put_project(self.world.consortium, "birth", believed.document.version, project)
        asked.approve_project(self.world.consortium, "birth", believed.digest, self.now)

    @property
    def member(self) -> Membership:
        """This hospital in its consortium."""
        return Membership(
            self.world.consortium,
            self.site,
            self.trusted.anchor,
            self.world.sites[self.site],
            self.trusted,
        )

    def release(self, subjects: int = 100, *, granted: bool = True, **changes: Any) -> str:
        """Register a release of so many subjects; return its digest."""
        values: dict[str, Any] = {
            "name": "trial",
            "table": "trial",
            "columns": tuple(
                ReleaseColumn(name=name, type=kind)
                for name, kind in (("age", "number"), ("arm", "category"))
            ),
            "rows": subjects,
            "subjects": subjects,
            "files": (ReleaseFile(path="tables/trial.parquet", sha256="0" * 64, size_bytes=1),),
        }
        manifest = ReleaseManifest(**values | changes)
        self.catalog.add_release(manifest.digest, manifest, self.now)
        if granted:
            self.catalog.grant(manifest.digest, self.world.consortium, "birth", self.now)
        return manifest.digest

    def job(self, release: str, **changes: Any) -> bytes:
        """A job of ana's about this release."""
        return self.world.signed_job(
            releases={self.site: release},
            issued_at=self.now,
            expires_at=self.now + timedelta(hours=1),
            **changes,
        )

    def training(self, release: str, **parameters: Any) -> bytes:
        """A training job of ana's."""
        return self.job(release, work=TrainingWork(bundle=BUNDLE, parameters=parameters))

    def entries(self, kind: str = "") -> list[Any]:
        """The ledger's entries of a kind, verified."""
        return [e for e in read_entries(self.home.ledger) if not kind or e.kind == kind]


@pytest.fixture(scope="session")
def new_catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty catalogue's file, migrated once for all tests."""
    home = NodeHome(tmp_path_factory.mktemp("template")).create()
    Catalog.open(home).close()
    return home.database


@pytest.fixture
def hospital(tmp_path: Path, new_catalogue: Path) -> Iterator[Hospital]:
    home = NodeHome(tmp_path / "node").create()
    shutil.copy(new_catalogue, home.database)
    with Catalog.open(home) as catalog:
        made = Hospital(home, catalog)
        yield made
        made.gate.ledger.close()
