"""The node's part in fitting a model whose steps are summed securely: nobody sees its own sums.

Its part of each step passes the gate's rules in clear, as one that leaves does; then it is masked.
"""

from __future__ import annotations

import time
from typing import Any

from contract import wire_pb2 as wire
from contract.errors import Refused
from contract.secure_aggregation import encoding
from contract.secure_aggregation.masking import Words
from contract.statistics import ending, model_words, models
from contract.statistics.ending import Ending
from contract.statistics.fitting import Part
from contract.statistics.regression import Vector
from contract.statistics.summed_steps import SumTask
from node.gate.gate import Sealed
from node.work.models import ModelFit
from node.work.summed_coefficients import SummedCoefficients


class SummedModelFit(ModelFit):
    """One model's fit under way. Its keys are in memory only: a restart ends it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        project = self._admission.project
        self._powers = model_words.exponents(self._model, self._columns, project)
        self._sums = SummedCoefficients(
            self._model,
            self._powers,
            self._member.site,
            self._member.key,
            self._terms,
            lambda: self._gate.policy_of(self._admission).disclosure.minimum_sum_sites,
            lambda beta: models.check_coefficients(self._model, self._columns, beta),
        )

    def step(self, task: wire.Task) -> Sealed:
        """Take one of the five phases of a step's sum."""
        started = time.perf_counter()
        at = SumTask.read(task.task)
        if at.phase == 1:
            if self._taken >= models.MOST_TASKS:
                raise Refused("too-many-steps", "The model takes more steps than are answered.")
            self._taken += 1
        plain: bytes | None = None

        def words(beta: Vector, check: bool) -> Words:
            nonlocal plain
            rows = self._rows = self._rows or self._load()
            part: Part | Ending
            if check:
                part = last = self._ending(rows, beta)
                message = ending.encode(last)
            else:
                part = step = self._part(rows, beta)
                message = models.encode(step)
                message.missing = self._missing
            plain = self._gate.pass_model(
                self._member, self._admission, task.task, message, len(self._columns)
            )
            return model_words.encode(part, self._powers, message.missing)

        answer = self._sums.answer(at, encoding.step(task.payload), words)
        return self._gate.answer_step(
            self._member,
            self._admission,
            task.task,
            encoding.encode_answer(answer),
            plain,
            time.perf_counter() - started,
        )
