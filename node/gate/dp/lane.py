"""A question answered with noise: charged first, drawn once, and the same for everybody after.

The order is the guarantee:

1.  Whether the question can be answered is decided by dictionary and policy (``measure.check``).
2.  A statistic that was answered before, with as much epsilon or more, gets that answer again: the
    same bytes, for whoever asks, and it costs nothing. Not one that was drawn with more than
    policy lets one question of the asking project spend: that project gets a draw of its own.
3.  All others are charged to the account, all or none, durably (``node.gate.account``).
4.  Only then is the data looked at, noise drawn, and the answer kept, durably.
5.  What is answered has one form, whoever is in the cohort, nobody included: noise hides how many
    they are, so nothing is withheld for being small.

A statistic that is asked for again with more epsilon than before is drawn anew and charged in full.
Both answers then count, whatever is made of them together. So the draw of somebody who asked for
little can't stand in the way of a better one, and nothing is had for free.

A crash between charge and answer costs the charge: what may have been drawn was paid for.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from contract import wire_pb2 as wire
from contract.documents import Project
from contract.errors import Refused
from contract.statistics import forms
from contract.statistics.answers import Part
from contract.work import Statistic, StatisticsWork
from node.gate.account import (
    Charge,
    Limits,
    Payer,
    PrivacyAccount,
    PureRelease,
    Standing,
    composition,
)
from node.gate.dp import questions
from node.gate.dp.draws import Draws, Kept
from node.gate.dp.measure import Columns, check, measure
from node.gate.dp.mechanism import Draw, discrete_laplace
from node.gate.dp.parts import noisy_part

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


Look = Callable[[], "tuple[Columns, NDArray[np.bool_] | None]"]
"""Gives the columns and who is in the cohort; None is everybody."""


@dataclass(frozen=True)
class Asked:
    """A question as the lane sees it. ``most`` is the epsilon that policy allows one question."""

    payer: Payer
    job: str
    release: str
    work: StatisticsWork
    project: Project
    limits: Limits
    most: float
    now: datetime


@dataclass(frozen=True)
class Answered:
    """The parts, what they cost this time, and how the account stands for the project."""

    parts: list[Part]
    epsilon: float
    standing: Standing


class DpLane:
    """The dp lane of one node."""

    def __init__(
        self, account: PrivacyAccount, draws: Draws, draw: Draw = discrete_laplace
    ) -> None:
        self.account = account
        self._draws = draws
        self._draw = draw
        self._lock = threading.Lock()

    def check(self, asked: Asked) -> None:
        """Raise ``Refused`` for what can't be answered with noise, whatever the data."""
        for statistic in asked.work.ask:
            check(statistic, asked.project)
        if min(self._shares(asked).values()) < questions.LEAST:
            raise Refused(
                "little-epsilon",
                "So little epsilon tells nothing; ask for fewer statistics, or wish for more.",
            )

    def after(self, asked: Asked) -> Standing:
        """Return how the account would stand after a question; spend nothing."""
        charges = _charges(self._spent(asked, self._wanted(asked)))
        return self.account.after(asked.payer, asked.release, charges, asked.limits, asked.now)

    def costs(self, asked: Asked) -> dict[Statistic, float]:
        """Return what each statistic would be charged now: nothing for one that was drawn."""
        wanted = self._wanted(asked)
        spent = self._spent(asked, wanted)
        return {statistic: spent.get(key, 0.0) for key, statistic in wanted.items()}

    def answer(self, asked: Asked, look: Look) -> Answered:
        """Return the answer; ``look`` gives the columns and who is in the cohort."""
        self.check(asked)
        with self._lock:
            wanted = self._wanted(asked)
            spent = self._spent(asked, wanted)
            standing = self.account.spend(
                asked.payer, asked.release, _charges(spent), asked.limits, asked.now, asked.job
            )
            kept = {key: self._draws.find(key) for key in wanted}
            if spent:
                composition.prepare()
                columns, cohort = look()
                new = {
                    key: Kept(
                        epsilon,
                        _bytes(
                            noisy_part(
                                wanted[key],
                                asked.project,
                                measure(wanted[key], asked.project, columns, cohort),
                                epsilon,
                                self._draw,
                            )
                        ),
                    )
                    for key, epsilon in spent.items()
                }
                self._draws.keep(new, asked.now)
                kept |= new
        keys = {statistic: key for key, statistic in wanted.items()}
        parts = [_part(kept[keys[statistic]]) for statistic in asked.work.ask]
        return Answered(parts, math.fsum(spent.values()), standing)

    # ---- what is asked and costs -----------------------------------------------------------------

    def _wanted(self, asked: Asked) -> dict[str, Statistic]:
        return {self._key(asked, statistic): statistic for statistic in asked.work.ask}

    def _key(self, asked: Asked, statistic: Statistic) -> str:
        """Return the key of the answer that may be shown: of no more epsilon than allowed."""
        key = questions.digest(asked.release, asked.work, statistic, asked.project)
        kept = self._draws.find(key)
        if kept is None or kept.epsilon <= asked.most:
            return key
        return questions.bounded(key, asked.most)

    def _shares(self, asked: Asked) -> dict[Statistic, float]:
        return questions.shares(asked.work.epsilon, asked.most, asked.work.ask)

    def _spent(self, asked: Asked, wanted: dict[str, Statistic]) -> dict[str, float]:
        """Return the epsilon of each question that is to be drawn."""
        shares = self._shares(asked)
        found = {}
        for key, statistic in wanted.items():
            kept = self._draws.find(key)
            if kept is None or kept.epsilon < shares[statistic]:
                found[key] = shares[statistic]
        return found


def _charges(spent: dict[str, float]) -> list[Charge]:
    return [Charge(question, PureRelease(epsilon)) for question, epsilon in spent.items()]


def _bytes(part: Part) -> bytes:
    return forms.encode([part]).SerializeToString(deterministic=True)


def _part(kept: Kept | None) -> Part:
    assert kept is not None, "every question that wasn't drawn now was drawn before"
    return forms.decode(wire.StatisticsAnswer.FromString(kept.answer))[0]
