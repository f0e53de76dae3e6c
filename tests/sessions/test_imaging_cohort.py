"""An honest session: nodules seen in CT at three hospitals, with values missing throughout.

Under the policy ``standard`` the questions of the protocol, which the releases declare, are
answered exactly. Those that came up on the way are answered with noise, usefully, within what the
policy gives a project. What it printed: ``pytest -s``.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from numpy.typing import NDArray

from contract import wire_pb2 as wire
from contract.cohorts import Cohort
from contract.dictionary import Variable
from contract.documents import Job, Project
from contract.envelope import Envelope
from contract.statistics import answers, forms, models
from contract.statistics.summaries import Moments
from contract.statistics.survival import life_tables, log_rank
from contract.trust import TrustedDocuments
from contract.work import Statistic, StatisticsWork, TrainingWork, Work
from foundation.defaults import default_text
from node.catalog.asked import ConsortiumRow
from node.catalog.store import Catalog
from node.commands import release as node_release
from node.commands.ingest import ingest
from node.config import create_home, load_settings
from node.gate.account import Limits, Payer
from node.gate.gate import Gate, Membership
from node.gate.ledger import Ledger
from node.gate.policy import load_policy
from node.home import NodeHome
from node.work.desk import WorkDesk
from node.work.statistics import ColumnCache
from researcher.formulas import parse
from researcher.models import ModelAnswer
from researcher.statistics import Row, StatisticsAnswer
from tests.contract.world import NOW, World
from tests.sessions.hospitals import BY_LANE
from tests.sessions.led import LedModel
from tests.sessions.trained import parameters, tabular, trained

SITES = {"kentucky": 900, "minnesota": 700, "new-york": 800}
VARIABLES = (
    Variable(name="age", kind="number", minimum=40, maximum=90, bins=5, unit="a"),
    Variable(name="sex", kind="category", levels=("f", "m")),
    Variable(name="scanner", kind="category", levels=("north", "south", "east")),
    Variable(name="nodule", kind="number", minimum=0, maximum=40, bins=8, unit="mm"),
    Variable(name="emphysema", kind="category", levels=("none", "mild", "severe")),
    Variable(name="malignant", kind="category", levels=("no", "yes")),
    Variable(name="months", kind="number", minimum=0, maximum=36, bins=2),
    Variable(name="died", kind="category", levels=("no", "yes")),
)
FEATURES = ("nodule", "age", "sex=m")
BUNDLE, GRANT = tabular("ct", "malignant", FEATURES)
SCHEMA = """
table = "ct"
subject = "patient"
""" + "".join(
    f"""
[[columns]]
name = "{v.name}"
type = "{v.kind}"
"""
    + (f"levels = {list(v.levels)}\n".replace("'", '"') if v.levels else "")
    + (f"minimum = {v.minimum}\nmaximum = {v.maximum}\n" if v.kind == "number" else "")
    for v in VARIABLES
)
Table = Mapping[str, np.ndarray[Any, Any]]


def patients(site: int, number: int) -> Table:
    """A hospital's patients; missing values are None."""
    random = np.random.default_rng(100 + site)
    age = np.round(np.clip(random.normal(66 + site, 8, number), 41, 89), 1)
    severity = random.integers(0, 3, number)
    nodule = np.round(np.clip(random.gamma(3, 3 + severity / 2, number), 1, 39), 1)
    risk = 1 / (1 + np.exp(-(nodule - 16) / 4))
    found: dict[str, np.ndarray[Any, Any]] = {
        "age": age.astype(object),
        "sex": np.array(("f", "m"))[random.integers(0, 2, number)].astype(object),
        "scanner": np.array(VARIABLES[2].levels)[random.integers(0, 3, number)].astype(object),
        "nodule": nodule.astype(object),
        "emphysema": np.array(VARIABLES[4].levels)[severity].astype(object),
        "malignant": np.where(random.random(number) < risk, "yes", "no").astype(object),
    }
    hazard = np.where(found["malignant"] == "yes", 0.04, 0.015)
    # To a tenth: with whole months there are too few values for a model by the policy.
    until = np.ceil(10 * random.exponential(1 / hazard)) / 10
    lost = np.minimum(random.integers(10, 720, number), 360) / 10
    found["months"] = np.minimum(until, lost).astype(object)
    found["died"] = np.where(until <= lost, "yes", "no").astype(object)
    for name, share in (("nodule", 0.08), ("emphysema", 0.06), ("malignant", 0.04)):
        found[name][random.random(number) < share] = None
    return found


