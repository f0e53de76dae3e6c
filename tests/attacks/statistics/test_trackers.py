"""Broad questions, added and subtracted, so that one patient's value is what remains.

Each attack first succeeds at the node without declared cells: every cohort is larger than the
policy's minimum, by which its gate looks at each answer by itself. With them it gets no answer.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from contract.cohorts import Cohort
from contract.statistics.answers import Part
from contract.work import Statistic
from tests.attacks.statistics.conftest import Node, counts, moments, total

ATTACKS = (
    (
        "Pairwise differencing",
        "Adam and Wortmann 1989, Security-control methods for statistical databases, section 3",
        "exact answers are of unions of declared cells",
        "test_two_cohorts_that_differ_by_one_patient",
    ),
    (
        "Individual tracker",
        "Schlörer 1975; Denning 1982, Cryptography and Data Security, section 6.3.2",
        "exact answers are of unions of declared cells",
        "test_an_individual_tracker",
    ),
    (
        "General tracker",
        "Denning, Denning and Schwartz 1979, The tracker, ACM TODS 4(1)",
        "exact answers are of unions of declared cells",
        "test_a_general_tracker",
    ),
    (
        "Double tracker of overlapping halves",
        "Schlörer 1980, Disclosure from statistical databases: quantitative aspects of trackers",
        "exact answers are of unions of declared cells",
        "test_overlapping_halves",
    ),
    (
        "Complement",
        "Hundepool et al. 2012, Statistical Disclosure Control, section 5.2",
        "exact answers are of unions of declared cells",
        "test_all_but_one",
    ),
    (
        "Differencing over groups that few are in none of",
        "Hundepool et al. 2012, Statistical Disclosure Control, section 5.2",
        "whoever lacks a stratum's value is in no cell",
        "test_the_whole_less_its_groups",
    ),
    (
        "Differencing of numbers of missing values",
        "DataSHIELD's known holes: a table checked without missing values",
        "sets' sizes are equal or at least the minimum apart",
        "test_numbers_of_missing_values",
    ),
)

MARKER = Statistic(kind="moments", variable="marker")
OLD = Cohort(variable="age", at_least=85)
"""Only the target is so old; the attacker knows it."""
FEMALE = Cohort(variable="sex", levels=("f",))
ARM_A = Cohort(variable="arm", levels=("A",))
SECRET = 123.456
Ask = Callable[[Cohort | None], list[Part] | None]


def both(node: Node, attack: Callable[[Ask], float]) -> None:
    """Run an attack without the defence, where it must find the value, and with it."""
    assert attack(lambda c: node.undefended(MARKER, cohort=c)) == pytest.approx(SECRET, abs=1e-6)
    with pytest.raises(AssertionError, match="no answer"):
        attack(lambda c: node.ask(MARKER, cohort=c))


def value(ask: Ask, cohort: Cohort | None) -> float:
    return total(moments(ask(cohort)))


def test_the_target_can_not_be_asked_for_directly(node: Node) -> None:
    assert node.undefended(MARKER, cohort=OLD) is None
    assert node.ask(MARKER, cohort=OLD) is None


def test_two_cohorts_that_differ_by_one_patient(node: Node) -> None:
    both(node, lambda ask: value(ask, FEMALE) - value(ask, FEMALE & ~OLD))


def test_an_individual_tracker(node: Node) -> None:
    # The target is f and old: q(f and old) = q(f) - q(f and not old), each of them a broad cohort.
    tracker = Cohort(all=(FEMALE, Cohort(not_=OLD)))
    both(node, lambda ask: value(ask, FEMALE) - value(ask, tracker))


def test_a_general_tracker(node: Node) -> None:
    # q(C) = q(C or T) + q(C or not T) - q(T) - q(not T), for any T that isn't too small or large.
    def attack(ask: Ask) -> float:
        whole = value(ask, ARM_A) + value(ask, ~ARM_A)
        return value(ask, OLD | ARM_A) + value(ask, OLD | ~ARM_A) - whole

    both(node, attack)


def test_overlapping_halves(node: Node) -> None:
    younger = Cohort(variable="age", below=55)

    def attack(ask: Ask) -> float:
        return (
            value(ask, younger | OLD)
            + value(ask, ~younger | OLD)
            - value(ask, younger)
            - value(ask, ~younger)
        )

    both(node, attack)


def test_all_but_one(node: Node) -> None:
    both(node, lambda ask: value(ask, None) - value(ask, ~OLD))


def test_the_whole_less_its_groups(node: Node) -> None:
    """One has no sex; the whole less f and m is hers."""
    ill = Statistic(kind="levels", variable="ill")

    def left(answer: Callable[..., list[Part] | None]) -> list[int]:
        whole = counts(answer(ill)).counts
        groups = [counts(answer(ill, cohort=c)).counts for c in (FEMALE, ~FEMALE & SEXED)]
        return [a - b - c for a, b, c in zip(whole, *groups, strict=True)]

    assert sum(left(node.undefended)) == 1
    assert left(node.ask) == [0, 0]


SEXED = Cohort(variable="sex", missing=False)


def test_numbers_of_missing_values(node: Node) -> None:
    """Two have no marker; how many there are with an age tells it, however missing is rounded."""
    ask = [Statistic(kind="count", variable=name) for name in ("age", "marker")]

    def missing(parts: list[Part] | None) -> int:
        return counts(parts, 0).n - counts(parts, 1).n

    assert missing(node.undefended(*ask)) == 2
    for cohort in (None, FEMALE, ARM_A, FEMALE & ARM_A):
        assert missing(node.ask(*ask, cohort=cohort)) == 0


def test_every_exact_answer_there_is_pins_nobody_down(node: Node) -> None:
    """All cohorts of cells, all sets: no answers, subtracted, are about fewer than the minimum."""
    cells: list[Cohort] = [
        Cohort(variable="arm", levels=(a,)) & Cohort(variable="sex", levels=(s,))
        for a in "AB"
        for s in "fm"
    ]
    for cohort in cells:
        sizes: set[int] = {0}
        for analysis in (None, "main"):
            for name in ("age", "marker", *(() if analysis else ("ill", "arm", "sex"))):
                parts: Any = node.ask(
                    Statistic(kind="count", variable=name), cohort=cohort, analysis=analysis
                )
                sizes.add(counts(parts).n)
        ordered = sorted(sizes)
        assert len(ordered) > 1
        assert all(b - a >= 20 for a, b in itertools.pairwise(ordered))
