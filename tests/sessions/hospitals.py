"""Three hospitals' nodes under a policy of ours, asked as an analyst asks, answers merged."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract import wire_pb2 as wire
from contract.dictionary import Variable
from contract.documents import Job, Project, RecipeGrant
from contract.envelope import Envelope
from contract.keys import SigningKey
from contract.statistics import forms, models
from contract.statistics.answers import Part, merge_answers
from contract.statistics.summaries import Counts, Moments
from contract.work import Statistic, StatisticsWork, Work
from node.catalog.declaring import Minimums, Wishes
from node.catalog.manifest import Grid
from node.catalog.membership import load_membership
from node.catalog.releases import create_release
from node.catalog.selection import Selection
from node.catalog.store import Catalog
from node.catalog.strata import StratumWish
from node.config import NodeSettings
from node.deid.pseudonyms import Pseudonyms
from node.gate.gate import Membership
from node.gate.policy import Policy, load_policy
from node.home import NodeHome
from node.intake.schema import parse_schema
from node.intake.tables import ingest_table
from node.work.desk import WorkDesk
from node.work.statistics import ColumnCache
from researcher.formulas import parse
from researcher.models import ModelAnswer
from tests.contract.world import NOW, SITES, World
from tests.node.gate.conftest import Hospital
from tests.sessions.led import LedModel, LedSum, parts_of

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "policy"
BY_LANE: dict[str, Counter[str]] = {}
"""How many answers of each session came by which lane, for the suite to print at its end."""
Table = Mapping[str, Sequence[Any]]
"""A hospital's columns; None is a missing value."""


def standard() -> Policy:
    """The profile ``standard``, as it is shipped."""
    return load_policy(CONFIGS / "standard.toml")


@dataclass
class Site:
    """One hospital: its table, its frozen release, and the way through its node."""

    hospital: Hospital
    project: bytes
    table: Table
    variables: tuple[Variable, ...]
    strata: Sequence[StratumWish]
    analyses: Mapping[str, tuple[str, ...]]
    policy: Policy = field(default_factory=standard)
    small: bool = False
    """Whether its release is declared for secure sums alone."""
    release: str = ""
    told: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    """Whose values are told exactly, by set, in the order of the table's subjects."""

    def __post_init__(self) -> None:
        hospital = self.hospital
        hospital.policy = self.policy
        hospital.settle(self.project)
        self.desk = WorkDesk(hospital.home, hospital.gate, NodeSettings(), ColumnCache(2**28))
        key = Pseudonyms(b"k" * 32)
        ingest_table(
            self._csv(), parse_schema(self._schema(), "x"), key, hospital.catalog, hospital.home,
            now=NOW,
        )  # fmt: skip
        limits = hospital.policy.disclosure
        limits = limits.in_sums if self.small else limits
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
                sums_only=self.small,
            ),
        )
        self.release = made.digest
        hospital.catalog.grant(made.digest, hospital.world.consortium, "birth", NOW)
        self._read_told(made.digest, key)

    @property
    def member(self) -> Membership:
        """This hospital in its consortium."""
        return self.hospital.member

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
                kind = {"name": v.name, "type": "integer" if v.whole else "number"}
                ranges = v.model_dump(include={"minimum", "maximum"}, exclude_none=True)
                columns.append(kind | ranges)
        return {"table": "session", "subject": "pid", "columns": columns}

    def _csv(self) -> bytes:
        lines = [",".join(["pid", *self.table])]
        for i, row in enumerate(zip(*self.table.values(), strict=True)):
            lines.append(",".join([f"p{i:05d}", *("" if v is None else str(v) for v in row)]))
        return ("\n".join(lines) + "\n").encode()

    def answer(self, envelope: bytes) -> list[Part]:
        """Answer a job; the parts are read from the sealed bytes."""
        sealed = self.desk.offered(self.member, envelope)
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
    *,
    policy: Policy | None = None,
    small: bool = False,
    recipes: Sequence[RecipeGrant] = (),
) -> list[Site]:
    """Make a node for each table, all in one consortium. The catalogues are migrated once and
    copied.
    """
    template = NodeHome(folder / "template").create()
    Catalog.open(template).close()
    names = [*SITES, *(f"site{at}" for at in range(len(SITES), len(tables)))][: len(tables)]
    keys = {name: SigningKey.generate() for name in names}
    world = World(sites=keys)
    world.stewards |= {n: SigningKey.generate() for n in names if n not in world.stewards}
    project = world.signed_project(2, variables=variables, table="session", recipes=tuple(recipes))
    made = []
    for name, table in zip(names, tables, strict=True):
        home = NodeHome(folder / name).create()
        shutil.copy(template.database, home.database)
        hospital = Hospital(home, Catalog.open(home), world, name)
        made.append(
            Site(hospital, project, table, variables, strata, analyses, policy or standard(), small)
        )
    return made


