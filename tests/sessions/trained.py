"""A training job beside the hospitals' nodes: a real ServerApp and workers, no network."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from contract import wire_pb2 as wire
from contract.documents import Job, ParameterRange, Project, RecipeGrant
from contract.envelope import Envelope
from contract.work import Scalar
from coordinator.work.training.run import TrainingOutcome, TrainingRun
from foundation.blobs import BlobFolder
from foundation.bundle import Bundle
from node.work.training.bundles import approve_bytes, build_bundle
from node.work.training.dependencies import Sources
from tests.contract.world import NOW
from tests.sessions.led import Node

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "tabular"
NUMBERS = ParameterRange(characters="0123456789.,e+-", max_length=2000)


def tabular(table: str, outcome: str, features: Sequence[str]) -> tuple[bytes, RecipeGrant]:
    """Return the tabular recipe's bundle, and a grant of it for one outcome."""
    bundle = build_bundle(RECIPE)
    grant = RecipeGrant(
        name="tabular",
        bundle=Bundle.parse(bundle).digest,
        parameters={
            "table": ParameterRange(choices=(table,)),
            "outcome": ParameterRange(choices=(outcome,)),
            "positive": ParameterRange(choices=("yes",)),
            "features": ParameterRange(choices=(",".join(features),)),
            "means": NUMBERS,
            "standard-deviations": NUMBERS,
            "num-server-rounds": ParameterRange(minimum=1, maximum=50),
            "minimum-nodes": ParameterRange(minimum=2, maximum=50),
        },
        metrics=("train_loss", "eval_loss", "eval_brier", "num-examples"),
        max_reply_bytes=2**20,
    )
    return bundle, grant


def parameters(
    grant: RecipeGrant, scales: Sequence[tuple[float, float]], sites: int, rounds: int = 6
) -> dict[str, Scalar]:
    """Return the run's parameters; ``scales`` are each feature's mean and standard deviation."""
    fixed = {n: r.choices[0] for n, r in grant.parameters.items() if r.choices}
    return fixed | {
        "means": ",".join(f"{mean:.6g}" for mean, _ in scales),
        "standard-deviations": ",".join(f"{deviation:.6g}" for _, deviation in scales),
        "num-server-rounds": rounds,
        "minimum-nodes": sites,
    }


class Training:
    """One training job, led in this process."""

    def __init__(
        self, folder: Path, bundle: bytes, envelope: bytes, project: Project, nodes: Sequence[Node]
    ) -> None:
        self.nodes = {node.member.site: node for node in nodes}
        self.events: list[wire.JobEvent] = []
        self.blobs = BlobFolder(folder / "job" / "blobs")
        for node in nodes:
            gate = node.desk.gate
            approve_bytes(gate.catalog.engine, node.desk.home, bundle, Sources(), NOW)
            sealed = node.desk.offered(node.member, envelope)
            assert sealed is not None
            assert sealed.message.decision.accepted, sealed.message
            self.digest = sealed.message.decision.job
        (folder / "app.fab").write_bytes(bundle)
        job = Job.read(Envelope.parse(envelope).body)
        names = tuple(sorted(self.nodes))
        self.run = TrainingRun(
            self.digest, job, project, folder / "job", folder / "app.fab", names, self._send,
            self.events.append,
        )  # fmt: skip
        self.run.sites_changed(set(names))
        self._threads = ThreadPoolExecutor(len(names))

    async def _send(self, site: str, task: wire.Task) -> None:
        asyncio.get_running_loop().run_in_executor(self._threads, self._work, site, task)

    def _work(self, site: str, task: wire.Task) -> None:
        node = self.nodes[site]
        task.job = self.digest

        def fetch(job: str, reference: wire.BlobReference, inbox: BlobFolder) -> None:
            inbox.store(self.blobs.path(reference.digest).read_bytes())

        said = node.desk.task(node.member, task, fetch).message
        if not said.HasField("reply"):
            self.run.fail(site, said.failed)
            return
        digest = said.reply.tensors.digest
        if digest:
            out = BlobFolder(node.desk.home.jobs / self.digest / "out")
            self.blobs.store(out.path(digest).read_bytes())
        self.run.deliver(site, said.reply)

    def to_the_end(self) -> TrainingOutcome:
        """Run it, and end every worker."""
        try:
            return asyncio.run(self.run.run())
        finally:
            for node in self.nodes.values():
                node.desk.stop()
            self._threads.shutdown()

    def metrics(self, name: str) -> list[float]:
        """Return a metric of each round."""
        return [
            metric.scalar.real
            for event in self.events
            for metric in event.metrics
            if event.kind == "round" and metric.key == name
        ]


def trained(
    folder: Path,
    bundle: bytes,
    envelope: bytes,
    project: Project,
    nodes: Sequence[Node],
) -> Mapping[str, list[float]]:
    """Train to the end; return the losses by round. Every site's ledger has what left."""
    training = Training(folder, bundle, envelope, project, nodes)
    outcome = training.to_the_end()
    assert outcome.model is not None, outcome.reason
    return {name: training.metrics(name) for name in ("train_loss", "eval_loss", "eval_brier")}
