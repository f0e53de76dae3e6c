"""A round of a secure job as the coordinator leads it: sites train, then their replies are summed.

It all goes as tasks of the job: the app's own message first, whose replies stay at the sites, then
the five steps of ``contract.secure_aggregation``, with those sites that have one. The strategy gets
one reply, with the weighted mean. The server of a sum has no secret of its own, and every answer is
in the run's journal; so a run that is restarted in the middle of a sum goes on with that sum.

A sum that comes to nothing, as too few sites are left in one of its steps, is begun again with new
keys, over the same sites; after ``ATTEMPTS`` the round is trained again, once.
"""

from __future__ import annotations

import logging
import mmap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from contract import wire_pb2 as wire
from contract.documents import MetricRange
from contract.errors import DocumentError, JobFailed, Refused
from contract.records import Arrays, Config, Metrics, Records
from contract.secure_aggregation import Server, encoding
from contract.secure_aggregation.leading import Step, steps
from contract.secure_aggregation.masking import Words
from contract.secure_aggregation.messages import MaskedVector, Participant, Terms
from contract.secure_aggregation.updates import (
    EXAMPLES,
    Mean,
    SumOfUpdates,
    digest_of_message,
    graph_seed,
    plan,
    terms,
)
from contract.work import SecureUpdates
from foundation import tensors

log = logging.getLogger("wardgate.coordinator")

ATTEMPTS, TRAININGS = 3, 2
NAMED = 5
"""So many problems are told of."""
STEP_SECONDS = 600.0
SUM = "sum"
STEP, MASKED = "step", "masked"
KINDS = ("train", "evaluate")

Answers = dict[str, tuple[str, wire.Reply | None]]
"""By site: a code, empty when there is a reply."""


@dataclass(frozen=True)
class Question:
    """One task for one site."""

    site: str
    message_type: str
    group: str
    payload: bytes
    tensors: wire.BlobReference = field(default_factory=wire.BlobReference)


Exchange = Callable[[Sequence[Question], float], tuple[list[str], Answers]]
"""Sends tasks and waits for all; returns the tasks' names, in order, and the answers by site."""


@dataclass(frozen=True)
class Summing:
    """What a job says of its sums: as the ServerApp's process is told at its start."""

    work: SecureUpdates
    ranges: Mapping[str, MetricRange]
    keys: Mapping[str, str]
    """By site: its key on the roster."""

    @classmethod
    def told(cls, said: Mapping[str, Any]) -> Summing:
        """Read what ``to_tell`` wrote."""
        ranges = {name: MetricRange.model_validate(r) for name, r in said["ranges"].items()}
        return cls(SecureUpdates.model_validate(said["work"]), ranges, said["keys"])

    def to_tell(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "work": self.work.model_dump(mode="json"),
            "ranges": {name: r.model_dump(mode="json") for name, r in self.ranges.items()},
            "keys": dict(self.keys),
        }


class SecureRounds:
    """Leads the rounds of one job. ``exchange`` sends tasks; ``blobs`` is where tensors arrive."""

    def __init__(
        self, exchange: Exchange, blobs: Path, job: str, summing: Summing, minimum_sites: int
    ) -> None:
        self.exchange = exchange
        self._blobs = blobs
        self.job = job
        self.summing = summing
        self.minimum = minimum_sites
        self.of_some_sites: dict[str, float] = {}
        """How many sites have a metric, ``NAME-sites``, of those that not all of a round have."""

    def round(
        self, questions: Sequence[Question], received: Records, seconds: float
    ) -> tuple[str, str, Records]:
        """Let the sites train or evaluate and sum what they have; return the reply.

        With it, the task and the site that it may be said to be of.

        All questions are the same but for their site; ``received`` is what they hold. Raises
        ``JobFailed`` when too few sites are left.
        """
        if len({(q.message_type, q.payload) for q in questions}) > 1:
            raise DocumentError("In a secure job, all sites of a round are told the same.")
        why = ""
        if questions[0].message_type.partition(".")[0] != "train":
            received = {}  # evaluation has metrics only
        for _ in range(TRAININGS):
            tasks, answers = self.exchange(questions, seconds)
            task_of = dict(zip([q.site for q in questions], tasks, strict=True))
            told = digest_of_message(questions[0].message_type, questions[0].payload)
            one = _Sum(self, task_of, told, received)
            sites = sorted(site for site, (code, _) in answers.items() if not code)
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    reply = one.lead(sites, attempt)
                    return task_of[sites[0]], sites[0], reply
                except (Refused, DocumentError) as problem:
                    why = one.why(problem)
                sites = [site for site in sites if site not in one.faulty]
                if not one.begun:
                    break
        raise JobFailed(
            f"The secure sum of a round came to nothing: {why} Fewer than a third of its sites may "
            "drop out of it, and of three sites none."
        )

    def answer(self, reply: wire.Reply, place: int, word: int) -> encoding.Answer:
        """Return what a site said in a step; ``DocumentError`` when it is none."""
        message = wire.RecordDict.FromString(reply.payload)
        if not message.tensors.size:
            step = tensors.read(message, b"").get(STEP, Config())
            said = step.items.get("sum") if isinstance(step, Config) else None
            if not isinstance(said, bytes):
                raise DocumentError("An answer in a secure sum is of an unknown kind.")
            return encoding.answer(said, place, word)
        if not message.tensors.digest.isalnum():
            raise DocumentError("A blob's name is not a SHA-256.")
        with (self._blobs / message.tensors.digest).open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        masked = tensors.read(message, memoryview(mapped)).get(MASKED)
        words = masked.items.get("words") if isinstance(masked, Arrays) else None
        if words is None or words.dtype.name not in ("uint32", "uint64"):
            raise DocumentError("A masked vector has another form than the terms.")
        return MaskedVector(place, words)  # type: ignore[arg-type]


