"""Four hospitals with real gates that train and sum, and a coordinator that lies where told to."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from contract import wire_pb2 as wire
from contract.documents import MetricRange
from contract.envelope import Envelope
from contract.errors import DocumentError, JobFailed, Refused
from contract.records import Arrays, Metrics, Records, decode
from contract.secure_aggregation import encoding
from contract.secure_aggregation.messages import Revealed
from contract.work import SecureUpdates, TrainingWork
from coordinator.work.training.secure import Answers, Question, SecureRounds, Summing
from foundation import tensors
from foundation.blobs import BlobFolder
from node.catalog.store import Catalog
from node.gate.gate import Admission
from node.gate.policy import DisclosureSettings, JobLimits, Policy, TrainingSettings
from node.gate.rules import TrainingOutput
from node.home import NodeHome
from node.work.training.secure import SecureRounds as NodeRounds
from tests.contract.world import BUNDLE, SITES, World
from tests.node.gate.conftest import GRANT, Hospital

RANGES = {"loss": MetricRange(minimum=0, maximum=10)}
GRANTED = GRANT.model_copy(update={"metric_ranges": RANGES})
WORK = SecureUpdates(clip_norm=4.0, bits=24, most_examples=500)
START = {"w": np.linspace(-1, 1, 40, dtype=np.float32).reshape(8, 5), "b": np.zeros(3, np.float32)}
KINDS = ("terms", "keys", "shares", "survivors", "confirmations")
"""What a coordinator tells in the five steps."""


@dataclass
class Site:
    """One hospital in a job."""

    name: str
    hospital: Hospital
    admission: Admission
    folder: Path
    number: int
    rounds: NodeRounds = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget what is in memory, as after a kill."""
        self.hospital.reopen()
        hospital = self.hospital
        self.rounds = NodeRounds(hospital.gate, hospital.member, self.admission, self.folder)

    @property
    def update(self) -> dict[str, np.ndarray]:
        """What its training adds to the model."""
        chance = np.random.default_rng(self.number)
        return {k: chance.normal(scale=0.1, size=a.shape).astype("f") for k, a in START.items()}

    @property
    def examples(self) -> int:
        return 100 + 50 * self.number

    def output(self, received: Records) -> TrainingOutput:
        """What its recipe replies."""
        arrays = received["arrays"]
        assert isinstance(arrays, Arrays)
        trained = {k: (a + self.update[k]).astype("f") for k, a in arrays.items.items()}
        form = {k: (a.dtype.name, a.shape) for k, a in arrays.items.items()}
        return TrainingOutput(
            "train",
            {
                "arrays": Arrays(trained),
                "metrics": Metrics({"loss": float(self.number), "num-examples": self.examples}),
            },
            {"arrays": form},
            GRANTED,
            {"arrays": arrays.items},
        )


Lie = Callable[[Question, str], Question | None]
"""What a coordinator sends in place of a question, by the kind of its step; None: nothing."""


