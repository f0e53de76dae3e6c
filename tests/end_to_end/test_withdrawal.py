"""A patient withdraws: work on the release stops at once, and it answers nothing more."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from contract.errors import JobFailed
from researcher import mean
from tests.end_to_end.federation import PROJECT, SUBJECTS, Federation, canary
from tests.end_to_end.processes import eventually, run
from tests.end_to_end.test_kills import STEPS, wait_for_round

Make = Callable[..., Federation]


def test_withdrawal_stops_running_jobs_and_all_that_come_after(federations: Make) -> None:
    one = federations("north", "south", "west").bring_up(researchers=("ana",))
    west = one.home("west")
    with one.connect() as ana:
        asked = {r.site: r.digest for r in ana.releases(PROJECT) if r.site == "west"}
        handle = ana.train(
            PROJECT, "steps", STEPS | {"minimum": 2, "pause": 2.0}, seed=1, minimum_sites=2
        )
        wait_for_round(handle, 2)
        assert one.node("west").confined()
        number = canary("west", 7)
        with one.node("north").work_stopped():
            done = run("wardgate-node", "consent", "withdraw", "--home", west, stdin=f"{number}\n")
            assert done.code == 0, done.errors
            assert number not in done.out
            eventually(lambda: not one.node("west").confined(), "the worker ends")
        before = len(one.answers("west", handle.digest))
        result = handle.result()
        assert result.answered
        # Not a byte of this job left the hospital after the withdrawal.
        assert len(one.answers("west", handle.digest)) == before

        # What is asked from now on is refused there, whatever it is.
        with pytest.raises(JobFailed, match="release is not granted"):
            ana.statistics(PROJECT, [mean("age")], releases=asked)

    # The replacement leaves the patient out, and others.
    made = run("wardgate-node", "release", "create", "again", "--table", "trial", "--home", west)
    assert made.code == 0, made.errors
    subjects = int(made.out.split(": ")[1].split()[0])
    assert subjects <= SUBJECTS - 6
