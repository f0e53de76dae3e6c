"""The node's part in fitting a model: sums over the rows of an analysis set, at each step."""

from __future__ import annotations

import time

import numpy as np

from contract import wire_pb2 as wire
from contract.documents import StatisticsWork
from contract.errors import Refused
from contract.statistics import models
from node.catalog.declaring import Minimums
from node.gate.gate import Admission, Gate, Membership, Sealed
from node.home import NodeHome
from node.work.statistics import Column, ColumnCache


class ModelFit:
    """One model's fit under way. Which rows it is of was decided when the job was admitted."""

    def __init__(
        self,
        home: NodeHome,
        gate: Gate,
        cache: ColumnCache,
        member: Membership,
        admission: Admission,
    ) -> None:
        assert isinstance(admission.job.work, StatisticsWork)
        self._work = admission.job.work
        self._home = home
        self._gate = gate
        self._cache = cache
        self._member = member
        self._admission = admission
        self._columns = models.check(self._work, admission.project)
        self._values: dict[str, Column] | None = None
        self._taken = 0

    def step(self, task: wire.Task) -> Sealed:
        """Return the sums at the step's coefficients."""
        started = time.perf_counter()
        model = self._work.fit
        assert model is not None
        if self._taken >= models.MOST_TASKS:
            raise Refused("too-many-steps", "The model takes more steps than are answered.")
        self._taken += 1
        beta = np.array(wire.ModelStep.FromString(task.payload).beta, dtype=np.float64)
        models.check_coefficients(model, self._columns, beta)
        if self._values is None:
            self._values = self._load()
        part = models.part(model, self._columns, self._values, beta)
        return self._gate.answer_model(
            self._member,
            self._admission,
            task.task,
            models.encode(part),
            len(self._columns),
            time.perf_counter() - started,
        )

    def _load(self) -> dict[str, Column]:
        """Return the model's variables, of the analysis set's rows within the cohort's cells."""
        release, project = self._admission.release, self._admission.project
        policy = self._gate.policy()
        plan = self._admission.plan
        first = plan[0]
        if first is None or any(one is None or one.set != first.set for one in plan):
            raise Refused("not-declared", "The release declares no exact answer to this.")
        disclosure = policy.disclosure
        minimums = Minimums(
            disclosure.minimum_cohort, disclosure.minimum_cell, disclosure.largest_contribution
        )
        members = self._cache.membership(self._home, release, minimums)
        rows = self._cache.rows(release.digest, minimums, members, first.set, first.groups[""])
        names = set(self._work.fit.variables) if self._work.fit else set()
        wanted = [v for v in project.variables if v.name in names]
        columns = self._cache.load(self._home, release, wanted)
        held = {name: column[rows] for name, column in columns.items()}
        return models.clipped(held, project)
