"""The one way in and the one way out. Every outbound message is made here, and written first."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from contract import wire_pb2 as wire
from contract.documents import Job, Project, StatisticsWork
from contract.errors import NotFound, Refused
from contract.keys import SigningKey
from contract.receipts import Receipt
from contract.statistics import answers
from contract.statistics.answers import Part
from contract.trust import Believed, TrustedDocuments
from node.catalog.asked import AnswerRow, Asked
from node.catalog.rows import ReleaseRow
from node.catalog.store import Catalog
from node.gate import before_egress, before_work, deadline
from node.gate.ledger import Ledger
from node.gate.policy import Policy
from node.gate.rules import BeforeWork, Outbound, Question, StatisticsOutput, TrainingOutput


@dataclass(frozen=True)
class Membership:
    """This node in one consortium: its name there, its receipt key, and what it believes."""

    consortium: str
    site: str
    own_steward: str
    key: SigningKey
    trusted: TrustedDocuments


@dataclass(frozen=True)
class Admission:
    """A job that the gate let in. ``resumed``: it was let in before a restart."""

    digest: str
    job: Job
    project: Project
    release: ReleaseRow
    resumed: bool


STRANGERS_AN_HOUR = 1000
"""Offers that nobody signed and that are still written down and answered."""
FLOOD = "flood"
"""The code of a refusal that is neither written down nor answered."""

_SEAL = object()


class Sealed:
    """A message that may leave: only the gate makes one, and the link sends nothing else.

    ``tensors`` is the blob that goes with it, empty without any.
    """

    def __init__(self, seal: object, message: wire.FromNode, tensors: bytes = b"") -> None:
        if seal is not _SEAL:
            raise TypeError("Only the gate seals messages.")
        self.message = message
        self.tensors = tensors


class Gate:
    """The gate of one node, over all consortia: one catalogue, one policy, one ledger.

    ``clock`` gives the time in UTC; ``policy`` is asked anew each time, so that a changed file
    holds from the next question on.
    """

    def __init__(
        self,
        catalog: Catalog,
        ledger: Ledger,
        policy: Callable[[], Policy],
        clock: Callable[[], datetime],
    ) -> None:
        self.catalog = catalog
        self.asked = Asked(catalog.engine)
        self.ledger = ledger
        self.policy = policy
        self.clock = clock
        self._lock = threading.Lock()
        self._noted_policy = ""
        self._strangers: deque[datetime] = deque(maxlen=STRANGERS_AN_HOUR)

    # ---- in ------------------------------------------------------------------------------------

    def admit(self, member: Membership, envelope: bytes) -> Admission:
        """Run the first table over a job. The decision is on the ledger when this returns.

        Raises ``Refused``; then the refusal is on the ledger and the job's nonce is used up.
        """
        with self._lock:
            question = self.question(member, envelope)
            self._note_policy(question.policy, question.now)
            try:
                passed = before_work.admit(question)
            except Refused as refusal:
                if question.believed is None and self._is_flood(question.now):
                    raise Refused(FLOOD, "Too many offers that nobody signed.") from None
                self._record_refusal(question, refusal)
                raise
            assert question.believed is not None
            assert question.project is not None
            assert question.release is not None
            job, digest = question.job, question.believed.digest
            resumed = self.asked.seen_nonce(job.nonce) is not None
            if not resumed:
                self.ledger.append(
                    "admitted",
                    {
                        "consortium": member.consortium,
                        "job": digest,
                        "project": job.project,
                        "researcher": job.researcher,
                        "work": job.work.kind,
                        "release": question.release.digest,
                        "policy": question.policy.digest,
                        "rules": passed,
                    },
                    question.now,
                )
                self.asked.add_job(digest, job, member.site, envelope, "accepted", "", question.now)
            return Admission(digest, job, question.project, question.release, resumed)

    def check_still_allowed(self, member: Membership, admission: Admission) -> None:
        """Raise ``Refused`` when what an admitted job rests on was taken back since."""
        question = self.question(member, b"")
        question.believed = Believed(admission.job, admission.digest, b"", frozenset())
        rules: tuple[BeforeWork, ...] = (
            before_work.RosterInForce(),
            before_work.ProjectApproved(),
            before_work.ReleaseGranted(),
            before_work.RecipeApproved(),
        )
        for rule in rules:
            rule.check(question)

    def question(self, member: Membership, envelope: bytes) -> Question:
        """Return what the rules look at, for a job's envelope."""
        now = self.clock()
        hour_ago = now - timedelta(hours=1)
        return Question(
            envelope=envelope,
            consortium=member.consortium,
            site=member.site,
            now=now,
            policy=self.policy(),
            trusted=member.trusted,
            approved_project=lambda name: next(
                (
                    p.approved_digest
                    for p in self.asked.projects(member.consortium)
                    if p.name == name
                ),
                None,
            ),
            seen_nonce=self.asked.seen_nonce,
            asked_this_hour=lambda researcher: self.asked.asked_since(
                member.consortium, researcher, hour_ago
            ),
            granted=lambda project: self.catalog.granted(member.consortium, project),
            approved_recipes=self.asked.approved_recipes,
        )

    def _note_policy(self, policy: Policy, now: datetime) -> None:
        """Write the policy on the ledger when it is another than at the last question."""
        if policy.digest != self._noted_policy:
            values = policy.model_dump(mode="json")
            self.ledger.append("policy", {"digest": policy.digest, "values": values}, now)
            self._noted_policy = policy.digest

    def _is_flood(self, now: datetime) -> bool:
        """Say whether so many unsigned offers came within an hour that no more are written down.

        Whoever owns the network could fill the disk with them otherwise.
        """
        hour_ago = now - timedelta(hours=1)
        if len(self._strangers) == STRANGERS_AN_HOUR and self._strangers[0] > hour_ago:
            return True
        self._strangers.append(now)
        return False

    def _record_refusal(self, question: Question, refusal: Refused) -> None:
        body: dict[str, object] = {"consortium": question.consortium, "code": refusal.code}
        believed = question.believed
        if believed is not None:
            body |= {"job": believed.digest, "researcher": question.job.researcher}
        self.ledger.append("refused", body, question.now)
        if believed is None:
            return
        if self.asked.seen_nonce(question.job.nonce) is None:
            self.asked.add_job(
                believed.digest,
                question.job,
                question.site,
                question.envelope,
                "refused",
                refusal.code,
                question.now,
            )
        elif refusal.code != "replay":
            self.asked.set_state(believed.digest, "refused", question.now, refusal.code)

    # ---- out -----------------------------------------------------------------------------------

    def answer_statistics(
        self, member: Membership, admission: Admission, parts: list[Part], seconds: float
    ) -> Sealed:
        """Withhold what is small, run the second table, write the ledger, seal the answer."""
        policy = self.policy()
        kept = before_egress.withhold_small(parts, policy.disclosure)
        payload = answers.encode(kept).SerializeToString(deterministic=True)
        outbound = Outbound(
            admission.job,
            admission.project,
            admission.release,
            policy,
            StatisticsOutput(kept),
            len(payload),
        )
        return self._let_out(member, admission, "statistics", outbound, payload, b"", seconds)

    def answer_task(
        self,
        member: Membership,
        admission: Admission,
        task: str,
        output: TrainingOutput,
        message: wire.RecordDict,
        tensors: bytes,
        seconds: float,
    ) -> Sealed:
        """Run the second table over a recipe's reply, write the ledger, seal it."""
        payload = message.SerializeToString(deterministic=True)
        outbound = Outbound(
            admission.job,
            admission.project,
            admission.release,
            self.policy(),
            output,
            len(payload) + len(tensors),
            message,
            tensors,
        )
        return self._let_out(member, admission, task, outbound, payload, tensors, seconds)

    def _let_out(
        self,
        member: Membership,
        admission: Admission,
        task: str,
        outbound: Outbound,
        payload: bytes,
        tensors: bytes,
        seconds: float,
    ) -> Sealed:
        now = self.clock()
        try:
            if admission.job.consortium != member.consortium:
                raise Refused("not-admitted", "The job is of another consortium.")
            rules = before_egress.let_pass(outbound)
        except Refused as refusal:
            self.ledger.append(
                "withheld",
                {
                    "consortium": member.consortium,
                    "job": admission.digest,
                    "task": task,
                    "code": refusal.code,
                },
                now,
            )
            raise
        digest = hashlib.sha256(payload).hexdigest()
        tensors_digest = outbound.message.tensors.digest  # checked by the second table
        kept = [
            self.ledger.keep_payload(data)
            for data in (payload, tensors)
            if data and len(data) <= outbound.policy.ledger.keep_payload_bytes
        ]
        head = self.ledger.append(
            "answer",
            {
                "consortium": member.consortium,
                "job": admission.digest,
                "task": task,
                "work": admission.job.work.kind,
                "project": admission.job.project,
                "researcher": admission.job.researcher,
                "release": admission.release.digest,
                "payload": digest,
                "tensors": tensors_digest,
                "kept": kept,
                "bytes": outbound.size,
                "lane": "exact" if isinstance(admission.job.work, StatisticsWork) else "training",
                "rules": list(rules),
                "policy": outbound.policy.digest,
            },
            now,
        )
        receipt = Receipt(
            consortium=member.consortium,
            site=member.site,
            job=admission.digest,
            task=task,
            release=admission.release.digest,
            payload=digest,
            payload_bytes=outbound.size,
            rules=rules,
            lane="exact" if isinstance(admission.job.work, StatisticsWork) else "training",
            ledger_sequence=head.sequence,
            ledger_head=head.hash,
            time=now,
        ).sign(member.key)
        row = AnswerRow(
            admission.digest, task, payload, tensors_digest, len(tensors), receipt, received=False
        )
        self.asked.add_answer(row, head.sequence, seconds)
        return self._seal_answer(row, tensors)

    def again(self, job: str, task: str, tensors: bytes = b"") -> Sealed | None:
        """Return an answer that passed before and wasn't received, or None. It is on the ledger."""
        row = self.asked.answer(job, task)
        return None if row is None else self._seal_answer(row, tensors)

    def _seal_answer(self, row: AnswerRow, tensors: bytes) -> Sealed:
        reply = wire.Reply(
            job=row.job,
            task=row.task,
            payload=row.payload,
            tensors=wire.BlobReference(digest=row.tensors_digest, size=row.tensors_size),
            receipt=row.receipt,
        )
        return Sealed(_SEAL, wire.FromNode(reply=reply), tensors)

    # ---- notices: a closed list of messages without patients' data -----------------------------

    def decision(self, member: Membership, job: str, refusal: Refused | None) -> Sealed:
        """Seal the decision on a job. Its admission or refusal is on the ledger already."""
        decision = wire.Decision(job=job, accepted=refusal is None)
        if refusal is not None:
            decision.code, decision.sentence = refusal.code, refusal.sentence
        return self._notice(member, "decision", wire.FromNode(decision=decision), job)

    def period_seconds(self, member: Membership, envelope: bytes) -> float:
        """Return the period at whose end a decision on this offer leaves; 0 for no statistics."""
        statistics, wanted = deadline.asked(envelope, member.site)
        if not statistics:
            return 0.0
        policy = self.policy()
        cell = policy.disclosure.minimum_cell
        try:
            listed = self.catalog.find_release(wanted).subjects // cell * cell if wanted else 0
        except NotFound:
            listed = 0
        return deadline.period_seconds(policy.jobs, statistics, listed)

    def failure(self, member: Membership, job: str, task: str, code: str, location: str) -> Sealed:
        """Seal the news that a task gave no answer: a code and a place in the recipe."""
        failed = wire.TaskFailed(job=job, task=task, code=code[:64], location=location[:200])
        return self._notice(member, "failure", wire.FromNode(failed=failed), job)

    def hello(self, member: Membership, version: str, protocol: int) -> Sealed:
        """Seal the first message of a link: versions, the ledger's head, open jobs."""
        head = self.ledger.head
        hello = wire.Hello(
            protocol=protocol,
            version=version,
            open_jobs=[digest for digest, _ in self.asked.open_jobs(member.consortium)],
        )
        if head.sequence >= 0:
            hello.ledger.sequence = head.sequence
            hello.ledger.hash = bytes.fromhex(head.hash)
        return self._notice(member, "hello", wire.FromNode(hello=hello))

    def listed(self, member: Membership) -> bytes:
        """Return what ``releases`` would say, so that the link sees when that has changed."""
        return self._release_list(member).SerializeToString(deterministic=True)

    def releases(self, member: Membership) -> Sealed:
        """Seal the list of what can be asked about here: granted releases, counts rounded down.

        Counts are multiples of the policy's cell, so that they don't tell one patient's coming.
        """
        message = wire.FromNode(releases=self._release_list(member))
        return self._notice(member, "releases", message)

    def _release_list(self, member: Membership) -> wire.Releases:
        cell = self.policy().disclosure.minimum_cell
        listed: dict[str, wire.Release] = {}
        for project in self.asked.projects(member.consortium):
            for row in self.catalog.granted(member.consortium, project.name):
                release = listed.setdefault(
                    row.digest,
                    wire.Release(
                        name=row.name,
                        digest=row.digest,
                        table=row.manifest.table or "",
                        subjects=row.subjects // cell * cell,
                        variables=[column.name for column in row.manifest.columns],
                        assets=[
                            wire.AssetCount(modality=modality, count=count // cell * cell)
                            for modality, count in sorted(row.manifest.assets.items())
                        ],
                    ),
                )
                release.projects.append(project.name)
        return wire.Releases(releases=listed.values())

    def heartbeat(self) -> Sealed:
        """Seal an empty message. It says nothing, so it is not on the ledger."""
        return Sealed(_SEAL, wire.FromNode(heartbeat=wire.Empty()))

    def _notice(
        self, member: Membership, what: str, message: wire.FromNode, job: str = ""
    ) -> Sealed:
        data = message.SerializeToString(deterministic=True)
        kept = self.ledger.keep_payload(data)
        self.ledger.append(
            "notice",
            {
                "consortium": member.consortium,
                "what": what,
                **({"job": job} if job else {}),
                "payload": kept,
                "kept": [kept],
                "bytes": len(data),
            },
            self.clock(),
        )
        return Sealed(_SEAL, message)