class _Sum:
    """The attempts at the sum of one round."""

    def __init__(
        self, rounds: SecureRounds, task_of: Mapping[str, str], message: str, received: Records
    ) -> None:
        self._rounds = rounds
        self._task_of = task_of
        self._name = min(task_of.values())
        self._message = message
        self._received = received
        self._first = 0
        self.begun = False
        """Whether there were enough sites to begin with."""
        self.faulty: set[str] = set()
        """Sites that sent what they must not."""
        self.problems: list[str] = []
        """What went wrong in the last attempt, with who and in which step."""

    def why(self, problem: Exception) -> str:
        """Return why the last attempt came to nothing, in at most a few sentences."""
        more = len(self.problems) - NAMED
        said = self.problems[:NAMED] + ([f"and {more} more"] if more > 0 else [])
        return " ".join([str(problem), *(f"{'; '.join(said)}." for _ in range(bool(said)))])

    def lead(self, sites: Sequence[str], attempt: int) -> Records:
        """Take the steps with these sites; return the round's reply.

        ``Refused`` when too few sites are left, ``DocumentError`` when the sum is not sound.
        """
        rounds, work = self._rounds, self._rounds.summing.work
        self.problems.clear()
        self.begun = len(sites) >= max(2, rounds.minimum, self._first)
        if not self.begun:
            raise Refused("too-few-sites", f"Only {len(sites)} sites have an update.")
        threshold, minimum = plan(
            len(sites), rounds.minimum, sparse=work.sparse, at_least=self._first
        )
        self._first = self._first or threshold
        words = SumOfUpdates(
            work, self._shapes(), rounds.summing.ranges, len(sites), minimum, threshold
        )
        agreed = terms(
            job=rounds.job,
            round_name=self._name,
            attempt=attempt,
            message=self._message,
            participants=[Participant(site, rounds.summing.keys[site]) for site in sites],
            threshold=threshold,
            minimum=minimum,
            sparse=work.sparse,
            words=words,
        )
        total, survivors = self._steps(agreed, attempt)
        return self._reply(words.decode(total, survivors))

    def _steps(self, agreed: Terms, attempt: int) -> tuple[Words, int]:
        # Its only randomness is the sparse graph's, which is public: a digest, so that a replay
        # draws the same.
        server = Server(agreed, lambda n: graph_seed(agreed)[:n])
        for step in steps(server):
            self._ask(agreed, attempt, step)
        total = server.total()
        for sender, owner in server.wrong_shares():
            log.warning("secure sum: a wrong share, by %s or by %s", sender, owner)
        return total, len(server.survivors())

    def _ask(self, agreed: Terms, attempt: int, step: Step) -> None:
        """Put a step to its sites and give it what they say.

        Answers are opened one after another, so that one masked vector is in memory at a time.
        """
        names = [p.name for p in agreed.participants]
        questions = [
            Question(
                names[i],
                SUM,
                f"{self._task_of[names[i]]}.{self._name}.{attempt}.{agreed.threshold}",
                one.SerializeToString(deterministic=True),
            )
            for i, one in sorted(step.told.items())
        ]
        _, answers = self._rounds.exchange(questions, STEP_SECONDS)
        for place in sorted(step.told):
            name = names[place]
            code, reply = answers[name]
            if code or reply is None:
                self.problems.append(f"{name} answered the step of the {step.name} by {code}")
                continue
            try:
                step.take(place, self._rounds.answer(reply, place, agreed.word))
            except (DocumentError, DecodeError, OSError, ValueError) as error:
                self.faulty.add(name)
                said = str(error).rstrip(".") if isinstance(error, DocumentError) else "malformed"
                self.problems.append(f"{name}, in the step of the {step.name}: {said}")

    # ---- what it is of -------------------------------------------------------------------------

    def _arrays(self) -> tuple[str, Arrays]:
        """Return the group of arrays that is trained; none for evaluation."""
        groups = {n: r for n, r in self._received.items() if isinstance(r, Arrays)}
        return next(iter(groups.items()), ("", Arrays()))

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        _, arrays = self._arrays()
        return {k: a.shape for k, a in arrays.items.items() if a.dtype.kind == "f"}

    def _reply(self, mean: Mean) -> Records:
        """Return what a strategy is told: the mean model, the mean metrics, all examples."""
        reply: Records = {}
        name, arrays = self._arrays()
        if name:
            reply[name] = Arrays(
                {
                    key: (np.add(before, mean.update[key])).astype(before.dtype)
                    if key in mean.update
                    else before
                    for key, before in arrays.items.items()
                }
            )
        self._rounds.of_some_sites = {f"{key}-sites": n for key, n in mean.of_some.items()}
        return reply | {"metrics": Metrics({EXAMPLES: mean.examples, **mean.metrics})}
