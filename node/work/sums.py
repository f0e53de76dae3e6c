"""The node's part in secure sums of statistics: steps in, sealed answers out.

A question that is to be summed securely is admitted as any other. Then the coordinator leads it
through five steps (``contract.secure_aggregation``); the site's own part goes through the gate's
rules before it is masked, and leaves masked only.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field

from contract import wire_pb2 as wire
from contract.documents import StatisticsWork
from contract.errors import DataError, DocumentError, Refused
from contract.secure_aggregation import Client, encoding
from contract.secure_aggregation.encoding import Answer
from contract.secure_aggregation.messages import Survivors
from contract.statistics import sums, words
from contract.statistics.answers import Part
from node.gate.gate import Admission, Gate, Membership, Sealed
from node.home import NodeHome
from node.work.statistics import ColumnCache, work_out

log = logging.getLogger("wardgate.node")


@dataclass
class SumSession:
    """One secure sum under way at this node. Its keys are in memory only."""

    member: Membership
    admission: Admission
    period_seconds: float
    client: Client | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def work(self) -> StatisticsWork:
        """The question."""
        assert isinstance(self.admission.job.work, StatisticsWork)
        return self.admission.job.work


@dataclass
class SumDesk:
    """The secure sums of one node, by job."""

    home: NodeHome
    gate: Gate
    cache: ColumnCache
    sessions: dict[str, SumSession] = field(default_factory=dict)

    def open(self, member: Membership, admission: Admission, period_seconds: float) -> None:
        """Begin with an admitted question, unless it is begun."""
        self.sessions.setdefault(admission.digest, SumSession(member, admission, period_seconds))

    def close(self, job: str) -> None:
        """Forget a sum's keys."""
        self.sessions.pop(job, None)

    def period_seconds(self, job: str) -> float:
        """Return the period at whose end a step's answer leaves."""
        session = self.sessions.get(job)
        return session.period_seconds if session else 0.0

    def task(self, member: Membership, task: wire.Task) -> Sealed:
        """Take one step; an answer made before is sent again."""
        session = self.sessions[task.job]
        with session.lock:
            try:
                if session.member.consortium != member.consortium:
                    raise Refused("not-admitted", "The job is of another consortium.")
                self.gate.check_still_allowed(member, session.admission)
                before = self.gate.again(task.job, task.task)
                return before or self._step(session, task)
            except Refused as refusal:
                return self.gate.failure(member, task.job, task.task, refusal.code, "")
            except (DataError, DocumentError) as error:
                log.error("job %s: %s", task.job[:12], error)
                return self.gate.failure(member, task.job, task.task, "malformed", "")

    def _step(self, session: SumSession, task: wire.Task) -> Sealed:
        started = time.perf_counter()
        step = encoding.step(task.payload)
        kind = step.WhichOneof("step")
        if kind == "terms":
            return self._seal(session, task, self._begin(session, step.terms), None, started)
        client = session.client
        if client is None:
            raise Refused("restarted", "This site forgot the keys of the secure sum.")
        match kind:
            case "keys":
                answer: Answer = tuple(client.share(encoding.introduction(step.keys)))
            case "shares":
                return self._masked(session, task, client, step.shares, started)
            case "survivors":
                answer = client.confirm(Survivors(tuple(step.survivors.members)))
            case _:
                answer = client.unmask(encoding.confirmations(step.confirmations))
        return self._seal(session, task, answer, None, started)

    def _begin(self, session: SumSession, said: wire.SumTerms) -> Answer:
        if session.client is not None:
            raise Refused("out-of-order", "The secure sum was begun before.")
        admission, member = session.admission, session.member
        fewest = self.gate.policy().disclosure.minimum_sum_sites
        if said.minimum < fewest or len(said.sites) < fewest:
            raise Refused("too-few-sites", "The secure sum is over fewer sites than allowed here.")
        roster = member.trusted.current_roster(self.gate.clock())
        terms = sums.terms(
            admission.digest,
            admission.job,
            admission.project,
            roster,
            list(said.sites),
            said.minimum,
        )
        session.client = Client(terms, member.key)
        return session.client.advertise()

    def _masked(
        self,
        session: SumSession,
        task: wire.Task,
        client: Client,
        message: wire.SumSharesOfAll,
        started: float,
    ) -> Sealed:
        admission = session.admission
        parts = self.gate.withhold(
            admission,
            [
                part
                for part in work_out(
                    self.home,
                    admission.release,
                    admission.project,
                    session.work,
                    self.cache,
                    self.gate.policy(),
                )
                if part is not None  # a secure sum is of the exact lane alone
            ],
        )
        vector = words.encode(parts, session.work.ask, admission.project)
        answer = client.mask(encoding.shares(message), vector)
        return self._seal(session, task, answer, parts, started)

    def _seal(
        self,
        session: SumSession,
        task: wire.Task,
        answer: Answer,
        parts: list[Part] | None,
        started: float,
    ) -> Sealed:
        return self.gate.answer_step(
            session.member,
            session.admission,
            task.task,
            encoding.encode_answer(answer),
            parts,
            time.perf_counter() - started,
        )
