"""A code by which a site gives no answer says what it means."""

from __future__ import annotations

from contract.failures import MEANINGS, with_meaning
from coordinator.work.training import flower
from node.gate.before_egress import ARRAYS, BEFORE_EGRESS, METRIC
from node.work.training import worker


def test_the_codes_of_the_gate_the_worker_and_the_grid_have_a_meaning() -> None:
    known = {rule.code for rule in BEFORE_EGRESS} | {ARRAYS, METRIC}
    known |= {*worker._CODES.values(), *flower._ERRORS}
    assert known <= MEANINGS.keys()


def test_a_failure_is_told_with_its_place_and_its_meaning() -> None:
    assert with_meaning("exception", "app/task.py:7").startswith("exception app/task.py:7 (the ")
    assert with_meaning("unheard-of") == "unheard-of"