@dataclass
class Hospital:
    """One hospital's node, from its table to its desk."""

    name: str
    world: World
    project: bytes
    table: Table
    home: NodeHome
    release: str = ""
    desk: WorkDesk = field(init=False)
    trusted: TrustedDocuments = field(init=False)

    def open(self) -> None:
        """Take the table in, freeze it with what the protocol asks, and believe the project."""
        create_home(self.home)
        self.home.policy.write_text(default_text("policy/standard.toml"))
        folder = self.home.root.parent
        (folder / "schema.toml").write_text(SCHEMA)
        file = folder / f"{self.name}.csv"
        with file.open("w", newline="") as opened:
            writer = csv.writer(opened)
            writer.writerow(["patient", *self.table])
            for number, row in enumerate(zip(*self.table.values(), strict=True)):
                writer.writerow([f"{self.name}-{number}", *("" if v is None else v for v in row)])
        ingest([file], schema=folder / "schema.toml", home=self.home.root)
        node_release.create(
            "ct",
            table="ct",
            cells="sex,age=65",
            grid=["age=40:90:5", "months=0:36:2"],
            analysis=["main=malignant,nodule,age,sex,months,died"],
            home=self.home.root,
        )
        self.trusted = self.world.view(self.name)
        self.trusted.update_roster(self.world.signed_roster(), NOW)
        self.trusted.update_project(self.project, NOW)
        believed = self.trusted.projects["birth"]
        catalog = Catalog.open(self.home)
        policy = load_policy(self.home.policy)
        gate = Gate(catalog, Ledger(self.home.ledger), lambda: policy, lambda: NOW)
        consortium = self.world.consortium
        gate.asked.put_consortium(
            ConsortiumRow(consortium, self.name, "localhost:1", self.trusted.anchor, None), NOW
        )
        gate.asked.put_project(consortium, "birth", believed.document.version, self.project)
        gate.asked.approve_project(consortium, "birth", believed.digest, NOW)
        self.release = catalog.find_release("ct").digest
        catalog.grant(self.release, consortium, "birth", NOW)
        self.desk = WorkDesk(self.home, gate, load_settings(self.home), ColumnCache(2**26))

    def close(self) -> None:
        """Close what is open."""
        self.desk.gate.ledger.close()
        self.desk.gate.catalog.close()

    @property
    def member(self) -> Membership:
        """This hospital in its consortium."""
        return Membership(
            self.world.consortium,
            self.name,
            self.trusted.anchor,
            self.world.sites[self.name],
            self.trusted,
        )


