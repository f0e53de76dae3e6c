"""Sites in memory that take the steps of a model, each by itself and under its own signature."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from contract import wire_pb2 as wire
from contract.documents import JOB_TYPE, Job
from contract.errors import DocumentError, Refused
from contract.models import Model
from contract.statistics import ending, models, regression
from contract.statistics.ending import Ending
from contract.statistics.fit import Fit
from contract.statistics.models import Fitting
from contract.statistics.robust import Scores
from contract.statistics.steps import Step, Terms
from contract.work import Statistic, StatisticsWork
from node.work.coefficients import OwnCoefficients
from tests.contract.world import SITES, World

MODEL = Model.model_validate({"family": "logistic", "outcome": "arm", "terms": [["age"]]})
WIDTH, ROWS = 2, 80
Array = NDArray[np.float64]


@dataclass
class Sites:
    """Sites with rows of their own, each with its walk through the steps."""

    world: World = field(default_factory=World)
    minimum: int = 1
    model: Model = MODEL
    names: tuple[str, ...] = SITES
    rows: dict[str, tuple[Array, Array]] = field(default_factory=dict)
    walks: dict[str, OwnCoefficients] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.job: Job = self.world.job(
            minimum_sites=self.minimum,
            work=StatisticsWork(
                ask=(
                    Statistic(kind="levels", variable="arm"),
                    Statistic(kind="moments", variable="age"),
                ),
                analysis="main",
                lane="exact",
                fit=self.model,
            ),
        )
        self.digest = self.job.seal(JOB_TYPE).digest
        for number, name in enumerate(self.names):
            chance = np.random.default_rng(number)
            x = np.column_stack([np.ones(ROWS), chance.uniform(20, 90, ROWS)])
            y = (chance.random(ROWS) < 1 / (1 + np.exp(-x @ [-2, 0.04]))).astype(float)
            self.rows[name] = x, y
            self.walks[name] = OwnCoefficients(self.model, WIDTH, name, self.terms)

    def terms(self) -> Terms:
        """What receipts must be of."""
        return Terms(self.digest, self.job, self.world.project(), self.world.roster())

    def part(self, site: str, beta: Array, told: bytes = b"", *, check: bool = False) -> bytes:
        """A site's part at coefficients, which follow from what it was told; or what ends it."""
        if check:
            found, _ = regression.scores("logistic", *self.rows[site], beta)
            part = ending.encode(Ending(ROWS, scores=Scores(ROWS, found.T @ found, 1)))
        else:
            part = models.encode(regression.sums("logistic", *self.rows[site], beta))
        part.told = told
        return part.SerializeToString(deterministic=True)

    def signed(self, site: str, step: Step, payload: bytes, **changes: object) -> wire.SignedPart:
        """A part under its site's receipt."""
        said: dict[str, object] = {
            "job": self.digest,
            "task": step.task,
            "payload": hashlib.sha256(payload).hexdigest(),
            "payload_bytes": len(payload),
        }
        receipt = self.world.receipt(site, **{**said, **changes})  # type: ignore[arg-type]
        return wire.SignedPart(payload=payload, receipt=receipt)

    def take(
        self,
        step: Step,
        told: Sequence[wire.SignedPart],
        sites: Sequence[str] = SITES,
        nudge: Callable[[Array], Array] = lambda beta: beta,
    ) -> list[wire.SignedPart]:
        """Let sites take a step; return their signed parts."""
        payload = wire.ModelStep(parts=told).SerializeToString()
        found = []
        for site in sites:
            place = self.walks[site].at(step, payload)
            part = self.part(site, nudge(place.beta), place.told)
            self.walks[site].answered(place, part)
            found.append(self.signed(site, step, part))
        return found

    def fit(
        self, sites: Sequence[str] = SITES, nudge: Callable[[Array], Array] = lambda beta: beta
    ) -> Fit:
        """Fit as the coordinator does, which tells nobody its own coefficients."""
        fitting, step = Fitting(MODEL, WIDTH), Step(0)
        told = self.take(step, [], sites, nudge)
        while True:
            parts = [
                models.decode(wire.ModelPart.FromString(p.payload), MODEL, WIDTH) for p in told
            ]
            fit = fitting.take(parts)
            if fit is not None:
                return fit
            step = Step(step.number + 1, step.attempt)
            told = self.take(step, told, sites, nudge)

    def begun(self) -> list[wire.SignedPart]:
        """All sites' parts of the first step."""
        return self.take(Step(0), [])

    def objection(self, step: Step, told: Sequence[wire.SignedPart]) -> str:
        """What the first site says to a step; it must object."""
        with pytest.raises((DocumentError, Refused)) as found:
            self.walks[SITES[0]].at(step, wire.ModelStep(parts=told).SerializeToString())
        return str(found.value)