@dataclass
class Hospitals:
    """All four, and what went to and fro."""

    root: Path
    template: Path
    work: SecureUpdates = WORK
    sites: dict[str, Site] = field(default_factory=dict)
    lie: Lie = field(default=lambda question, kind: question)
    hear: Callable[[str, str, str], str] = field(default=lambda site, kind, code: code)
    """The code by which an answer is lost on its way back, by site, kind and its own code."""
    refusals: list[tuple[str, str]] = field(default_factory=list)
    revealed: dict[tuple[str, str], list[Revealed]] = field(default_factory=dict)
    """What sites gave, by round and attempt."""
    masked: dict[tuple[str, str], dict[str, np.ndarray]] = field(default_factory=dict)
    count: int = 0
    _stack: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        world = World()
        releases = dict.fromkeys(SITES, "")
        hospitals = {}
        for name in SITES:
            home = NodeHome(self.root / name).create()
            shutil.copy(self.template, home.database)
            catalog = self._stack.enter_context(Catalog.open(home))
            policy = Policy(
                disclosure=DisclosureSettings(
                    minimum_cohort=20, minimum_cell=10, minimum_sum_sites=3
                ),
                training=TrainingSettings(minimum_subjects=20),
                jobs=JobLimits(per_hour=100_000),
            )
            hospitals[name] = one = Hospital(home, catalog, world, name, policy=policy)
            one.settle(world.signed_project(version=2, recipes=(GRANTED,)))
            releases[name] = one.release()
        envelope = world.signed_job(
            releases=releases,
            project_version=2,
            minimum_sites=3,
            work=TrainingWork(bundle=BUNDLE, secure=self.work),
        )
        self.job = Envelope.parse(envelope).digest
        for number, (name, one) in enumerate(hospitals.items()):
            admission = one.gate.admit(one.member, envelope)
            self.sites[name] = Site(name, one, admission, one.home.jobs / self.job, number)
        (self.root / "blobs").mkdir()
        keys = {name: key.public for name, key in world.sites.items()}
        summing = Summing.told(Summing(self.work, RANGES, keys).to_tell())
        self.leader = SecureRounds(self.exchange, self.root / "blobs", self.job, summing, 2)

    def close(self) -> None:
        for site in self.sites.values():
            site.hospital.gate.ledger.close()
        self._stack.close()

    # ---- a round -------------------------------------------------------------------------------

    def round(self, model: dict[str, np.ndarray] = START) -> Records:
        """Lead a round; return what a strategy would be told. ``JobFailed`` when there is none."""
        received: Records = {"arrays": Arrays(dict(model))}
        encoded = tensors.encode(received)
        (self.root / "blobs" / encoded.message.tensors.digest).write_bytes(encoded.blob)
        payload = encoded.message.SerializeToString(deterministic=True)
        questions = [
            Question(name, "train", "", payload, encoded.message.tensors) for name in self.sites
        ]
        return self.leader.round(questions, received, 60.0)[2]

    def exchange(self, questions: list[Question], seconds: float) -> tuple[list[str], Answers]:
        """Carry tasks to the sites and answers back, as the coordinator wants it."""
        del seconds
        tasks, answers = [], {}
        for question in questions:
            self.count += 1
            task = f"{self.count:06d}"
            tasks.append(task)
            answers[question.site] = self.ask(question, task)
        return tasks, answers

    def ask(self, question: Question, task: str) -> tuple[str, wire.Reply | None]:
        """Ask one site."""
        kind = "train"
        if question.message_type == "sum":
            kind = str(encoding.step(question.payload).WhichOneof("step"))
        sent = self.lie(question, kind)
        if sent is None:
            return "absent", None
        site = self.sites[question.site]
        said = wire.Task(
            job=self.job, task=task, message_type=sent.message_type, group=sent.group,
            payload=sent.payload,
        )  # fmt: skip
        outbox = BlobFolder(self.root / "blobs")
        try:
            if kind == "train":
                message = wire.RecordDict.FromString(sent.payload)
                blob = (self.root / "blobs" / message.tensors.digest).read_bytes()
                sealed = site.rounds.seal_in(said, site.output(decode(message, blob)), 0.0)
            else:
                sealed = site.rounds.step(said, outbox.store)
        except Refused as refusal:
            self.refusals.append((question.site, refusal.code))
            return refusal.code, None
        except DocumentError:
            self.refusals.append((question.site, "malformed"))
            return "malformed", None
        reply = sealed.message.reply
        self._note(question, kind, reply)
        code = self.hear(question.site, kind, "")
        return (code, None) if code else ("", reply)

    def _note(self, question: Question, kind: str, reply: wire.Reply) -> None:
        if kind not in ("shares", "confirmations"):
            return
        _, name, attempt, _ = question.group.split(".")
        if kind == "confirmations":
            place = sorted(self.sites).index(question.site)
            message = wire.RecordDict.FromString(reply.payload)
            said = decode(message, b"")["step"].items["sum"]
            assert isinstance(said, bytes)
            given = wire.SumReply.FromString(said).revealed
            answer = Revealed(
                place,
                {s.owner: s.share for s in given.keys},
                {s.owner: s.share for s in given.seeds},
            )
            self.revealed.setdefault((name, attempt), []).append(answer)
        else:
            blob = (self.root / "blobs" / reply.tensors.digest).read_bytes()
            masked = decode(wire.RecordDict.FromString(reply.payload), blob)["masked"]
            assert isinstance(masked, Arrays)
            self.masked.setdefault((name, attempt), {})[question.site] = masked.items["words"]

    # ---- what is true --------------------------------------------------------------------------

    def mean(self, *names: str) -> dict[str, np.ndarray]:
        """The weighted mean of these sites' models, without any protocol."""
        sites = [self.sites[name] for name in names or SITES]
        examples = sum(site.examples for site in sites)
        return {
            key: before
            + sum(site.examples * site.update[key].astype(float) for site in sites) / examples
            for key, before in START.items()
        }

    def is_mean_of(self, reply: Records, *names: str) -> bool:
        """Say whether a reply is the mean over exactly these sites."""
        arrays, metrics = reply["arrays"], reply["metrics"]
        assert isinstance(arrays, Arrays)
        assert isinstance(metrics, Metrics)
        right = self.mean(*names)
        sites = [self.sites[name] for name in names or SITES]
        return metrics.items["num-examples"] == sum(s.examples for s in sites) and all(
            np.max(np.abs(arrays.items[key] - right[key])) < 1e-5 for key in START
        )

    def learned(self) -> list[tuple[str, str]]:
        """The attempts whose sums the coordinator could unmask: three gave shares of the same."""
        return [
            attempt
            for attempt, said in self.revealed.items()
            if len({one.sender for one in said}) >= 3
        ]


def without(*lost: tuple[str, str]) -> Lie:
    """Lose these sites' questions, each of a kind of step."""

    def lie(question: Question, kind: str) -> Question | None:
        return None if (question.site, kind) in lost else question

    return lie


def told(question: Question, step: wire.SumStep) -> Question:
    """Return the question with another step in it."""
    return replace(question, payload=step.SerializeToString(deterministic=True))


__all__ = ["KINDS", "START", "Hospitals", "JobFailed", "Lie", "Question", "told", "without"]
