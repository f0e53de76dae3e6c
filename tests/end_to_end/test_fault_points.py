"""Kill each process in each phase of a round: the model is, to the bit, that of the same sites.

What a phase is, is seen from outside: by the job's folder at the coordinator. The model that must
come out is computed here, by Flower's own average, from who took part in which round.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

from researcher.training import TrainingHandle, TrainingResult
from tests.end_to_end.federation import PROJECT, Federation
from tests.end_to_end.processes import BIN, PATIENCE_SECONDS, eventually
from tests.ports import free_port

SITES = ("north", "south", "west")
ROUNDS, SIZE, RATE = 3, 300_000, 0.1
TASKS = 2 * len(SITES)
"""Of one round: each site trains and evaluates."""


@pytest.fixture(scope="module")
def federation(trio: Federation) -> Federation:
    """Three sites whose processes are killed; each test brings them up again."""
    return trio


def start(federation: Federation, **parameters: Any) -> TrainingHandle:
    with federation.connect() as ana:
        asked = {"rounds": ROUNDS, "size": SIZE, "rate": RATE, "minimum": 3, "pause": 0.2}
        return ana.train(PROJECT, "steps", asked | parameters, seed=7, minimum_sites=2)


def result_of(federation: Federation, handle: TrainingHandle) -> TrainingResult:
    with federation.connect() as ana:
        return ana.job(handle.digest).result()


# ---- the model that must come out ---------------------------------------------------------------


def rows(federation: Federation, site: str) -> tuple[np.ndarray, np.ndarray]:
    """Return what a site's recipe reads."""
    [path] = (federation.home(site) / "releases").glob("*/tables/*.parquet")
    table = pl.read_parquet(path)
    age = (table["age"].to_numpy() - 50) / 20
    arm = (table["arm"] == "B").to_numpy().astype(float)
    y = (table["outcome"] == "yes").to_numpy().astype(float)
    return np.stack([np.ones_like(age), age, arm], axis=1), y


def model_of(federation: Federation, took_part: list[list[str]]) -> np.ndarray:
    """Return the model after rounds in which these sites took part."""
    held = {site: rows(federation, site) for site in SITES}
    w = np.zeros(3, np.float32)
    for sites in took_part:
        replies = []
        for site in sites:
            x, y = held[site]
            new = w.copy()
            new -= RATE * x.T @ (x @ new - y) / len(y)
            arrays, metrics = ArrayRecord({"w": Array(new)}), MetricRecord({"n": len(y)})
            replies.append(RecordDict({"arrays": arrays, "metrics": metrics}))
        w = aggregate_arrayrecords(replies, "n")["w"].numpy()
    return w


def who_took_part(result: TrainingResult) -> list[list[str]]:
    """Return the sites of each round, by the receipts for what they sent to be averaged."""
    first = {TASKS * r + 1 + n: (r, site) for r in range(ROUNDS) for n, site in enumerate(SITES)}
    found: list[list[str]] = [[] for _ in range(ROUNDS)]
    for receipt in sorted(result.receipts, key=lambda one: one.task):
        if int(receipt.task) in first:
            number, site = first[int(receipt.task)]
            assert receipt.site == site
            found[number].append(site)
    return found


def is_right(federation: Federation, result: TrainingResult, *, all_of_them: bool) -> None:
    """Check the model bit by bit, and that nobody who could take part was left out."""
    took_part = who_took_part(result)
    if all_of_them:
        assert took_part == [list(SITES)] * ROUNDS
    w = result.arrays.items["w"]
    assert w.shape == (SIZE,)
    assert w[:3].tobytes() == model_of(federation, took_part).tobytes()
    assert not w[3:].any()
    trained = [r.number for r in result.rounds if r.step == "train"]
    assert trained == list(range(1, ROUNDS + 1))
    federation.wait_for_sites()
    federation.nothing_is_stuck()
    federation.ledgers_verify()


# ---- phases -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """A job as far as it has come, by its folder at the coordinator."""

    folder: Path

    def count(self, kind: str) -> int:
        """Count a kind of the journal's entries."""
        found = 0
        with suppress(FileNotFoundError):
            for line in (self.folder / "journal").read_bytes().splitlines():
                with suppress(ValueError):
                    found += kind in json.loads(line)
        return found

    def replies(self) -> int:
        """Count the replies that are on disk."""
        return sum(1 for p in self.folder.glob("replies/0*"))

    def uploading(self) -> bool:
        """Whether a site's update is on its way."""
        return any(self.folder.glob("blobs/*.part"))


Phase = Callable[[Seen], bool]

PHASES: Mapping[str, Phase] = {
    "offer": lambda seen: True,
    "task sent": lambda seen: seen.count("task") > TASKS,
    "training": lambda seen: seen.count("task") > TASKS and not time.sleep(0.1),
    "uploading": lambda seen: (
        seen.count("task") > TASKS and (seen.uploading() or seen.replies() > TASKS)
    ),
    "reply received": lambda seen: seen.replies() > TASKS,
    "aggregating": lambda seen: seen.count("answers") > 2,
    "delivering": lambda seen: seen.count("answers") >= 2 * ROUNDS,
}


