"""Three hospitals' nodes under a policy of ours, asked as an analyst asks, answers merged."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract import wire_pb2 as wire
from contract.documents import Statistic, StatisticsWork, Variable
from contract.statistics import forms
from contract.statistics.answers import Part, merge_answers
from contract.statistics.summaries import Counts, Moments
from node.catalog.declaring import Minimums, Wishes
from node.catalog.manifest import Grid
from node.catalog.membership import load_membership
from node.catalog.releases import create_release
from node.catalog.selection import Selection
from node.catalog.store import Catalog
from node.catalog.strata import StratumWish
from node.config import NodeSettings
from node.deid.pseudonyms import Pseudonyms
from node.gate.policy import Policy, load_policy
from node.home import NodeHome
from node.intake.schema import parse_schema
from node.intake.tables import ingest_table
from node.work.desk import WorkDesk
from node.work.statistics import ColumnCache
from tests.contract.world import NOW
from tests.node.gate.conftest import Hospital

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "policy"
Table = Mapping[str, Sequence[Any]]
"""A hospital's columns; None is a missing value."""


def standard() -> Policy:
    """The profile ``standard``, as it is shipped."""
    return load_policy(CONFIGS / "standard.toml")


@dataclass
class Site:
    """One hospital: its table, its frozen release, and the way through its node."""

    hospital: Hospital
    table: Table
    variables: tuple[Variable, ...]
    strata: Sequence[StratumWish]
    analyses: Mapping[str, tuple[str, ...]]
    release: str = ""
    told: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    """Whose values are told exactly, by set, in the order of the table's subjects."""
    asked: int = 0

    def __post_init__(self) -> None:
        hospital = self.hospital
        hospital.policy = standard()
        hospital.settle(hospital.world.signed_project(2, variables=self.variables))
        self.desk = WorkDesk(hospital.home, hospital.gate, NodeSettings(), ColumnCache(2**28))
        key = Pseudonyms(b"k" * 32)
        ingest_table(
            self._csv(), parse_schema(self._schema(), "x"), key, hospital.catalog, hospital.home,
            now=NOW,
        )  # fmt: skip
        limits = hospital.policy.disclosure
        made = create_release(
            hospital.catalog,
            hospital.home,
            "session",
            Selection(table="session"),
            now=NOW,
            wishes=Wishes(
                strata=self.strata,
                analyses=self.analyses,
                grids={
                    v.name: Grid.model_validate(
                        v.model_dump(include={"minimum", "maximum", "bins"})
                    )
                    for v in self.variables
                    if v.bins
                },
                minimums=Minimums(
                    limits.minimum_cohort, limits.minimum_cell, limits.largest_contribution
                ),
            ),
        )
        self.release = made.digest
        hospital.catalog.grant(made.digest, hospital.world.consortium, "birth", NOW)
        self._read_told(made.digest, key)

    def _read_told(self, digest: str, key: Pseudonyms) -> None:
        import polars as pl

        release = self.hospital.catalog.find_release(digest)
        folder = self.hospital.home.release(digest)
        members = load_membership(folder, release.manifest, Minimums())
        subjects = pl.read_parquet(folder / "membership.parquet")["subject"].to_list()
        place = {subject: at for at, subject in enumerate(subjects)}
        order = [place[key.subject(f"p{i:05d}")] for i in range(self.size)]
        self.told = {name: inside[order] for name, inside in members.sets.items()}

    @property
    def size(self) -> int:
        """How many subjects there are."""
        return len(next(iter(self.table.values())))

    def _schema(self) -> dict[str, Any]:
        columns: list[dict[str, Any]] = []
        for v in self.variables:
            if v.kind == "category":
                columns.append({"name": v.name, "type": "category", "levels": list(v.levels)})
            else:
                columns.append({"name": v.name, "type": "integer" if v.whole else "number"})
        return {"table": "session", "subject": "pid", "columns": columns}

    def _csv(self) -> bytes:
        lines = [",".join(["pid", *self.table])]
        for i, row in enumerate(zip(*self.table.values(), strict=True)):
            lines.append(",".join([f"p{i:05d}", *("" if v is None else str(v) for v in row)]))
        return ("\n".join(lines) + "\n").encode()

    def ask(self, *ask: Statistic, **terms: Any) -> list[Part]:
        """Ask over a signed job; the parts are read from the sealed bytes."""
        self.asked += 1
        hospital = self.hospital
        envelope = hospital.job(
            self.release,
            work=StatisticsWork(ask=ask, **terms),
            project_version=2,
            nonce=f"{self.asked:032x}",
        )
        sealed = self.desk.offered(hospital.member, envelope)
        assert sealed is not None
        message = sealed.message
        assert message.WhichOneof("body") == "reply", message
        return forms.decode(wire.StatisticsAnswer.FromString(message.reply.payload))


def open_sites(
    folder: Path,
    tables: Sequence[Table],
    variables: tuple[Variable, ...],
    strata: Sequence[StratumWish],
    analyses: Mapping[str, tuple[str, ...]],
) -> list[Site]:
    """Make a node for each table. The catalogues are migrated once and copied."""
    template = NodeHome(folder / "template").create()
    Catalog.open(template).close()
    made = []
    for at, table in enumerate(tables):
        home = NodeHome(folder / f"site{at}").create()
        shutil.copy(template.database, home.database)
        catalog = Catalog.open(home)
        made.append(Site(Hospital(home, catalog), table, variables, strata, analyses))
    return made


@dataclass
class Session:
    """An analyst's session over some hospitals: what was asked, and by which lane it came."""

    sites: Sequence[Site]
    lanes: dict[str, str] = field(default_factory=dict)

    def ask(self, title: str, *ask: Statistic, **terms: Any) -> list[Part]:
        """Ask all sites, merge, and note the lanes."""
        merged = merge_answers(site.ask(*ask, **terms) for site in self.sites)
        for statistic, part in zip(ask, merged, strict=True):
            name = f"{title}: {statistic.kind} of {statistic.variable}"
            name += f" by {statistic.by}" if statistic.by else ""
            self.lanes[name] = "withheld" if part.withheld else part.lane
        return merged

    def values(self, name: str, told: str = "", **where: Any) -> list[Any]:
        """The pooled values of a variable, of those with these values of others; ``told``: only
        those whom a set tells of."""
        found = []
        for site in self.sites:
            keep = site.told[told] if told else np.ones(site.size, dtype=np.bool_)
            for i, value in enumerate(site.table[name]):
                if not keep[i] or value is None:
                    continue
                if all(_is(site.table[k][i], v) for k, v in where.items()):
                    found.append(value)
        return found

    def show(self, title: str) -> str:
        """Return which lane each statistic came by, for the suite to print."""
        return "\n".join([title, *(f"  {lane:8} {name}" for name, lane in self.lanes.items())])


def _is(value: Any, wanted: Any) -> bool:
    if callable(wanted):
        return value is not None and bool(wanted(value))
    return bool(value == wanted)


def moments(part: Part, group: str = "") -> Moments:
    """A group's moments."""
    found = part.groups[group]
    assert isinstance(found, Moments)
    return found


def counts(part: Part, group: str = "") -> Counts:
    """A group's counts."""
    found = part.groups[group]
    assert isinstance(found, Counts)
    return found


def missing(rng: np.random.Generator, values: Sequence[Any], share: float) -> list[Any]:
    """The values, some of them missing."""
    return [None if rng.random() < share else v for v in values]
