"""The node's part in secure sums of training: a reply is sealed in, then masked, step by step.

A round's task is worked on as any other, but its reply stays here (``gate.pass_in``). Then comes a
sum over those sites that have one, in steps that are tasks of the type ``sum``; their group says
``TASK.ROUND.ATTEMPT.THRESHOLD``: this site's task of the round, what all sites call the round,
which attempt at its sum it is, and how many shares give a secret away.

Guarantee: of a round's sums, over other sites each, at most one is ever learned, so that no two can
be subtracted. Each site sees to it: all attempts at a round are over sites of the first that it was
told, with a threshold that isn't lower; each has keys of its own; and who once gave its shares of
others' secrets takes part in no further one. Two learned sums would need two sets of honest sites
among the first attempt's n, disjoint, that gave shares: together ``2 (t - c)``, which is above the
``n - c`` honest ones while fewer than ``2 t - n`` work with the coordinator.

Assumption: that one, which the sum itself makes (``contract.secure_aggregation.client``). Over how
many sets of sites the sums of all rounds may be is ``node.gate.summed_sites``. Not covered: sums of
different rounds tell of the difference between these (So et al. 2023, "Securing Secure Aggregation:
Mitigating Multi-Round Privacy Leakage in Federated Learning"). Noise is against it.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract import wire_pb2 as wire
from contract.errors import DocumentError, Refused
from contract.records import Arrays, Config, Metrics, Records
from contract.secure_aggregation import Client, encoding
from contract.secure_aggregation.masking import Words
from contract.secure_aggregation.messages import MaskedVector, Participant, Survivors
from contract.secure_aggregation.updates import (
    EXAMPLES,
    SumOfUpdates,
    digest_of_message,
    graph_seed,
    plan,
    terms,
)
from contract.work import SecureUpdates, TrainingWork
from foundation import tensors
from foundation.files import private_folder, write_durably
from node.gate.gate import Admission, Gate, Membership, Sealed
from node.gate.older_apps import in_todays_form
from node.gate.rules import TrainingOutput
from node.gate.summed_sites import SummedSites, digest_of_inputs
from node.gate.updates.noise import DiscreteGaussian, draw_key

STEP, MASKED = "step", "masked"
"""The records of a step's answer: a message of ``contract.secure_aggregation``, or words."""
MOST_ATTEMPTS = 5
_TASK = re.compile(r"[0-9]{1,12}")
_GROUP = re.compile(r"^([0-9]{1,12})\.([0-9]{1,12})\.([1-9])\.([0-9]{1,5})$")


@dataclass(frozen=True)
class Round:
    """What a node remembers of one round, also over a restart."""

    task: str
    message: str
    """SHA-256 of what the round's task said, and of its type."""
    digest: str
    """SHA-256 of what was sealed in."""
    inputs: str = ""
    """``summed_sites.digest_of_inputs`` of the task."""
    sites: tuple[str, ...] = ()
    """Those of the first attempt; none before it."""
    threshold: int = 0
    attempt: int = 0
    revealed: bool = False


@dataclass
class _Attempt:
    """One attempt under way: its keys are in memory only."""

    number: int
    client: Client
    words: SumOfUpdates
    noise: tuple[float, ...] | None = None
    """What was charged for it; None before."""
    survivors: tuple[str, ...] = ()
    """The sites that this one confirmed."""


