"""Training whose updates nobody sees: real processes, one of which is killed in the middle."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest

from contract import records
from contract import wire_pb2 as wire
from contract.errors import JobFailed
from researcher import Consortium
from researcher.training import TrainingHandle, TrainingResult
from tests.end_to_end.federation import PROJECT, Federation
from tests.end_to_end.processes import eventually

SITES = ("east", "north", "south", "west")
STEPS = {"rounds": 3, "minimum": 4, "rate": 0.5}
CLIP, BITS, MOST = 2.0, 24, 100
STEP = CLIP / (2 ** (BITS - 1) - 1)


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Four sites under ``open-research``: a sum over them tolerates that one drops out."""
    federation = Federation(tmp_path_factory.mktemp("four") / "opt", SITES)
    try:
        yield federation.bring_up(researchers=("ana",))
    finally:
        federation.close()


@pytest.fixture(scope="module")
def secure(four: Federation) -> TrainingResult:
    """What a secure job gives that nobody disturbs."""
    with four.connect() as ana:
        return start(ana).result()


def start(ana, **parameters) -> TrainingHandle:
    return ana.train(
        PROJECT,
        "steps",
        STEPS | parameters,
        minimum_sites=3,
        secure=True,
        clip_norm=CLIP,
        bits=BITS,
        most_examples=MOST,
    )


def same(one: TrainingResult, other: TrainingResult) -> bool:
    return all(
        np.array_equal(array, other.arrays.items[key]) for key, array in one.arrays.items.items()
    )


def steps_of(federation: Federation, site: str, job: str) -> list[str]:
    """Return what a site said in the steps of sums, of each in turn its kind."""
    found = []
    for entry in federation.answers(site, job):
        if entry.body["tensors"]:
            found.append("masked")
        elif entry.body["bytes"]:
            path = federation.home(site) / "ledger" / "payloads" / str(entry.body["payload"])
            [config] = records.decode(wire.RecordDict.FromString(path.read_bytes()), b"").values()
            said = wire.SumReply.FromString(config.items["sum"])
            found.append(str(said.WhichOneof("step")))
        else:
            found.append("sealed in")
    return found


def test_a_secure_job_gives_the_model_of_a_clear_one_within_the_grids_step(
    four: Federation, secure: TrainingResult
) -> None:
    with four.connect() as ana:
        clear = ana.train(PROJECT, "steps", STEPS, minimum_sites=3).result()
    assert secure.answered == SITES
    for key, array in clear.arrays.items.items():
        found = secure.arrays.items[key]
        assert found.dtype == array.dtype or array.dtype == np.float64
        # Half a step a site at most, in units of its share of all examples; over three rounds.
        room = 3 * (len(SITES) * 0.5 * STEP * MOST / (len(SITES) * 60) + 2e-7)
        assert np.max(np.abs(found.astype(float) - array.astype(float))) <= room
        assert np.max(np.abs(found)) > 0.05
    rounds = {(r.number, r.step): r.metrics for r in clear.rounds}
    for one in secure.rounds:
        if one.step == "evaluate":
            assert one.metrics["loss"] == pytest.approx(
                rounds[one.number, "evaluate"]["loss"], abs=1e-4
            )


def test_no_update_and_no_number_of_examples_leaves_a_site(
    four: Federation, secure: TrainingResult
) -> None:
    for site in SITES:
        kinds = steps_of(four, site, secure.job)
        one_sum = ["sealed in", "keys", "shares", "masked", "confirmation", "revealed"]
        assert kinds == one_sum * (2 * 3)
        entries = four.answers(site, secure.job)
        sealed = [e.body["masked"] for e, k in zip(entries, kinds, strict=True) if k == "sealed in"]
        masked = [e.body["masked"] for e, k in zip(entries, kinds, strict=True) if k == "masked"]
        assert sealed == masked
        # What was sealed in is deleted once it is summed.
        assert not list(four.home(site).glob("jobs/*/sums/*.sealed"))
    four.ledgers_verify()


def test_a_coordinator_killed_in_the_middle_of_a_sum_goes_on_with_it(
    four: Federation, secure: TrainingResult
) -> None:
    held = four.node("west")
    with four.connect() as ana:
        handle = start(ana)
        eventually(
            lambda: "shares" in steps_of(four, "west", handle.digest),
            "west is in a sum",
            pause=0.001,
        )
        # The sum can't go on without west, so that the coordinator dies in the middle of it.
        os.kill(held.pid, signal.SIGSTOP)
    try:
        four.coordinator.kill()
    finally:
        os.kill(held.pid, signal.SIGCONT)
    four.coordinator.start()
    with four.connect() as ana:
        result = ana.job(handle.digest).result()
        events = [e.text for e in ana.job(handle.digest).events() if e.kind == "site"]
    assert same(result, secure)
    assert not [text for text in events if text.startswith("failed")]


@pytest.mark.slow
def test_a_node_killed_in_the_middle_of_a_sum_costs_the_round_nothing_of_the_others(
    four: Federation,
) -> None:
    node = four.node("east")
    with four.connect() as ana:
        handle = start(ana)
        eventually(
            lambda: "shares" in steps_of(four, "east", handle.digest),
            "east is in a sum",
            pause=0.001,
        )
        node.kill()
        node.start()
        result = handle.result()
        failures = [(e.site, e.text) for e in handle.events() if e.text.startswith("failed")]
    assert np.isfinite(result.arrays.items["w"]).all()
    assert {site for site, _ in failures} <= {"east"}
    for site in SITES:
        kinds = steps_of(four, site, handle.digest)
        # Each sum has its own keys: no vector is masked twice, and who gave shares is in no more.
        assert kinds.count("masked") <= kinds.count("keys")
        assert kinds.count("revealed") <= kinds.count("sealed in")
    four.wait_for_sites()
    four.nothing_is_stuck()


def test_a_sum_over_fewer_sites_than_policies_want_is_refused(
    four: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Consortium, "_fewest_of_a_sum", lambda *_: 0)
    with four.connect() as ana, pytest.raises(JobFailed):
        ana.train(
            PROJECT, "steps", STEPS, sites=["east", "north"], minimum_sites=2, secure=True
        ).result()


@pytest.mark.slow
def test_the_command_trains_securely(four: Federation) -> None:
    asked = (
        "train",
        "steps",
        "-p",
        PROJECT,
        "--secure",
        "--minimum-sites",
        "3",
        "--clip-norm",
        "2",
    )
    done = four.as_researcher("ana", *asked, "--set", "minimum=4", "--set", "rounds=1")
    assert done.code == 0, done.errors
    assert "east, north, south, west took part" in done.out
