"""The desk between link and gate: offers and tasks in, sealed messages out.

Everything here blocks and is called from threads. What comes back may be sent as it is: the gate
made it. Refusals and failures are answers too.
"""

from __future__ import annotations

import functools
import logging
import re
import time
from dataclasses import dataclass, field

from contract import wire_pb2 as wire
from contract.envelope import Envelope
from contract.errors import DataError, DocumentError, Refused, WardgateError
from contract.statistics.answers import Part
from contract.work import StatisticsWork
from node.catalog.inbox import InboxRow
from node.config import NodeSettings
from node.gate.dp.lane import Answered
from node.gate.gate import FLOOD, Admission, Gate, Membership, Sealed
from node.gate.rules import Waits
from node.home import NodeHome
from node.work.models import ModelFit
from node.work.statistics import ColumnCache, cohort_rows, work_out
from node.work.steps import StepDesk
from node.work.summed_models import SummedModelFit
from node.work.sums import SecureSum
from node.work.training.desk import Fetch, TrainingDesk

log = logging.getLogger("wardgate.node")

MAX_TASK_NAME = 64
_TASK_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")


@dataclass
class WorkDesk:
    """The work of one node, over all its consortia."""

    home: NodeHome
    gate: Gate
    settings: NodeSettings
    cache: ColumnCache
    steps: StepDesk = field(init=False)
    training: TrainingDesk = field(init=False)

    def __post_init__(self) -> None:
        self.steps = StepDesk(self.gate)
        self.training = TrainingDesk(self.home, self.gate, self.settings)

    # ---- statistics and admission --------------------------------------------------------------

    def offered(self, member: Membership, envelope: bytes) -> Sealed | None:
        """Decide on a job; a question in statistics is answered at once. None: say nothing."""
        started = time.perf_counter()
        digest = offered_job(envelope)
        try:
            admission = self.gate.admit(member, envelope)
        except Waits:
            return self.gate.waiting(member, digest)
        except Refused as refusal:
            return None if refusal.code == FLOOD else self.gate.decision(member, digest, refusal)
        if isinstance(admission.job.work, StatisticsWork):
            if admission.job.work.secure or admission.job.work.fit is not None:
                return self._begin_steps(member, admission, admission.job.work, envelope)
            return self._statistics(member, admission, admission.job.work, started)
        try:
            self.training.open(member, admission, admission.job.work)
        except WardgateError as error:
            log.error("job %s: the worker can't start: %s", digest[:12], error)
            unable = Refused("worker", "The recipe's worker can't be started at this site.")
            return self.gate.decision(member, digest, unable)
        return self.gate.decision(member, digest, None)

    def _begin_steps(
        self, member: Membership, admission: Admission, work: StatisticsWork, envelope: bytes
    ) -> Sealed:
        """Begin with a question of several steps, and say so."""
        kind: type[ModelFit] | type[SecureSum] = SecureSum
        if work.fit is not None:
            kind = SummedModelFit if work.secure else ModelFit
        stepped = functools.partial(kind, self.home, self.gate, self.cache, member, admission)
        period = self.gate.period_seconds(member, envelope)
        try:
            self.steps.open(member, admission, period, stepped)
        except Refused as refusal:
            return self.gate.decision(member, admission.digest, refusal)
        return self.gate.decision(member, admission.digest, None)

    def _statistics(
        self, member: Membership, admission: Admission, work: StatisticsWork, started: float
    ) -> Sealed:
        try:
            if admission.resumed:  # else there is no answer yet
                before = self.gate.again(admission.digest, "statistics")
                if before is not None:
                    return before
                held = self.gate.inbox.held(admission.digest, "statistics")
                if held is not None:
                    return self.gate.settle_held(member, admission, held)
            parts, answered = self._parts(member, admission, work)
            self.gate.check_still_allowed(member, admission)
            seconds = time.perf_counter() - started
            return self.gate.answer_statistics(member, admission, parts, seconds, answered)
        except Refused as refusal:
            return self.gate.failure(member, admission.digest, "statistics", refusal.code, "")
        except (DataError, DocumentError) as error:
            log.error("job %s: %s", admission.digest[:12], error)
            return self.gate.failure(member, admission.digest, "statistics", "data", "")

    def _parts(
        self, member: Membership, admission: Admission, work: StatisticsWork
    ) -> tuple[list[Part], Answered | None]:
        """Return the parts of a question: exact as far as the release declares them, then noise.

        With them, what noise cost, if there is some.
        """
        release, project = admission.release, admission.project
        policy, plan = self.gate.policy_of(admission), admission.plan
        found = work_out(self.home, release, project, work, self.cache, policy, plan)
        noisy = [s for s, part in zip(work.ask, found, strict=True) if part is None]
        answered = None
        if noisy:
            asked = work.model_copy(update={"ask": tuple(noisy)})
            answered = self.gate.noise(
                member,
                admission,
                noisy,
                lambda: cohort_rows(self.home, release, project, asked, self.cache),
            )
            drawn = iter(answered.parts)
            found = [next(drawn) if part is None else part for part in found]
        return [part for part in found if part is not None], answered

    # ---- tasks ---------------------------------------------------------------------------------

    def task(self, member: Membership, task: wire.Task, fetch: Fetch) -> Sealed:
        """Do one task of an admitted job; an answer made before is sent again."""
        if not _TASK_NAME.fullmatch(task.task):
            return self.gate.failure(member, task.job, task.task[:MAX_TASK_NAME], "malformed", "")
        if task.job in self.steps.sessions:
            return self.steps.task(member, task)
        return self.training.task(member, task, fetch)

    # ---- what waited for the steward -----------------------------------------------------------

    def settle(self, member: Membership, row: InboxRow) -> Sealed:
        """Return a held output as the stewards decided: an answer, or a failure."""
        try:
            admission = self.gate.admit(member, row.envelope)
            return self.training.settle_held(member, admission, row)
        except Refused as refusal:
            return self.gate.failure(member, row.job, row.task, refusal.code, "")

    # ---- what ends a job -----------------------------------------------------------------------

    def is_busy(self) -> bool:
        """Say whether there is work under way that goes on over several messages."""
        return bool(self.steps.sessions or self.training.sessions)

    def stop_disallowed(self) -> None:
        """End the workers of jobs that rest on what was taken back since.

        A withdrawn consent revokes releases; work on them ends here, also in the midst of a task.
        """
        self.steps.drop_disallowed()
        self.training.drop_disallowed()

    def received(self, member: Membership, job: str, task: str) -> None:
        """The coordinator has an answer durably, so it need not be kept to be sent again."""
        if self.gate.asked.received(member.consortium, job, task):
            self.training.received(job, task)

    def close(self, member: Membership, job: str) -> None:
        """A job of this consortium is over: end its worker and drop its spool."""
        if not self.gate.asked.close(member.consortium, job, self.gate.clock()):
            return
        self.steps.close(job)
        self.training.close(job)

    def stop(self) -> None:
        """End every worker; the jobs stay open and are taken up at the next start."""
        self.training.stop()


def offered_job(envelope: bytes) -> str:
    """Return the digest of the job in an offer, empty when it is no envelope."""
    try:
        return Envelope.parse(envelope).digest
    except DocumentError:
        return ""
