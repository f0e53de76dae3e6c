"""Sites in memory whose parts of a model's steps are summed securely, and who leads them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract import wire_pb2 as wire
from contract.dictionary import Variable
from contract.documents import JOB_TYPE, Job, Project
from contract.models import Model
from contract.secure_aggregation import Server, encoding
from contract.secure_aggregation.leading import steps as phases
from contract.secure_aggregation.masking import Words
from contract.statistics import ending, model_words, models, summed_steps
from contract.statistics.fit import Fit
from contract.statistics.fitting import Fitting
from contract.statistics.held import Held
from contract.statistics.steps import Terms
from contract.statistics.summed_steps import VECTORS, SumTask
from contract.work import StatisticsWork
from node.work.summed_coefficients import SummedCoefficients
from researcher.formulas import parse
from tests.contract.world import SITES, World

VARIABLES = (
    Variable(name="age", kind="number", minimum=0, maximum=100),
    Variable(name="score", kind="number", minimum=-50, maximum=50),
    Variable(name="days", kind="number", minimum=0, maximum=1000),
    Variable(name="arm", kind="category", levels=("A", "B")),
    Variable(name="ill", kind="category", levels=("no", "yes")),
)
LOGISTIC = ("ill ~ age + arm", "logistic")
ROWS = 60


def table(seed: int, rows: int = ROWS) -> dict[str, NDArray[Any]]:
    """A site's rows."""
    chance = np.random.default_rng(seed)
    age, arm = chance.uniform(20, 90, rows), chance.integers(0, 2, rows)
    eta = -2 + 0.03 * age + 0.5 * arm + 0.2 * seed
    return {
        "age": age,
        "score": eta + chance.normal(size=rows),
        "days": np.ceil(chance.exponential(200, rows)).clip(1, 900),
        "arm": arm,
        "ill": (chance.random(rows) < 1 / (1 + np.exp(-eta))).astype(int),
    }


@dataclass
class Summed:
    """Sites that sum the steps of a fit; what passes between them and the middle is kept."""

    asked: tuple[str, str] = LOGISTIC
    world: World = field(default_factory=World)
    minimum: int = 2
    names: tuple[str, ...] = SITES
    sent: dict[tuple[str, str], bytes] = field(default_factory=dict)
    """What each site said, by site and task."""
    parts: dict[tuple[str, str], Words] = field(default_factory=dict)
    """What each site masked: only a test sees it."""
    walks: dict[str, SummedCoefficients] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.project: Project = self.world.project(variables=VARIABLES)
        self.model: Model = parse(*self.asked)
        work = StatisticsWork(
            ask=models.marginals(self.model, self.project),
            analysis="main",
            lane="exact",
            secure=True,
            fit=self.model,
        )
        self.job: Job = self.world.job(minimum_sites=self.minimum, work=work)
        self.digest = self.job.seal(JOB_TYPE).digest
        self.columns = models.columns_of(self.model, self.project)
        self.width = len(self.columns)
        self.powers = model_words.exponents(self.model, self.columns, self.project)
        self.rows = {name: table(number) for number, name in enumerate(self.names)}
        for name in self.names:
            self.walks[name] = SummedCoefficients(
                self.model, self.powers, name, self.world.sites[name], self.terms, lambda: 3
            )

    def terms(self) -> Terms:
        """What receipts must be of."""
        return Terms(self.digest, self.job, self.project, self.world.roster())

    def pooled(self) -> dict[str, NDArray[Any]]:
        """All sites' rows."""
        return {
            name: np.concatenate([self.rows[site][name] for site in self.names])
            for name in ("age", "score", "days", "arm", "ill")
        }

    def words(self, site: str, beta: NDArray[np.float64], check: bool) -> Words:
        """A site's part as words."""
        own = {name: self.rows[site][name] for name in self.model.variables}
        made = ending.ending if check else models.part_of
        part = made(self.model, self.columns, Held.of(own, self.project), beta)
        return model_words.encode(part, self.powers)

    def tell(self, site: str, task: SumTask, step: wire.SumStep) -> bytes:
        """Let a site take a phase; return what it says."""

        def words(beta: NDArray[np.float64], check: bool) -> Words:
            found = self.words(site, beta, check)
            self.parts[site, task.name] = found
            return found

        answer = self.walks[site].answer(task, step, words)
        said = encoding.encode_answer(answer).SerializeToString(deterministic=True)
        self.sent[site, task.name] = said
        return said

    def signed(self, site: str, task: str, payload: bytes, **changes: Any) -> wire.SignedPart:
        """What a site said, under its receipt."""
        said: dict[str, Any] = {
            "job": self.digest,
            "task": task,
            "payload": hashlib.sha256(payload).hexdigest(),
            "payload_bytes": len(payload),
        }
        return wire.SignedPart(
            payload=payload, receipt=self.world.receipt(site, **{**said, **changes})
        )

    def sum_up(
        self,
        task: SumTask,
        follows: bytes = b"",
        before: wire.SumRecord | None = None,
        *,
        check: bool = False,
        sites: tuple[str, ...] | None = None,
        until: int = 5,
        without: Mapping[int, str] | None = None,
    ) -> tuple[Words, wire.SumRecord]:
        """Lead a sum as the coordinator does; ``without`` names who is silent in a phase."""
        sites = sites or self.names
        terms = summed_steps.terms(
            self.terms(), self.model, self.width, task, sites, follows, check=check
        )
        server = Server(terms)
        for number, phase in enumerate(phases(server), 1):
            now = task.at(number)
            for place, step in phase.told.items():
                site = sites[place]
                if (without or {}).get(number) == site:
                    continue
                if number == 1:
                    step = opened(step, before, check)  # noqa: PLW2901
                said = self.tell(site, now, step)
                phase.take(place, encoding.answer(said, place, terms.word))
            if number == until:
                break
        vectors = task.at(VECTORS).name
        record = wire.SumRecord(
            vectors=[self.signed(s, vectors, self.sent[s, vectors]) for s in sites],
            seeds=server.seeds(),
        )
        return server.total(), record

    def fit(self, change: Callable[[wire.SumRecord], wire.SumRecord] = lambda r: r) -> Fit:
        """Fit as the coordinator does; ``change`` is done to each record on its way."""
        back = models.way_back(self.model, self.columns)
        fitting = Fitting(self.model, self.width, back=back)
        task, follows, record = SumTask(0), b"", None
        while True:
            total, record = self.sum_up(task, follows, record)
            record = change(record)
            found = fitting.take([model_words.decode(total, self.model, self.width, self.powers)])
            follows = summed_steps.digest_of(total, follows)
            task = SumTask(task.step + 1)
            if found is not None:
                break
        if not self.model.has_ending:
            return found
        total, _ = self.sum_up(task, follows, record, check=True)
        part = model_words.decode_ending(total, self.model, self.width, self.powers)
        return ending.ended(fitting, [part])


def opened(step: wire.SumStep, before: wire.SumRecord | None, check: bool) -> wire.SumStep:
    """Return a sum's first phase with what it follows from."""
    found = wire.SumStep()
    found.CopyFrom(step)
    if before is not None:
        found.terms.before.CopyFrom(before)
    found.terms.check = check
    return found
