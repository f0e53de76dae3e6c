"""Kill any process at any moment: no answer, round or ledger entry is lost, and no job hangs."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from researcher import StatisticsAnswer, mean
from researcher.training import TrainingHandle, TrainingResult
from tests.end_to_end.federation import PROJECT, Federation
from tests.end_to_end.processes import PATIENCE_SECONDS, eventually
from tests.examples import examples

SITES = ("north", "south", "west")
STEPS = {"noise": 0.1, "rounds": 4, "minimum": 3, "pause": 0.5}
SEED = 7
LARGE = 8_000_000
"""Parameters of a model whose upload takes its time."""
HALF_BYTES = 4 * LARGE // 2


@pytest.fixture(scope="module")
def killed(trio: Federation) -> Federation:
    """A federation whose processes are killed; each test brings them up again."""
    return trio


@pytest.fixture(scope="module")
def undisturbed(killed: Federation) -> TrainingResult:
    """The model that a run gives which nobody disturbs."""
    with killed.connect() as ana:
        return start(ana).result()


@pytest.fixture(scope="module")
def quiet(killed: Federation) -> TrainingResult:
    """The same without noise: a worker that is started anew draws its random numbers anew."""
    with killed.connect() as ana:
        return start(ana, noise=0.0).result()


def start(ana, **parameters) -> TrainingHandle:
    return ana.train(PROJECT, "steps", STEPS | parameters, seed=SEED, minimum_sites=2)


def wait_for_round(handle: TrainingHandle, number: int) -> None:
    """Return in the middle of a round: the one before is finished, this one's steps pause."""
    for event in handle.events():
        if event.kind == "round" and event.round == number - 1 and event.text == "evaluate":
            return
    raise AssertionError(f"the job ended before round {number}: {handle.status()}")


def same(one: TrainingResult, other: TrainingResult) -> bool:
    return one.arrays.items.keys() == other.arrays.items.keys() and all(
        np.array_equal(array, other.arrays.items[key]) for key, array in one.arrays.items.items()
    )


def ask_meanwhile(federation: Federation, minimum: int = 3) -> Callable[[], StatisticsAnswer]:
    """Ask in a thread, and return what waits for the answer."""
    answers: list[StatisticsAnswer] = []

    def ask() -> None:
        with federation.connect() as ana:
            answers.append(ana.statistics(PROJECT, [mean("age")], minimum_sites=minimum))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()

    def wait() -> StatisticsAnswer:
        thread.join(PATIENCE_SECONDS)
        assert answers, "no answer came"
        return answers[0]

    return wait


def sound_afterwards(federation: Federation) -> None:
    federation.wait_for_sites()
    federation.nothing_is_stuck()
    federation.ledgers_verify()


@pytest.mark.slow
def test_a_node_killed_in_the_middle_of_a_question_answers_it_after_its_restart(
    killed: Federation,
) -> None:
    node = killed.node("north")
    # Somebody else holds the ledger, so the node stops where it would write of the question.
    with (killed.home("north") / "ledger" / "ledger.jsonl").open("rb") as ledger:
        fcntl.flock(ledger, fcntl.LOCK_EX)
        wait = ask_meanwhile(killed)

        def waits() -> bool:
            waiting = [w for w in Path("/proc/locks").read_text().splitlines() if "->" in w]
            return any(str(node.pid) in line.split() for line in waiting)

        eventually(waits, "the node is in the middle of the question")
        node.kill()
    node.start()
    answer = wait()
    assert answer.answered == SITES
    assert len(killed.answers("north", answer.job)) == 1
    sound_afterwards(killed)


def test_a_node_killed_at_any_moment_of_a_question_answers_it_once(killed: Federation) -> None:
    chance = random.Random(20260101)
    node = killed.node("north")
    for _ in range(examples(2, 4)):
        wait = ask_meanwhile(killed)
        time.sleep(chance.uniform(0.0, 0.15))
        node.kill()
        node.start()
        answer = wait()
        assert answer.answered == SITES
        left = {e.body["payload"] for e in killed.answers("north", answer.job)}
        assert len(left) == 1
        killed.wait_for_sites()
    sound_afterwards(killed)


def test_a_coordinator_killed_before_it_answers_answers_after_its_restart(
    killed: Federation,
) -> None:
    # One site is stopped, so that the others' replies are in and the result isn't.
    slow = killed.node("west")
    os.kill(slow.pid, signal.SIGSTOP)
    try:
        with killed.connect() as ana:
            _, envelope = ana.sign(PROJECT, _work(), minimum_sites=3)
            job = ana._submit(envelope)
        eventually(
            lambda: killed.answers("north", job) and killed.answers("south", job), "two answered"
        )
        killed.coordinator.kill()
    finally:
        os.kill(slow.pid, signal.SIGCONT)
    killed.coordinator.start()
    with killed.connect() as ana:
        result = ana._wait(job)
    assert tuple(result.answered) == SITES
    assert [len(killed.answers(site, job)) for site in SITES] == [1, 1, 1]
    sound_afterwards(killed)


def _work():
    from contract.work import StatisticsWork

    return StatisticsWork(ask=(mean("age"),))


