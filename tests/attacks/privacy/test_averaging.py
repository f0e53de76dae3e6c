"""Asking for one figure again and again, so that the noise averages out."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import numpy as np
import pytest

from contract.cohorts import Cohort
from contract.errors import Refused
from node.gate.account import Limits, Payer
from node.gate.dp import questions
from node.gate.dp.draws import Draws, Kept
from node.gate.dp.lane import DpLane
from tests.attacks.privacy.conftest import NewLane
from tests.node.gate.dp.conftest import COUNT, Lane

ATTACKS = (
    (
        "Averaging by asking again",
        "Dinur and Nissim 2003; DataSHIELD's known holes",
        "an answer with noise is kept and given again",
        "test_asking_again_averages_nothing_out",
    ),
    (
        "Averaging by other users and after restarts",
        "Asghar and Kaafar 2020, Averaging attacks on bounded noise-based disclosure control",
        "the kept answer belongs to the question, on disk, not to who asks",
        "test_other_users_and_restarts_average_nothing_out",
    ),
    (
        "Averaging by asking in other words",
        "Gadotti et al. 2019, When the Signal is in the Noise: Exploiting Diffix's Sticky Noise",
        "cohorts are brought into one normal form",
        "test_other_words_average_nothing_out",
    ),
    (
        "Averaging over sybil projects and consortia",
        "Dwork and Roth 2014, 3.5 (composition)",
        "one account for a pool of subjects, over all projects and consortia",
        "test_more_projects_buy_no_more_than_the_pool_has",
    ),
)
TARGET = Cohort(variable="age", at_least=65) & Cohort(variable="arm", levels=("b",))
ASKS = 60


class Forgetful(Draws):
    """Nothing is kept: every question is drawn anew."""

    def find(self, question: str) -> Kept | None:
        return None


class Personal(Draws):
    """Answers are kept in the memory of a process, for one user."""

    def __init__(self, lane: Lane) -> None:
        super().__init__(lane.catalog.engine)
        object.__setattr__(self, "_kept", {})

    def find(self, question: str) -> Kept | None:
        found: dict[str, Kept] = getattr(self, "_kept")  # noqa: B009
        return found.get(question)

    def keep(self, found: dict[str, Kept], now: object) -> None:
        getattr(self, "_kept").update(found)  # noqa: B009


def members(lane: Lane) -> int:
    """How many there really are."""
    return int(np.count_nonzero((lane.columns["age"] >= 65) & (lane.columns["arm"] == 1)))


def learns(answers: list[int], true: int) -> bool:
    """Whether the answers' median, the best guess under Laplace noise, is the truth or next to it.

    Of one draw that is so by luck; of one draw told many times it is no more so.
    """
    return len(set(answers)) > 1 and abs(statistics.median(answers) - true) <= 1


def test_asking_again_averages_nothing_out(new_lane: NewLane) -> None:
    lane = new_lane("off")
    lane.lane = DpLane(lane.account, Forgetful(lane.catalog.engine))
    assert learns([lane.count(TARGET) for _ in range(ASKS)], members(lane))

    lane = new_lane("on")
    answers = [lane.count(TARGET) for _ in range(ASKS)]
    assert not learns(answers, members(lane))
    assert len(set(answers)) == 1
    assert len(lane.account.spends()) == 1


def test_other_users_and_restarts_average_nothing_out(new_lane: NewLane) -> None:
    users = [Payer(f"consortium-{n % 5}", f"project-{n}") for n in range(ASKS)]
    lane = new_lane("off")
    answers = []
    for user in users:
        lane.lane = DpLane(lane.account, Personal(lane))  # a restart, or another user
        answers.append(lane.count(TARGET, payer=user))
    assert learns(answers, members(lane))

    lane = new_lane("on")
    answers = []
    for number, user in enumerate(users):
        if number % 10 == 0:
            lane.restart()
        answers.append(lane.count(TARGET, payer=user))
    assert not learns(answers, members(lane))
    assert len(set(answers)) == 1


def wordings() -> Iterator[Cohort]:
    """Ways to say ``TARGET``: all are the same people, whatever the data."""
    old, arm = TARGET.all or ()
    for number in range(ASKS):
        redundant = Cohort(variable="age", at_least=20 + number / 2)
        yield (
            old & arm & redundant,
            arm & ~(~old | ~redundant),
            (old & arm) | (old & arm & redundant),
        )[number % 3]


def test_other_words_average_nothing_out(
    new_lane: NewLane, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = new_lane("off")
    with monkeypatch.context() as patched:
        patched.setattr(
            questions.cohorts, "normal_form", lambda cohort, project: cohort.model_dump_json()
        )
        assert learns([lane.count(cohort) for cohort in wordings()], members(lane))

    lane = new_lane("on")
    answers = [lane.count(cohort) for cohort in wordings()]
    assert not learns(answers, members(lane))
    assert len(set(answers)) == 1


def test_more_projects_buy_no_more_than_the_pool_has(new_lane: NewLane) -> None:
    """Every project asks it of a release of its own, of the same subjects."""

    def ask(lane: Lane, limits: Limits) -> tuple[int, float]:
        lane.limits = limits
        answered, spent = 0, 0.0
        for number in range(12):
            try:
                done = lane.ask(
                    COUNT,
                    cohort=TARGET,
                    payer=Payer(f"c{number}", "p"),
                    epsilon=2.0,
                    release=f"{number:064x}",
                )
            except Refused:
                continue
            answered += 1
            spent += done.epsilon
        return answered, spent

    answered, spent = ask(new_lane("off"), Limits(2.0, 1e6, 1e-6, 10))
    assert (answered, spent) == (12, 24.0)

    lane = new_lane("on")
    answered, spent = ask(lane, Limits(2.0, 16.0, 1e-6, 10))
    assert answered == 8
    assert spent <= 16.0
    assert lane.account.standing(Payer("", ""), lane.limits, lane.now).epsilon_year <= 16.0
