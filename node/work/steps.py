"""Questions that take several steps: a secure sum, a model. Tasks in, sealed answers out.

Such a question is admitted as any other; then the coordinator leads it through its steps, and each
answer passes the gate.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from google.protobuf.message import DecodeError

from contract import wire_pb2 as wire
from contract.errors import DataError, DocumentError, Refused
from node.gate.gate import Admission, Gate, Membership, Sealed

log = logging.getLogger("wardgate.node")

MOST_SESSIONS = 64


class Stepped(Protocol):
    """What is done in the steps of one question; its state is in memory."""

    def step(self, task: wire.Task) -> Sealed:
        """Take a step. ``Refused``, ``DocumentError``, ``DataError`` when it can't be."""


@dataclass
class Session:
    """One question under way."""

    member: Membership
    admission: Admission
    period_seconds: float
    stepped: Stepped
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass
class StepDesk:
    """The questions of one node that take several steps, by job."""

    gate: Gate
    sessions: dict[str, Session] = field(default_factory=dict)

    def open(
        self,
        member: Membership,
        admission: Admission,
        period_seconds: float,
        stepped: Callable[[], Stepped],
    ) -> None:
        """Begin with an admitted question, unless it is begun.

        ``Refused`` when too many are under way, and for one that was begun before a restart: it
        would be led a second time.
        """
        if admission.digest in self.sessions:
            return
        if len(self.sessions) >= MOST_SESSIONS:
            raise Refused("busy", "Too many questions of several steps are under way here.")
        if self.gate.asked.has_answered(admission.digest):
            raise Refused("restarted", "This site was restarted in the middle of the question.")
        session = Session(member, admission, period_seconds, stepped())
        self.sessions.setdefault(admission.digest, session)
        state = self.gate.asked.seen_nonce(admission.job.nonce)
        if state != f"{admission.digest}:accepted":
            self.close(admission.digest)  # it was closed while it was begun
            raise Refused("replay", "This job was seen before.")

    def close(self, job: str) -> None:
        """Forget a question."""
        self.sessions.pop(job, None)

    def period_seconds(self, job: str) -> float:
        """Return the period at whose end a step's answer leaves."""
        session = self.sessions.get(job)
        return session.period_seconds if session else 0.0

    def task(self, member: Membership, task: wire.Task) -> Sealed:
        """Take one step; an answer made before is sent again."""
        session = self.sessions.get(task.job)
        if session is None:
            return self.gate.failure(member, task.job, task.task, "not-admitted", "")
        if not session.lock.acquire(blocking=False):
            # One step at a time: what waits would keep others' questions from being worked on.
            return self.gate.failure(member, task.job, task.task, "busy", "")
        try:
            try:
                if session.member.consortium != member.consortium:
                    raise Refused("not-admitted", "The job is of another consortium.")
                self.gate.check_still_allowed(member, session.admission)
                before = self.gate.again(task.job, task.task)
                return before or session.stepped.step(task)
            except Refused as refusal:
                return self.gate.failure(member, task.job, task.task, refusal.code, "")
            except (DataError, DocumentError, DecodeError) as error:
                log.error("job %s: %s", task.job[:12], error)
                return self.gate.failure(member, task.job, task.task, "malformed", "")
        finally:
            session.lock.release()

    def drop_disallowed(self) -> None:
        """Forget questions that have expired or rest on what was taken back since."""
        for job, session in list(self.sessions.items()):
            try:
                self.gate.check_still_allowed(session.member, session.admission)
            except Refused as refusal:
                log.warning("job %s: stopped: %s", job[:12], refusal)
                self.close(job)
