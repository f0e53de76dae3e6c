"""Answers with noise from a whole consortium: drawn once, charged once, for everybody."""

from __future__ import annotations

import json

from contract.cohorts import Cohort
from researcher import count, mean
from tests.end_to_end.federation import PROJECT, SUBJECTS, Federation

OLD = Cohort(variable="age", at_least=50)


def test_a_question_with_noise_has_one_answer_for_all_whatever_happens_to_a_node(
    trio: Federation,
) -> None:
    with trio.connect("ana") as ana:
        first = ana.statistics(PROJECT, [mean("age"), count("arm")], cohort=OLD, epsilon=0.5)
    assert first.lane == "dp"
    assert [site.site for site in first.spent] == list(trio.sites)
    assert all(site.epsilon == 0.5 and site.remaining > 7 for site in first.spent)
    assert abs(first[1].counts().n - 3 * SUBJECTS / 2) < 100
    assert {receipt.lane for receipt in first.receipts} == {"dp"}

    trio.node("north").kill()
    trio.node("north").start()
    trio.wait_for_sites("north")
    with trio.connect("ben") as ben:
        again = ben.statistics(
            PROJECT, [mean("age"), count("arm")], cohort=~(~OLD | Cohort(variable="age", below=50))
        )
    assert [part.part for part in again.parts] == [part.part for part in first.parts]
    assert [site.epsilon for site in again.spent] == [0, 0, 0]

    done = trio.on("north", "privacy", "show", "--json", "--project", PROJECT)
    assert done.code == 0, done.errors
    said = json.loads(done.out)
    assert len(said["spends"]) == 2
    spent = [e for e in trio.entries("north") if e.kind == "spent"]
    left = [e for e in trio.entries("north") if e.kind == "answer" and e.body["lane"] == "dp"]
    assert [e.body["job"] for e in spent] == [left[0].body["job"]]
    assert spent[0].sequence < left[0].sequence

    asked = ("statistics", "-p", PROJECT, "--count", "arm", "--where", "age >= 50")
    # Of the first question a third went to the count: so much costs nothing again.
    done = trio.as_researcher("ana", *asked, "--epsilon", "0.16")
    assert done.code == 0, done.errors
    assert "±" in done.out
    assert "north: epsilon 0 spent" in done.out
    trio.as_researcher("ana", *asked, "--lane", "exact").fails(16, "declares no exact answer")
