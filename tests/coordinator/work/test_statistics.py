"""Merged estimates: who is in them, and that too much missing is no estimate."""

from __future__ import annotations

import pytest

from contract.statistics.answers import Part
from contract.statistics.summaries import Counts
from coordinator.work import sums
from coordinator.work.statistics import absent_share, settle

WITHHELD = Part({}, withheld=True)


def part(*counts: int, level: str = "") -> Part:
    return Part({level: Counts(counts)})


def test_a_withheld_part_is_in_no_sum_and_its_share_of_subjects_is_told() -> None:
    parts = {"north": [part(90, 10)], "south": [part(80, 20)], "west": [WITHHELD]}
    listed = {"north": 100, "south": 100, "west": 10}
    [estimate], [who] = settle(parts, [], listed, 0.05)
    assert estimate == part(170, 30)
    assert (list(who.answered), list(who.withheld)) == (["north", "south"], ["west"])
    assert who.missing_share == pytest.approx(10 / 210)
    assert not who.too_much_missing


def test_an_estimate_that_misses_too_many_is_withheld() -> None:
    parts = {"north": [part(90, 10), part(5)], "west": [WITHHELD, part(6)]}
    [first, second], [who, other] = settle(parts, [], {"north": 100, "west": 10}, 0.05)
    assert first == WITHHELD
    assert who.too_much_missing
    assert second == part(11)
    assert other.missing_share == 0


def test_sites_that_refused_for_being_small_are_missing_too() -> None:
    parts = {"north": [part(90)]}
    [estimate], [who] = settle(parts, ["west"], {"north": 100, "west": 0}, 0.05)
    assert (estimate, who.missing_share) == (part(90), 0)
    [estimate], [who] = settle(parts, ["west"], {"north": 0, "west": 0}, 0.05)
    assert estimate == WITHHELD
    assert who.missing_share == 0.5


def test_what_every_site_withheld_is_withheld_and_not_too_much() -> None:
    parts = {"north": [WITHHELD], "west": [WITHHELD]}
    [estimate], [who] = settle(parts, [], {"north": 100, "west": 10}, 0.05)
    assert estimate == WITHHELD
    assert not who.too_much_missing


BOTH = Part({"A": Counts((30,)), "B": Counts((40,))})


def test_a_group_that_a_site_does_not_declare_is_of_the_others_and_said() -> None:
    parts = {"north": [BOTH], "west": [part(25, level="B")]}
    [estimate], [who] = settle(parts, [], {"north": 70, "west": 30}, 0.3)
    assert estimate == Part({"A": Counts((30,)), "B": Counts((65,))})
    assert list(who.partial) == ["west"]
    assert not who.too_much_missing_groups


def test_a_group_that_misses_too_many_is_dropped_and_named() -> None:
    parts = {"north": [BOTH], "west": [part(25, level="B")]}
    [estimate], [who] = settle(parts, [], {"north": 70, "west": 30}, 0.29)
    assert estimate == part(65, level="B")
    assert list(who.too_much_missing_groups) == ["A"]
    assert not who.too_much_missing
    # Who gave nothing at all is missing in each group too.
    [estimate], [who] = settle(parts, ["east"], {"north": 50, "west": 30, "east": 20}, 0.3)
    assert (estimate, list(who.too_much_missing_groups)) == (part(65, level="B"), ["A"])


def test_a_statistic_of_which_no_group_is_left_is_withheld() -> None:
    parts = {"north": [part(30, level="A")], "west": [part(25, level="B")]}
    [estimate], [who] = settle(parts, [], {"north": 70, "west": 30}, 0.05)
    assert estimate == WITHHELD
    assert who.too_much_missing
    assert who.missing_share == pytest.approx(0.3)
    assert not who.too_much_missing_groups


def test_a_secure_sum_has_no_group_that_too_many_sites_lack() -> None:
    sites = ("north", "south", "west", "east")
    told = [{"A": 1, "B": 0}]
    [estimate], [who] = sums.settle([BOTH], told, sites, [], 0.25)
    assert (estimate, who.unnamed, list(who.too_much_missing_groups)) == (BOTH, 0, [])
    [estimate], [who] = sums.settle([BOTH], told, sites, [], 0.2)
    assert (estimate, list(who.too_much_missing_groups)) == (part(40, level="B"), ["A"])
    [estimate], [who] = sums.settle([BOTH], told, sites, ["small"], 0.19)
    assert (estimate, who.too_much_missing) == (WITHHELD, True)
    assert who.missing_share == pytest.approx(0.2)


def test_whoever_is_not_in_the_answer_for_whatever_reason_is_absent_from_the_listed_subjects() -> (
    None
):
    listed = {"north": 60, "south": 30, "west": 10}
    assert absent_share(["north"], listed) == pytest.approx(0.4)
    assert absent_share(["north", "west", "south"], listed) == 0
    assert absent_share(["north"], {"north": 0, "south": 0}) == 0


def test_what_is_absent_withholds_nothing_and_is_in_no_missing_share() -> None:
    parts = {"north": [part(90)]}
    [estimate], [who] = settle(parts, [], {"north": 100}, 0.05)
    assert (estimate, who.missing_share) == (part(90), 0)
