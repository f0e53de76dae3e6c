"""A consortium in one process: a training run, and a worker for each site, without a network."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np

from contract import records
from contract import wire_pb2 as wire
from contract.documents import Job, Project, new_nonce
from contract.node_ids import node_id_of
from contract.work import Scalar, TrainingWork
from coordinator.work.training.run import TrainingOutcome, TrainingRun
from foundation.bubblewrap import Limits
from node.work.training.worker import Worker, WorkerFailed, WorkerReply
from tests.node.work.training import flower_apps
from tests.node.work.training.flower_apps import NOW

SITES = ("alder", "birch", "cedar")
TIME = {"consortium": "north", "issued_at": NOW, "expires_at": NOW + timedelta(days=9)}
KEY = "A" * 43 + "="

Change = Callable[[str, wire.Task, WorkerReply], WorkerReply]


def release_of(folder: Path, site: str, rows: int = 20) -> Path:
    """Write a site's rows: three inputs and an outcome."""
    release = folder / "releases" / site
    if not release.exists():
        release.mkdir(parents=True)
        random = np.random.default_rng(int(hashlib.sha256(site.encode()).hexdigest()[:8], 16))
        x = random.normal(size=(rows + 5 * len(site), 3))
        y = x @ np.array([1.0, -2.0, 0.5]) + random.normal(scale=0.1, size=len(x))
        np.savetxt(release / "rows.csv", np.column_stack([x, y]), delimiter=",")
    return release


class Consortium:
    """Three sites that answer a run's tasks with real workers."""

    def __init__(
        self,
        folder: Path,
        bundle: bytes,
        parameters: Mapping[str, Scalar] = {},
        *,
        seed: int = 7,
        minimum_sites: int = 2,
        limits: Limits = Limits(),  # noqa: B008
        cross_evaluation: bool = False,
    ) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.bundle = folder / "app.fab"
        self.bundle.write_bytes(bundle)
        work = TrainingWork(
            bundle=hashlib.sha256(bundle).hexdigest(), parameters=dict(parameters), seed=seed,
            cross_evaluation=cross_evaluation,
        )  # fmt: skip
        self.job = Job(
            **TIME,
            project="p",
            project_version=1,
            researcher="r",
            nonce=new_nonce(),
            releases=dict.fromkeys(SITES, "0" * 64),
            work=work,
        )
        self.project = Project(
            **TIME,
            name="p",
            version=1,
            title="t",
            purpose="t",
            ethics_reference="t",
            legal_basis="t",
            sites=SITES,
            researchers=("r",),
            minimum_sites=minimum_sites,
            kinds=("training",),
        )
        self.digest = "ab" * 32
        self.events: list[wire.JobEvent] = []
        self.recipe = flower_apps.approved(folder / "home", bundle)
        self.threads = ThreadPoolExecutor(len(SITES))
        self.states = dict.fromkeys(SITES, b"")
        self.change: Change = lambda site, task, reply: reply
        self.on_task: Callable[[str, wire.Task], None] = lambda site, task: None
        self.answer: Callable[[str, wire.Task], bool] = lambda site, task: True
        self.workers = {
            site: Worker.start(
                recipe=self.recipe,
                release=release_of(folder, site),
                job=self.digest,
                parameters=parameters,
                seed=seed,
                run_id=1,
                node_id=node_id_of("north", site),
                node_config={"data-path": "/release"},
                limits=limits,
                log=folder / f"{site}.log",
            )
            for site in SITES
        }
        self.run = self.new_run()

    def new_run(self, start_from: bytes = b"") -> TrainingRun:
        """Return a run over the job's folder: the first, or one that resumes."""
        folder = self.folder / "job"
        run = TrainingRun(
            self.digest, self.job, self.project, folder, self.bundle, SITES, self.send,
            self.events.append, start_from=start_from,
        )  # fmt: skip
        run.sites_changed(set(SITES))
        self.run = run
        return run

    async def send(self, site: str, task: wire.Task) -> None:
        """What the link does with a task: a worker answers, and the reply is delivered."""
        loop = asyncio.get_running_loop()
        loop.run_in_executor(self.threads, self._work, self.run, site, task)

    def _work(self, run: TrainingRun, site: str, task: wire.Task) -> None:
        self.on_task(site, task)
        if not self.answer(site, task):
            return
        blobs = self.folder / "job" / "blobs"
        tensors = (blobs / task.tensors.digest).read_bytes() if task.tensors.digest else b""
        try:
            reply = self.workers[site].handle(task, tensors, self.states[site])
        except WorkerFailed as error:
            run.fail(site, wire.TaskFailed(task=task.task, code=error.code))
            return
        self.states[site] = reply.state
        reply = self.change(site, task, reply)
        digest = reply.payload.tensors.digest
        if digest and not (blobs / digest).exists():
            temporary = blobs / f"{digest}.{site}.part"
            temporary.write_bytes(reply.tensors)
            temporary.replace(blobs / digest)
        message = wire.Reply(
            task=task.task,
            payload=reply.payload.SerializeToString(),
            tensors=reply.payload.tensors,
        )
        run.deliver(site, message)

    def train(self) -> TrainingOutcome:
        """Run to the end."""
        return asyncio.run(self.run.run())

    def model(self, outcome: TrainingOutcome) -> dict[str, np.ndarray]:
        """Return the arrays of a finished model."""
        assert outcome.model is not None, outcome.reason
        blob = (self.folder / "job" / "blobs" / outcome.digest).read_bytes()
        decoded = records.decode(wire.RecordDict.FromString(outcome.model), blob)
        return dict(decoded["arrays"].items)

    def rounds(self, what: str) -> list[wire.JobEvent]:
        """Return the events of rounds."""
        return [e for e in self.events if e.kind == "round" and e.text == what]

    def log(self) -> str:
        """Return what the ServerApp printed."""
        return "\n".join(e.text for e in self.events if e.kind == "log")

    def close(self) -> None:
        """End every process."""
        for worker in self.workers.values():
            worker.close()
        self.threads.shutdown()


def seconds_per_round(consortium: Consortium, rounds: int) -> float:
    """Train and return the mean time from one round's aggregation to the next."""
    times: list[float] = []
    consortium.events = []
    append = consortium.events.append

    def event(one: wire.JobEvent) -> None:
        append(one)
        if one.kind == "round" and one.text == "train":
            times.append(time.perf_counter())

    consortium.run._event = event
    consortium.train()
    assert len(times) == rounds, consortium.log()
    return (times[-1] - times[0]) / (rounds - 1)