def kill_app(federation: Federation) -> None:
    with suppress(ProcessLookupError):
        for pid in federation.coordinator.confined():
            os.kill(pid, signal.SIGKILL)


def kill_worker(federation: Federation) -> None:
    with suppress(ProcessLookupError):
        for pid in federation.node("north").confined():
            os.kill(pid, signal.SIGKILL)


def kill_node(federation: Federation) -> None:
    federation.node("north").kill()
    federation.node("north").start()


def kill_coordinator(federation: Federation) -> None:
    federation.coordinator.kill()
    federation.coordinator.start()


def kill_all(federation: Federation) -> None:
    for server in federation.servers.values():
        server.kill()
    for server in federation.servers.values():
        server.launch()
    for server in federation.servers.values():
        server.wait_until_ready()


VICTIMS: Mapping[str, Callable[[Federation], None]] = {
    "coordinator": kill_coordinator,
    "app": kill_app,
    "node": kill_node,
    "worker": kill_worker,
    "everything": kill_all,
}
FEW = {
    ("node", "reply received"),
    ("app", "aggregating"),
    ("coordinator", "delivering"),
}
"""Which of all the others stand for them in a quick run."""


@pytest.mark.parametrize(
    ("victim", "phase"),
    [
        pytest.param(
            victim, phase, marks=() if (victim, phase) in FEW else (pytest.mark.slow,),
            id=f"{victim}-{phase}".replace(" ", "-"),
        )
        for victim in VICTIMS
        for phase in PHASES
        if phase != "offer" or victim not in ("app", "worker")  # there is none yet
    ],
)  # fmt: skip
def test_whatever_is_killed_in_whatever_phase_the_model_is_that_of_the_sites_that_took_part(
    federation: Federation, victim: str, phase: str
) -> None:
    handle = start(federation)
    seen = Seen(federation.coordinator_home / "jobs" / handle.digest)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not PHASES[phase](seen):
        assert time.monotonic() < deadline, f"{phase} was not seen"
        time.sleep(0.001)
    VICTIMS[victim](federation)
    result = result_of(federation, handle)
    # A worker that is killed costs its site the round; nothing else costs anybody anything.
    is_right(federation, result, all_of_them=victim != "worker")


# ---- a network that breaks ----------------------------------------------------------------------

NAMESPACE = f"wardgate-{os.getpid()}"
OUTSIDE, INSIDE = f"wgo{os.getpid() % 10**6}", f"wgi{os.getpid() % 10**6}"
NETWORK = f"10.{213 + os.getpid() % 40}.{os.getpid() // 40 % 250}"


def ip(*words: str, inside: bool = False) -> None:
    line = ["ip", *(["-n", NAMESPACE] if inside else []), *words]
    subprocess.run(line, check=True, capture_output=True)


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Federation]:
    """Three sites, of which north is in a network of its own, at the end of one cable."""
    try:
        ip("netns", "add", NAMESPACE)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespace can be made here: {error}")
    made: Federation | None = None
    try:
        try:
            ip("link", "add", OUTSIDE, "type", "veth", "peer", "name", INSIDE, "netns", NAMESPACE)
            ip("address", "add", f"{NETWORK}.1/24", "dev", OUTSIDE)
            ip("link", "set", OUTSIDE, "up")
            ip("address", "add", f"{NETWORK}.2/24", "dev", INSIDE, inside=True)
            ip("link", "set", INSIDE, "up", inside=True)
            ip("link", "set", "lo", "up", inside=True)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no pair of network devices can be made here: {error}")
        made = Apart(tmp_path / "opt", SITES)
        yield made.bring_up(researchers=("ana",))
    finally:
        if made is not None:
            made.close()
        subprocess.run(["ip", "netns", "delete", NAMESPACE], check=False, capture_output=True)
        subprocess.run(["ip", "link", "delete", OUTSIDE], check=False, capture_output=True)


class Apart(Federation):
    """A federation whose coordinator is reached over the cable."""

    def free_address(self) -> str:
        """Return where the coordinator listens."""
        return f"{NETWORK}.1:{free_port()}"

    def add_node_server(self, site: str) -> Any:
        """Put north into its own network."""
        server = super().add_node_server(site)
        if site == "north":
            program = str(BIN / server.command[0])
            server.command = ["/usr/sbin/ip", "netns", "exec", NAMESPACE, program]
            server.command += ["serve", "--home", str(self.home(site))]
        return server


@pytest.mark.parametrize(
    "phase", [pytest.param("training", marks=pytest.mark.slow), "uploading"]
)  # fmt: skip
def test_a_site_that_is_cut_off_in_a_round_takes_it_up_again_when_it_is_back(
    apart: Federation, phase: str
) -> None:
    handle = start(apart)
    seen = Seen(apart.coordinator_home / "jobs" / handle.digest)
    eventually(lambda: PHASES[phase](seen), phase, pause=0.001)
    # The cable is cut: what is sent is lost, and nobody is told.
    ip("link", "set", INSIDE, "down", inside=True)
    eventually(lambda: "offline: north" in apart.coordinator.log, "north is missed")
    ip("link", "set", INSIDE, "up", inside=True)
    is_right(apart, result_of(apart, handle), all_of_them=True)
