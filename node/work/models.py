"""The node's part in fitting a model: sums over the rows of an analysis set, at each step."""

from __future__ import annotations

import time

import numpy as np

from contract import wire_pb2 as wire
from contract.errors import Refused
from contract.statistics import ending, models, regression
from contract.statistics.ending import Ending
from contract.statistics.held import Held
from contract.statistics.least_squares import Factor
from contract.statistics.regression import Sums, Vector
from contract.statistics.steps import Step, Terms
from contract.work import StatisticsWork
from node.catalog.declaring import Minimums
from node.gate.gate import Admission, Gate, Membership, Sealed
from node.home import NodeHome
from node.work.coefficients import OUT_OF_ORDER, OwnCoefficients, Place
from node.work.statistics import ColumnCache

FEW_SCORES = Refused("few-scores", "The squared residuals are those of too few subjects.")


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
        assert admission.job.work.fit is not None
        self._model = admission.job.work.fit
        self._home = home
        self._gate = gate
        self._cache = cache
        self._member = member
        self._admission = admission
        self._columns = models.check(admission.job.work, admission.project)
        self._rows: Held | None = None
        self._missing = 0
        """How many others of the cohort's cells aren't in the analysis set: of each cell, those of
        its largest set, in the steps in which answers tell of missing values."""
        self._coefficients = OwnCoefficients(
            self._model, len(self._columns), member.site, self._terms
        )
        self._taken = 0
        self._given: tuple[str, Place, wire.ModelPart] | None = None

    def step(self, task: wire.Task) -> Sealed:
        """Return the sums at the step's coefficients."""
        started = time.perf_counter()
        if self._given is None or self._given[0] != task.task:
            if self._taken >= models.MOST_TASKS:
                raise Refused("too-many-steps", "The model takes more steps than are answered.")
            self._taken += 1
            place = self._coefficients.at(Step.read(task.task), task.payload)
            models.check_coefficients(self._model, self._columns, place.beta)
            if self._rows is None:
                self._rows = self._load()
            made = self._made(self._rows, place.beta, task.payload)
            made.told = place.told
            self._given = task.task, place, made
        # A part that waits for the steward is asked for again; it stays what it was.
        _, place, part = self._given
        sealed = self._gate.answer_model(
            self._member,
            self._admission,
            task.task,
            part,
            len(self._columns),
            time.perf_counter() - started,
        )
        self._coefficients.answered(place, part.SerializeToString(deterministic=True))
        return sealed

    def _terms(self) -> Terms:
        admission = self._admission
        roster = self._member.trusted.current_roster(self._gate.clock())
        return Terms(admission.digest, admission.job, admission.project, roster)

    def _made(self, rows: Held, beta: Vector, payload: bytes) -> wire.ModelPart:
        """Return the part of a step, or what ends the fit."""
        if wire.ModelStep.FromString(payload).check:
            return ending.encode(self._ending(rows, beta))
        if self._model.family == "linear" and beta.size:
            raise OUT_OF_ORDER
        made = models.encode(self._part(rows, beta))
        made.missing = self._missing
        return made

    def _ending(self, rows: Held, beta: Vector) -> Ending:
        """Return what ends the fit. Robust errors' scores are of rows as a step's weights are.

        And nobody has more than a share of any figure of them in any cell, as of a product that a
        release declares: who lies far from what is expected weighs by the square of it.
        """
        disclosure = self._gate.policy_of(self._admission).disclosure
        weights, shares = _Weights(), [0.0]
        found = ending.ending(
            self._model,
            self._columns,
            rows,
            beta,
            weights.take,
            shares.append,
            by_cells=disclosure.model_categories == "all",
        )
        least, share = disclosure.minimum_cohort, disclosure.largest_contribution
        if not weights.are_shared(least, share) or max(shares) > share:
            raise FEW_SCORES
        return found

    def _part(self, rows: Held, beta: Vector) -> Sums | Factor:
        weights = _Weights()
        found = models.part_of(self._model, self._columns, rows, beta, weights.take)
        self._check_shared(weights, found)
        return found

    def _check_shared(self, weights: _Weights, found: Sums | Factor) -> None:
        """Refuse a step that is of few rows by its weights, as where a fit separates.

        And one at which a gamma model's inverse isn't defined, which is so by somebody's values.
        """
        disclosure = self._gate.policy_of(self._admission).disclosure
        undefined = isinstance(found, Sums) and found.deviance >= regression.IMPOSSIBLE
        if (undefined and self._model.link == "inverse") or not weights.are_shared(
            disclosure.minimum_cohort, disclosure.largest_contribution
        ):
            raise models.GROWING

    def _load(self) -> Held:
        """Return the model's variables, of the analysis set's rows within the cohort's cells."""
        release, project = self._admission.release, self._admission.project
        policy = self._gate.policy_of(self._admission)
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
        names = set(self._model.variables)
        wanted = [v for v in project.variables if v.name in names]
        columns = self._cache.load(self._home, release, wanted)
        number = len(next(iter(columns.values())))
        places = None if isinstance(rows, slice) else np.flatnonzero(rows)
        held = Held(columns, places, number if places is None else len(places), project)
        others = int(members.largest[list(first.groups[""])].sum()) - len(held)
        self._missing = others // disclosure.minimum_cell * disclosure.minimum_cell
        return held


class _Weights:
    """How much the rows of a step weigh together, and the heaviest."""

    def __init__(self) -> None:
        self._total = self._squares = self._largest = 0.0

    def take(self, weights: Vector) -> None:
        """Count some rows."""
        self._total += float(weights.sum())
        self._squares += float(weights @ weights)
        self._largest = max(self._largest, float(weights.max(initial=0.0)))

    def are_shared(self, least: int, share: float) -> bool:
        """Say whether they are those of ``least`` rows or more (Kish's effective number), of which
        none has more than a share. So are none at all."""
        if not self._largest:
            return True
        many = self._total**2 >= least * self._squares * (1 - 1e-9)  # but for rounding
        return many and self._largest <= share * self._total