@pytest.mark.slow
def test_a_node_killed_in_a_round_takes_it_up_again(
    killed: Federation, quiet: TrainingResult
) -> None:
    with killed.connect() as ana:
        handle = start(ana, noise=0.0)
        wait_for_round(handle, 2)
        killed.node("south").kill()
        killed.node("south").start()
        result = handle.result()
        assert not [e for e in handle.events() if e.text.startswith("failed")]
    assert same(result, quiet)
    assert result.answered == SITES
    # The app counts its calls in its state, which the kill didn't cost.
    assert [r.metrics["calls"] for r in result.rounds if r.step == "train"] == [1, 2, 3, 4]
    sound_afterwards(killed)


def test_a_worker_killed_in_a_round_costs_that_round_and_not_the_job(killed: Federation) -> None:
    with killed.connect() as ana:
        handle = start(ana, minimum=2, pause=1.5)
        wait_for_round(handle, 2)
        with killed.node("north").work_stopped():
            [worker] = eventually(killed.node("west").confined, "west's worker is there")
            os.kill(worker, signal.SIGKILL)
        result = handle.result()
        failures = [(e.site, e.text) for e in handle.events() if e.text.startswith("failed")]
    assert ("west", "failed: killed") in failures
    assert len(failures) == 1
    assert [r.number for r in result.rounds if r.step == "train"] == [1, 2, 3, 4]
    sound_afterwards(killed)


@pytest.mark.slow
def test_a_coordinator_killed_in_a_round_resumes_and_gives_the_same_model(
    killed: Federation, undisturbed: TrainingResult
) -> None:
    with killed.connect() as ana:
        handle = start(ana)
        wait_for_round(handle, 3)
    killed.coordinator.kill()
    killed.coordinator.start()
    with killed.connect() as ana:
        result = ana.job(handle.digest).result()
    assert same(result, undisturbed)
    assert [(r.number, r.step) for r in result.rounds] == [
        (r.number, r.step) for r in undisturbed.rounds
    ]
    sound_afterwards(killed)


def test_everything_killed_at_once_in_a_round_resumes_and_gives_the_same_model(
    killed: Federation, quiet: TrainingResult
) -> None:
    with killed.connect() as ana:
        handle = start(ana, noise=0.0)
        wait_for_round(handle, 2)
    for server in killed.servers.values():
        server.kill()
    for server in killed.servers.values():
        server.launch()
    killed.wait_for_sites()
    with killed.connect() as ana:
        result = ana.job(handle.digest).result()
        assert not [e for e in ana.job(handle.digest).events() if e.text.startswith("failed")]
    assert same(result, quiet)
    sound_afterwards(killed)


@pytest.mark.slow
def test_a_server_app_killed_in_a_round_is_started_again(
    killed: Federation, undisturbed: TrainingResult
) -> None:
    with killed.connect() as ana:
        handle = start(ana)
        wait_for_round(handle, 3)
        [runner] = killed.coordinator.confined()
        os.kill(runner, signal.SIGKILL)
        result = handle.result()
    assert same(result, undisturbed)
    sound_afterwards(killed)


def catch_upload(federation: Federation, handle: TrainingHandle) -> Path | None:
    """Kill north in the middle of an upload; return what is held of it, or None if it was over."""
    made = federation.home("north") / "jobs" / handle.digest / "out"
    blobs = federation.coordinator_home / "jobs" / handle.digest / "blobs"
    eventually(
        lambda: (
            [p for p in made.glob("*") if not p.name.endswith(".part")]
            or handle.status().state in ("finished", "failed")
        ),
        "north made its update",
        pause=0.001,
    )
    coordinator = federation.coordinator.pid
    try:
        # The coordinator runs in small steps, so that the upload is caught in the middle.
        for _ in range(2000):
            os.kill(coordinator, signal.SIGSTOP)
            for path in blobs.glob("*.north.part"):
                size = path.stat().st_size
                if size > HALF_BYTES:  # what is under way might be all the rest
                    return None
                if size > 2**20:
                    federation.node("north").kill()
                    return path
            os.kill(coordinator, signal.SIGCONT)
            time.sleep(0.002)
        return None
    finally:
        os.kill(coordinator, signal.SIGCONT)


@pytest.mark.slow
def test_a_node_killed_during_an_upload_goes_on_where_it_stopped(killed: Federation) -> None:
    with killed.connect() as ana:
        path = None
        while path is None:  # a machine that is fast or busy may be through before we look
            handle = start(ana, size=LARGE, rounds=1, minimum=2, pause=0.0, noise=0.0)
            path = catch_upload(killed, handle)
        eventually(lambda: _is_still(path), "the coordinator notices")
        held = path.stat().st_size if path.exists() else 0
        sizes: list[int] = []
        over = threading.Event()

        def watch() -> None:
            while not over.is_set():
                with suppress(FileNotFoundError):
                    sizes.append(path.stat().st_size)
                time.sleep(0.01)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        killed.node("north").start()
        result = handle.result()
        over.set()
        watcher.join()
    assert held, "the upload was over before the node was killed"
    assert min(sizes) >= held
    assert "north" in result.answered
    assert len(killed.answers("north", handle.digest)) == 2
    sound_afterwards(killed)


def _is_still(path: Path) -> bool:
    if not path.exists():
        return True
    before = path.stat().st_size
    time.sleep(0.5)
    return not path.exists() or path.stat().st_size == before