class Session:
    """A researcher's questions to all hospitals, with the truth beside the answers."""

    def __init__(self, folder: Path) -> None:
        self.world = World()
        project = self.world.signed_project(
            variables=VARIABLES,
            table="ct",
            sites=tuple(SITES),
            researchers=("ana", "ben"),
            recipes=(GRANT,),
        )
        self.hospitals = [
            Hospital(
                name,
                self.world,
                project,
                patients(site, number),
                NodeHome(folder / name / "node"),
            )
            for site, (name, number) in enumerate(SITES.items())
        ]
        for hospital in self.hospitals:
            hospital.home.root.parent.mkdir()
            hospital.open()
        self.project: Project = self.hospitals[0].trusted.projects["birth"].document
        self.log: list[str] = []
        self.lanes: list[str] = []

    def ask(self, what: str, *ask: Statistic, who: str = "ana", **work: Any) -> StatisticsAnswer:
        """Ask every hospital and merge, as the coordinator does; note by which lane it came."""
        job: Job = self.world.job(
            researcher=who,
            releases={h.name: h.release for h in self.hospitals},
            work=StatisticsWork(ask=ask, **work),
            issued_at=NOW,
            expires_at=NOW + timedelta(hours=1),
        )
        envelope = self.world.sign(job, self.world.researchers[who])
        result = wire.JobResult(answered=[h.name for h in self.hospitals])
        parts = []
        for hospital in self.hospitals:
            sealed = hospital.desk.offered(hospital.member, envelope)
            assert sealed is not None
            reply = sealed.message.reply
            assert reply.payload, (what, sealed.message)
            said = wire.StatisticsAnswer.FromString(reply.payload)
            parts.append(forms.decode(said))
            assert forms.fits(parts[-1], ask, self.project)
            result.receipts.append(reply.receipt)
            result.status.job = reply.job
            if said.HasField("account"):
                result.accounts.add(site=hospital.name, account=said.account)
        result.statistics.CopyFrom(forms.encode(answers.merge_answers(parts)))
        for _ in ask:
            result.parts.add(answered=result.answered)
        answer = StatisticsAnswer.from_result(job, self.project, result, self.hospitals[0].trusted)
        for row in answer.rows():
            which = " ".join(filter(None, (row.statistic, row.variable, row.group, row.level)))
            wide = f" ± {row.half_width:.2g}" if row.lane == "dp" else ""
            self.log.append(f"{row.lane:5}  {what}: {which} {row.value:.4g}{wide}")
        self.lanes += [part.part.lane for part in answer.parts]
        return answer

    def sign(self, work: Work) -> bytes:
        """A job of ana's to all hospitals."""
        job = self.world.job(
            releases={h.name: h.release for h in self.hospitals},
            work=work,
            issued_at=NOW,
            expires_at=NOW + timedelta(hours=1),
        )
        return self.world.sign(job, self.world.researchers["ana"])

    def fit(self, formula: str, family: str) -> ModelAnswer:
        """Fit a model to the complete cases."""
        model = parse(formula, family)
        work = StatisticsWork(
            ask=models.marginals(model, self.project), fit=model, lane="exact", analysis="main"
        )
        envelope = self.sign(work)
        result = LedModel(envelope, self.project, self.world.roster(), self.hospitals).run()
        found = ModelAnswer.from_result(
            Job.read(Envelope.parse(envelope).body),
            self.project,
            result,
            self.hospitals[0].trusted,
        )
        self.lanes.append("exact")
        self.log += [
            f"exact  model {formula}: {row.name} {row.estimate:.3g}" for row in found.rows()
        ]
        return found

    def complete(
        self, names: Sequence[str], outcome: str
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The matrix of an intercept and these, and the outcome, of the complete cases."""
        columns = []
        for name in (*names, outcome):
            variable = self.project.variable(name)
            assert variable is not None
            values = np.concatenate([hospital.table[name] for hospital in self.hospitals])
            if variable.kind == "category":
                values = np.array([None if v is None else v != variable.levels[0] for v in values])
            columns.append(values)
        main = ("malignant", "nodule", "age", "sex", "months", "died")
        whole = np.concatenate(
            [
                np.all([[v is not None for v in hospital.table[n]] for n in main], axis=0)
                for hospital in self.hospitals
            ]
        )
        *given, explained = [column[whole].astype(np.float64) for column in columns]
        return np.column_stack([np.ones(explained.size), *given]), explained

    # ---- the truth -------------------------------------------------------------------------------

    def column(self, name: str, **where: Any) -> list[Any]:
        """All hospitals' values of those who fit, missing ones left out."""
        found = []
        for hospital in self.hospitals:
            rows = np.ones(len(hospital.table["age"]), dtype=bool)
            for variable, wanted in where.items():
                fits = [v is not None and wanted(v) for v in hospital.table[variable]]
                rows &= np.array(fits)
            found += [v for v in hospital.table[name][rows] if v is not None]
        return found


def value(rows: Sequence[Row], statistic: str, group: str = "", level: str = "") -> Row:
    """The one row of these."""
    [found] = [r for r in rows if (r.statistic, r.group, r.level) == (statistic, group, level)]
    return found


@pytest.fixture
def session(tmp_path: Path) -> Any:
    made = Session(tmp_path)
    yield made
    print("\n" + "\n".join(made.log))
    if len(made.lanes) > 2:
        BY_LANE["An imaging cohort"] = Counter(made.lanes)
    for hospital in made.hospitals:
        hospital.close()


def moments(variable: str, by: str | None = None) -> Statistic:
    return Statistic(kind="moments", variable=variable, by=by)


def levels(variable: str, by: str | None = None) -> Statistic:
    return Statistic(kind="levels", variable=variable, by=by)


def test_an_imaging_cohort_is_described_exactly_and_explored_with_noise(session: Session) -> None:
    # ---- the protocol: table 1, by sex and in the elderly. Declared, so without noise. Few whose
    # missing values would tell them apart are in no declared set; the answer counts them.
    table_one = session.ask(
        "table 1, by sex",
        moments("age", "sex"),
        moments("nodule", "sex"),
        levels("emphysema", "sex"),
        levels("malignant", "sex"),
    )
    assert table_one.lane == "exact"
    for sex in ("f", "m"):
        for part, name in ((table_one[0], "age"), (table_one[1], "nodule")):
            found = part.moments(sex)
            truth = session.column(name, sex=lambda v, s=sex: v == s)
            assert 0.95 * len(truth) <= found.n <= len(truth)
            assert found.mean == pytest.approx(np.mean(truth), rel=0.01)
            assert found.standard_deviation == pytest.approx(np.std(truth, ddof=1), rel=0.02)
        truth = session.column("malignant", sex=lambda v, s=sex: v == s)
        counted = table_one[3].counts(sex)
        for told, true in zip(counted.counts, (truth.count("no"), truth.count("yes")), strict=True):
            assert 0.9 * true <= told <= true
    elderly = session.ask(
        "who is 65 or older", moments("nodule"), cohort=Cohort(variable="age", at_least=65)
    )
    assert elderly.lane == "exact"
    truth = session.column("nodule", age=lambda v: v >= 65)
    assert 0.95 * len(truth) <= elderly[0].moments().n <= len(truth)
    assert elderly[0].moments().mean == pytest.approx(np.mean(truth), rel=0.01)
    assert not table_one.spent
    assert not elderly.spent

    # ---- regressions and survival of the complete cases: what is declared together.
    x, y = session.complete(("nodule", "age", "sex"), "malignant")
    risk = session.fit("malignant ~ nodule + age + sex", "logistic")
    assert_near(risk, sm.GLM(y, x, family=sm.families.Binomial()).fit())
    crossed = session.ask(
        "survival",
        Statistic(kind="crosstab", variable="months", across=("died", "malignant")),
        analysis="main",
    )
    assert crossed.lane == "exact"
    months = session.project.variable("months")
    assert months is not None
    benign, malign = life_tables(crossed[0].counts().counts, months, 2)
    assert benign.survival[-1] > malign.survival[-1] + 0.2
    assert log_rank([benign, malign]).p < 1e-6
    hazard = session.fit("Surv(months, died) ~ malignant + age", "cox")
    x, died = session.complete(("malignant", "age"), "died")
    until = session.complete(("months",), "died")[0][:, 1]
    assert_near(hazard, sm.PHReg(until, x[:, 1:], died, ties="efron").fit(disp=0))

    # ---- what came up: other cuts, a device, a combination. With noise, and useful.
    large = Cohort(variable="nodule", at_least=15)
    answer = session.ask("malignant among large nodules", levels("malignant"), cohort=large)
    assert answer.lane == "dp"
    truth = session.column("malignant", nodule=lambda v: v >= 15)
    rows = list(answer.rows())
    for level in ("no", "yes"):
        row = value(rows, "count", level=level)
        assert row.half_width <= 12
        assert row.value == pytest.approx(truth.count(level), abs=3 * row.half_width)
    share = value(rows, "count", level="yes").value / sum(r.value for r in rows)
    assert share == pytest.approx(truth.count("yes") / len(truth), abs=0.08)

    answer = session.ask("size by scanner", moments("nodule", "scanner"))
    assert answer.lane == "dp"
    for scanner in VARIABLES[2].levels:
        truth = session.column("nodule", scanner=lambda v, s=scanner: v == s)
        row = value(list(answer.rows()), "mean", group=scanner)
        assert row.half_width < 2.0
        assert row.value == pytest.approx(np.mean(truth), abs=3 * row.half_width)
        assert isinstance(answer[0].part.groups[scanner], Moments)

    women = Cohort(variable="sex", levels=("f",)) & Cohort(variable="age", below=60)
    answer = session.ask("age of women under 60", moments("age"), cohort=women)
    assert answer.lane == "dp"
    truth = session.column("age", sex=lambda v: v == "f", age=lambda v: v < 60)
    row = value(list(answer.rows()), "mean")
    assert row.value == pytest.approx(np.mean(truth), abs=3 * row.half_width)
    assert row.half_width < 8

    # ---- a colleague asks again, in other words: the same answer, for nothing.
    again = session.ask(
        "the same again, by another in other words",
        levels("malignant"),
        cohort=~Cohort(variable="nodule", below=15) & ~Cohort(variable="nodule", missing=True),
        who="ben",
    )
    first = session.ask("and once more", levels("malignant"), cohort=large)
    assert again[0].part == first[0].part
    assert [site.epsilon for site in again.spent] == [0, 0, 0]

    # ---- a subgroup of nearly nobody is answered like any other, and tells of nobody.
    rare = Cohort(variable="age", at_least=88) & Cohort(variable="emphysema", levels=("severe",))
    answer = session.ask("a handful", Statistic(kind="count", variable="sex"), cohort=rare)
    assert answer.lane == "dp"

    # ---- enough is left to go on with.
    for hospital in session.hospitals:
        gate = hospital.desk.gate
        limits = Limits.of(gate.policy(), "birth")
        standing = gate.account.standing(Payer(session.world.consortium, "birth"), limits, NOW)
        assert standing.epsilon_project == pytest.approx(2.0, abs=0.05)
        assert standing.remaining_project > 5.9
    assert session.lanes == ["exact"] * 8 + ["dp"] * 6


def assert_near(found: ModelAnswer, expected: Any) -> None:
    """A model is that of the complete cases, but for the few who are in no declared set."""
    assert found.fit.coefficients == pytest.approx(expected.params, abs=0.5 * max(expected.bse))
    off = np.abs(np.array(found.fit.coefficients) - expected.params)
    assert (off <= 0.5 * expected.bse).all()


@pytest.mark.slow
def test_a_model_is_trained_on_the_cohort(session: Session, tmp_path: Path) -> None:
    [nodule, age] = session.ask("scaling", moments("nodule"), moments("age")).parts
    scales = [(p.moments().mean, p.moments().standard_deviation) for p in (nodule, age)]
    values = parameters(GRANT, [*scales, (0.5, 0.5)], len(session.hospitals))
    envelope = session.sign(TrainingWork(bundle=GRANT.bundle, parameters=values))
    losses = trained(tmp_path, BUNDLE, envelope, session.project, session.hospitals)
    assert losses["train_loss"][-1] < losses["train_loss"][0]
    assert losses["eval_brier"][-1] < 0.22