@dataclass
class Session:
    """An analyst's session over some hospitals: what was asked, and by which lane it came."""

    sites: Sequence[Site]
    lanes: dict[str, str] = field(default_factory=dict)
    asked: int = 0

    @property
    def world(self) -> World:
        """Everybody in the consortium."""
        return self.sites[0].hospital.world

    @property
    def project(self) -> Project:
        """What the hospitals agreed to."""
        return Project.read(Envelope.parse(self.sites[0].project).body)

    def job(self, work: Work, sites: Sequence[Site] | None = None) -> bytes:
        """A job of ana's to some hospitals, or to all."""
        self.asked += 1
        return self.world.signed_job(
            releases={site.member.site: site.release for site in sites or self.sites},
            work=work,
            project_version=2,
            nonce=f"{self.asked:032x}",
        )

    def ask(self, title: str, *ask: Statistic, **terms: Any) -> list[Part]:
        """Ask all sites, merge, and note the lanes."""
        envelope = self.job(StatisticsWork(ask=ask, **terms))
        return self._noted(title, ask, merge_answers(site.answer(envelope) for site in self.sites))

    def sum(self, title: str, *ask: Statistic, **terms: Any) -> list[Part]:
        """Ask for a secure sum over all sites."""
        work = StatisticsWork(ask=ask, secure=True, lane="exact", **terms)
        led = LedSum(self.job(work), self.project, self.world.roster(), self.sites)
        return self._noted(title, ask, parts_of(led.run()), "summed")

    def fit(self, title: str, formula: str, family: Any, **terms: Any) -> ModelAnswer:
        """Fit a model over all sites."""
        model = parse(formula, family)
        work = StatisticsWork(
            ask=models.marginals(model, self.project), fit=model, lane="exact", **terms
        )
        envelope = self.job(work)
        led = LedModel(envelope, self.project, self.world.roster(), self.sites)
        result = led.run()
        self.lanes[f"{title}: {family} {formula}"] = "exact"
        job = Job.read(Envelope.parse(envelope).body)
        return ModelAnswer.from_result(job, self.project, result, self.sites[0].hospital.trusted)

    def _noted(
        self, title: str, ask: Sequence[Statistic], merged: list[Part], lane: str = ""
    ) -> list[Part]:
        for statistic, part in zip(ask, merged, strict=True):
            name = f"{title}: {statistic.kind} of {' and '.join(statistic.variables)}"
            name += f" by {statistic.by}" if statistic.by else ""
            self.lanes[name] = "withheld" if part.withheld else lane or part.lane
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

    def design(
        self, told: str, names: Sequence[str], outcome: str
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The pooled matrix of an intercept and these, and the outcome, of those a set tells of."""
        columns = [np.ones(len(self.values(outcome, told)))]
        for name in names:
            columns += self._coded(name, told)
        return np.column_stack(columns), self._coded(outcome, told)[-1]

    def _coded(self, name: str, told: str) -> list[NDArray[np.float64]]:
        variable = self.project.variable(name)
        assert variable is not None
        values = np.array(self.values(name, told))
        if variable.kind == "number":
            return [values.astype(np.float64)]
        return [(values == level).astype(np.float64) for level in variable.levels[1:]]

    def places(self, told: str) -> NDArray[np.int64]:
        """At which site each of those is whom a set tells of."""
        return np.repeat(
            np.arange(len(self.sites)), [int(site.told[told].sum()) for site in self.sites]
        )

    def show(self, title: str) -> str:
        """Return which lane each answer came by, and how many by each, for the suite to print."""
        lines = [title, *(f"  {lane:8} {name}" for name, lane in self.lanes.items())]
        counted = BY_LANE[title] = Counter(self.lanes.values())
        return "\n".join([*lines, "  " + ", ".join(f"{n} {lane}" for lane, n in counted.items())])


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