class SecureRounds:
    """The rounds of one job. Its methods are called by one thread at a time."""

    def __init__(self, gate: Gate, member: Membership, admission: Admission, folder: Path) -> None:
        """``folder`` is the job's; what was sealed in is kept under it until it is summed."""
        self._gate = gate
        self._member = member
        self._admission = admission
        self._folder = private_folder(folder / "sums")
        self._attempts: dict[str, _Attempt] = {}

    @property
    def _work(self) -> SecureUpdates:
        work = self._admission.job.work
        assert isinstance(work, TrainingWork)
        assert work.secure is not None
        return work.secure

    # ---- the reply is sealed in ----------------------------------------------------------------

    def seal_in(self, task: wire.Task, output: TrainingOutput, started: float) -> Sealed:
        """Keep a recipe's reply for the round's sum; return an answer that says only that."""
        if not _TASK.fullmatch(task.task):  # it names files
            raise Refused("malformed", "A round's task has another name than a number.")
        passed = self._gate.pass_in(self._member, self._admission, task.task, output)
        records = self._summed(passed.records, output)
        encoded = tensors.encode(records)
        head = encoded.message.SerializeToString(deterministic=True)
        data = b"".join([len(head).to_bytes(8, "big"), head, *encoded.pieces])
        digest = hashlib.sha256(data).hexdigest()
        self._forget_others(task.task)
        known = self._round(task.task)
        if known is not None and known.attempt:
            raise Refused("replay", "This round is being summed already.")
        write_durably(self._folder / f"{task.task}.sealed", data)
        message = digest_of_message(task.message_type, task.payload)
        said = wire.RecordDict.FromString(task.payload)
        inputs = digest_of_inputs(task.message_type, said, task.payload)
        self._remember(Round(task.task, message, digest, inputs))
        return self._gate.answer_sealed_in(
            self._member,
            self._admission,
            task.task,
            passed,
            digest,
            time.perf_counter() - started,
        )

    def _summed(self, reply: Records, output: TrainingOutput) -> Records:
        """Return what a round's sum is of: the update, and the metrics that have a range."""
        found: Records = {}
        metrics = Metrics()
        for name, record in in_todays_form(reply).items():
            if isinstance(record, Metrics):
                metrics = record
            elif isinstance(record, Arrays):
                form = {k: (a.dtype.name, a.shape) for k, a in record.items.items()}
                same = [group for group, known in output.received.items() if known == form]
                group = name if name in same else next(iter(same), None)
                before = output.arrays[group] if group is not None else {}
                found["update"] = Arrays(
                    {
                        key: np.subtract(array, before[key], dtype=_working(array))
                        for key, array in record.items.items()
                        if array.dtype.kind == "f"
                    }
                )
        kept = {k: v for k, v in metrics.items.items() if k in (EXAMPLES, *self._ranges)}
        return found | {"metrics": Metrics(kept)}

    @property
    def _ranges(self) -> Mapping[str, object]:
        work = self._admission.job.work
        assert isinstance(work, TrainingWork)
        grant = self._admission.project.recipe(work.bundle)
        return {} if grant is None else grant.metric_ranges

    # ---- the steps of its sum ------------------------------------------------------------------

    def step(self, task: wire.Task, keep: Callable[[bytes], object]) -> Sealed:
        """Take a step of a round's sum; ``keep`` is given a masked vector."""
        started = time.perf_counter()
        found = _GROUP.match(task.group)
        known = self._round(found[1]) if found else None
        if found is None or known is None:
            raise Refused("out-of-order", "There is nothing here to be summed in this round.")
        step = encoding.step(task.payload)
        kind = step.WhichOneof("step")
        if kind == "terms":
            said = self._begin(known, found[2], int(found[3]), int(found[4]), step.terms)
            return self._answer(task, said, started)
        attempt = self._attempts.get(known.task)
        if attempt is None or attempt.number != int(found[3]):
            raise Refused("restarted", "This site forgot the keys of the secure sum.")
        client = attempt.client
        match kind:
            case "keys":
                told = encoding.introduction(step.keys)
                told = replace(told, graph=graph_seed(client.terms))
                answer: encoding.Answer = tuple(client.share(told))
            case "shares":
                records = self._sealed(known)
                if attempt.noise is None:
                    attempt.noise = self._charge(task, known, attempt.words)
                words = self._words(attempt.words, known, records)
                masked = client.mask(encoding.shares(step.shares), words)
                return self._answer(task, masked, started, known.digest, keep, attempt.noise)
            case "survivors":
                members = tuple(step.survivors.members)
                answer = client.confirm(Survivors(members))
                attempt.survivors = tuple(client.terms.participants[i].name for i in members)
                self._joined(known, attempt)
            case _:
                # Before anything is given: who was killed on the way takes part in no other sum.
                joined = self._joined(known, attempt)
                self._remember(replace(known, revealed=True))
                write_durably(self._sets, joined.to_bytes())
                answer = client.unmask(encoding.confirmations(step.confirmations))
                (self._folder / f"{known.task}.sealed").unlink(missing_ok=True)
        return self._answer(task, answer, started)

    def _begin(
        self, known: Round, name: str, number: int, threshold: int, said: wire.SumTerms
    ) -> encoding.Answer:
        sites = sorted(said.sites)
        if known.revealed:
            raise Refused("summed", "This round was summed; it is in no second sum.")
        if number <= known.attempt or number > MOST_ATTEMPTS:
            raise Refused("out-of-order", "This attempt at the secure sum was begun before.")
        fewest = self._gate.policy().disclosure.minimum_sum_sites
        if said.minimum < fewest or len(sites) < fewest:
            raise Refused("too-few-sites", "The secure sum is over fewer sites than allowed here.")
        if known.attempt and not (
            set(sites) <= set(known.sites) and (self._work.sparse or threshold >= known.threshold)
        ):
            raise Refused("other-sites", "An attempt is over sites of the round's first only.")
        lowest, _ = plan(len(sites), said.minimum, sparse=self._work.sparse)
        if threshold < lowest:
            raise Refused("threshold", "The secure sum's threshold is lower than allowed here.")
        words = self._form(known, len(sites), said.minimum, threshold)
        made = terms(
            job=self._admission.digest,
            round_name=name,
            attempt=number,
            message=known.message,
            participants=self._participants(sites),
            threshold=threshold,
            minimum=said.minimum,
            sparse=self._work.sparse,
            words=words,
        )
        client = Client(made, self._member.key)
        first = (tuple(sites), threshold) if not known.attempt else (known.sites, known.threshold)
        self._remember(replace(known, sites=first[0], threshold=first[1], attempt=number))
        self._attempts = {known.task: _Attempt(number, client, words)}
        return client.advertise()

    def _participants(self, sites: list[str]) -> list[Participant]:
        """Return the sites with the keys that the roster in force has of them."""
        roster = self._member.trusted.current_roster(self._gate.clock())
        job, project = self._admission.job, self._admission.project
        found = []
        for name in sites:
            member = roster.site(name)
            if member is None or name not in job.releases or name not in project.sites:
                raise DocumentError("A secure sum names a site that the job doesn't ask.")
            found.append(Participant(member.name, member.key))
        return found

    def _form(self, known: Round, sites: int, minimum: int, threshold: int) -> SumOfUpdates:
        work = self._admission.job.work
        assert isinstance(work, TrainingWork)
        grant = self._admission.project.recipe(work.bundle)
        update = self._sealed(known).get("update", Arrays())
        assert isinstance(update, Arrays)
        return SumOfUpdates(
            self._work,
            {key: array.shape for key, array in update.items.items()},
            grant.metric_ranges if grant is not None else {},
            sites,
            minimum,
            threshold,
        )

    def _charge(self, task: wire.Task, known: Round, words: SumOfUpdates) -> tuple[float, ...]:
        return self._gate.charge_sum(
            self._member,
            self._admission,
            f"{known.task}.{task.task}",
            self._work.noise_multiplier,
            bool(words.shapes) + bool(words.metrics),
        )

    def _words(self, form: SumOfUpdates, known: Round, records: Records) -> Words:
        update, metrics = records.get("update", Arrays()), records["metrics"]
        assert isinstance(update, Arrays)
        assert isinstance(metrics, Metrics)
        numbers = {
            key: float(value)
            for key, value in metrics.items.items()
            if key in form.metrics and isinstance(value, int | float)
        }
        draw = None
        examples = _examples(metrics)
        if self._work.noise_multiplier:
            published = self._gate.subjects_published(self._admission)
            examples = min(published, self._work.most_examples)
            # The same sum of the same reply has the same noise; any other has its own.
            asked = [form.sites, form.minimum, form.threshold, self._work.model_dump_json()]
            key = draw_key(
                self._gate.noise_secret(),
                (b"sum", self._admission.digest.encode(), known.task.encode(),
                 known.digest.encode(), json.dumps(asked).encode()),
            )  # fmt: skip
            draw = DiscreteGaussian(key).draw_at
        return form.encode(update.items, numbers, examples, draw)  # type: ignore[arg-type]

    def _answer(
        self,
        task: wire.Task,
        answer: encoding.Answer,
        started: float,
        masked: str = "",
        keep: Callable[[bytes], object] = len,
        noise: Sequence[float] = (),
    ) -> Sealed:
        records: Records
        if isinstance(answer, MaskedVector):
            records = {MASKED: Arrays({"words": answer.words})}
        else:
            said = encoding.encode_answer(answer).SerializeToString(deterministic=True)
            records = {STEP: Config({"sum": said})}
        return self._gate.answer_sum_step(
            self._member,
            self._admission,
            task.task,
            records,
            time.perf_counter() - started,
            masked,
            keep,
            noise,
        )

    # ---- what is remembered --------------------------------------------------------------------

    @property
    def _sets(self) -> Path:
        return self._folder / "sets"

    def _joined(self, known: Round, attempt: _Attempt) -> SummedSites:
        """Return which sites were summed, with this attempt; ``Refused`` when it must not be."""
        before = SummedSites.read(self._sets.read_bytes() if self._sets.exists() else b"")
        if self._work.sparse:  # a site knows its neighbours' survivors only
            return before
        most = self._gate.policy().training.sum_site_sets
        return before.join(known.inputs, attempt.survivors, most)

    def _round(self, task: str) -> Round | None:
        path = self._folder / f"{task}.json"
        if not path.exists():
            return None
        said = json.loads(path.read_bytes())
        return Round(**{**said, "sites": tuple(said["sites"])})

    def _remember(self, known: Round) -> None:
        write_durably(self._folder / f"{known.task}.json", json.dumps(known.__dict__).encode())

    def _sealed(self, known: Round) -> Records:
        path = self._folder / f"{known.task}.sealed"
        data = path.read_bytes() if path.exists() else b""
        if hashlib.sha256(data).hexdigest() != known.digest:
            raise Refused("data", "What was sealed in is not there any more.")
        size = int.from_bytes(data[:8], "big")
        message = wire.RecordDict.FromString(data[8 : 8 + size])
        return tensors.read(message, memoryview(data)[8 + size :])

    def _forget_others(self, task: str) -> None:
        """Drop what was sealed in for earlier rounds, and the keys of their sums."""
        self._attempts = {}
        for path in self._folder.glob("*.sealed"):
            if path.stem != task:
                path.unlink(missing_ok=True)


def _working(array: NDArray[np.generic]) -> type[np.floating]:
    return np.float64 if array.dtype.itemsize > 4 else np.float32


def _examples(metrics: Metrics) -> int:
    value = metrics.items.get(EXAMPLES)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise Refused("bad-weight", "A secure sum weighs by a whole number of examples.")
    return int(value)
