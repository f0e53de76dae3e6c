"""The one way in and the one way out. Every outbound message is made here, and written first."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from contract import wire_pb2 as wire
from contract.documents import Job, Project, Statistic, StatisticsWork
from contract.errors import DocumentError, NotFound, Refused
from contract.keys import SigningKey
from contract.receipts import Receipt
from contract.records import Records
from contract.statistics import answers
from contract.statistics.answers import Part
from contract.trust import Believed, TrustedDocuments
from node.catalog.asked import AnswerRow, Asked
from node.catalog.inbox import Inbox, InboxRow
from node.catalog.rows import ReleaseRow
from node.catalog.store import Catalog
from node.gate import before_egress, before_work, deadline, exact, limits, remembering
from node.gate.account import Charge, Event, Limits, Payer, PrivacyAccount
from node.gate.dp.draws import Draws
from node.gate.dp.lane import Answered, DpLane, Look
from node.gate.dp.lane import Asked as DpQuestion
from node.gate.exact import Exactly
from node.gate.inbox.decisions import Verdict, What, hold_wanted, output_subject, verdict
from node.gate.inbox.stewards import allowed_keys
from node.gate.ledger import Ledger
from node.gate.policy import Policy
from node.gate.rules import (
    BeforeWork,
    ModelOutput,
    Outbound,
    Question,
    StatisticsOutput,
    TrainingOutput,
    Waits,
)
from node.gate.updates import imprint, replies
from node.gate.updates.noise import noise_key
from node.gate.updates.replies import TreatedReply


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
    signers: frozenset[str]
    """The keys that signed the job; its researcher's must stay on the roster."""
    policy: str
    """The digest of the policy that let it in."""
    plan: Sequence[Exactly | None]
    """How each statistic is answered exactly, by what the release declares."""


STRANGERS_AN_HOUR = 1000
"""Offers that nobody signed and that are still written down and answered."""
FLOOD = "flood"
"""The code of a refusal that is neither written down nor answered."""

OUTPUT_WAITS = "waiting-output"
WAITING = {
    "waiting": "The site's steward has not decided yet.",
    OUTPUT_WAITS: "The site's steward has not released the answer yet.",
}
MAX_WAITING = 1000
"""Things that wait for the steward at once; a job that would be one more is refused."""

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
    holds from the next question on. ``noise_key`` is the file of the secret from which noise on
    model updates is drawn; without one, a policy that wants noise lets no update out.
    """

    def __init__(
        self,
        catalog: Catalog,
        ledger: Ledger,
        policy: Callable[[], Policy],
        clock: Callable[[], datetime],
        noise_key: Path | None = None,
    ) -> None:
        self.catalog = catalog
        self._noise_key = noise_key
        self.asked = Asked(catalog.engine)
        self.inbox = Inbox(catalog.engine)
        self.ledger = ledger
        self.account = PrivacyAccount(catalog.engine, ledger)
        self.dp = DpLane(self.account, Draws(catalog.engine))
        self.policy = policy
        self.clock = clock
        self._lock = threading.Lock()
        self._noted_policy = ""
        self._remembers = False
        self._strangers: deque[datetime] = deque(maxlen=STRANGERS_AN_HOUR)

    # ---- in ------------------------------------------------------------------------------------

    def admit(self, member: Membership, envelope: bytes) -> Admission:
        """Run the first table over a job. The decision is on the ledger when this returns.

        Raises ``Refused``; then the refusal is on the ledger and the job's nonce is used up.
        """
        with self._lock:
            if not self._remembers:
                remembering.remember(self.catalog.engine, self.ledger)
                self._remembers = True
            question = self.question(member, envelope)
            self._note_policy(question.policy, question.now)
            try:
                passed = before_work.admit(question)
            except Waits as waits:
                self._let_wait(question, waits)
                raise
            except Refused as refusal:
                told = self._told_before(member, question, refusal)
                if told is not None:
                    raise told from None
                if question.believed is None and self._is_flood(question.now):
                    raise Refused(FLOOD, "Too many offers that nobody signed.") from None
                self._record_refusal(question, refusal)
                raise
            assert question.believed is not None
            assert question.project is not None
            assert question.release is not None
            job, digest = question.job, question.believed.digest
            resumed = question.let_in
            if not resumed:
                waited = self.asked.seen_nonce(job.nonce) is not None
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
                        **({"waited": True} if waited else {}),
                    },
                    question.now,
                )
                if waited:
                    self.asked.accept(digest)
                    self.inbox.finish(digest, "approved")
                else:
                    self.asked.add_job(
                        digest, job, member.site, envelope, "accepted", "", question.now
                    )
            signers = question.believed.signers
            return Admission(
                digest,
                job,
                question.project,
                question.release,
                resumed,
                signers,
                question.policy.digest,
                question.plan,
            )

    def check_still_allowed(self, member: Membership, admission: Admission) -> None:
        """Raise ``Refused`` when what an admitted job rests on was taken back since."""
        question = self.question(member, b"")
        question.believed = Believed(admission.job, admission.digest, b"", admission.signers)
        rules: tuple[BeforeWork, ...] = (
            before_work.RosterInForce(),
            before_work.SignerOnTheRoster(),
            before_work.ProjectApproved(),
            before_work.ReleaseGranted(),
            limits.WithinLimits(),
            before_work.RecipeApproved(),
        )
        try:
            admission.job.check_validity(question.now)
            admission.project.check_validity(question.now)
        except DocumentError as error:
            raise Refused("expired", str(error)) from None
        for rule in rules:
            rule.check(question)
        if question.waits:
            raise Refused("recipe-not-approved", "The recipe is not approved at this site.")
        if question.policy.digest != admission.policy:
            # Another policy holds now: what was let in under the old one must pass it too.
            before_work.DeclaredCells().check(question)
            before_work.ModelWithinLimits().check(question)
            before_work.CohortLargeEnough().check(question)
            if list(question.plan) != list(admission.plan):
                raise Refused("policy", "The policy of this site has changed since.")

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
            seen_nonce=functools.cache(self.asked.seen_nonce),
            asked_this_hour=lambda researcher: self.asked.asked_since(
                member.consortium, researcher, hour_ago
            ),
            granted=lambda project: self.catalog.granted(member.consortium, project),
            approved_recipes=self.asked.approved_recipes,
            asked_of_project=lambda project: self.asked.asked_of_project(
                member.consortium, project, hour_ago
            ),
            forgotten=lambda job: remembering.is_forgotten(self.catalog.engine, job),
            withdrawn_recipes=self.asked.withdrawn_recipes,
            decided=lambda job: self.verdict(member, "job", job),
        )

    # ---- what waits for the steward ------------------------------------------------------------

    def verdict(self, member: Membership, what: What, subject: str) -> Verdict | None:
        """Return what this hospital's stewards decided, or None while too few have."""
        decisions = self.inbox.decisions(subject)
        if not decisions:
            return None
        return verdict(
            decisions,
            self._stewards(member),
            what,
            subject,
            (member.consortium, member.site),
            self.policy().approval.people,
        )

    def _stewards(self, member: Membership) -> frozenset[str]:
        return allowed_keys(member.own_steward, (r.envelope for r in self.inbox.stewards()))

    def _let_wait(self, question: Question, waits: Waits) -> None:
        """Keep a job until its steward decides; that it waits is on the ledger first."""
        assert question.believed is not None
        job, digest = question.job, question.believed.digest
        if question.seen_nonce(job.nonce) is None:
            if self.inbox.count_waiting() >= MAX_WAITING:
                full = Refused("inbox-full", "Too many jobs wait for the steward of this site.")
                self._record_refusal(question, full)
                raise full
            self.ledger.append(
                "waiting",
                {
                    "consortium": question.consortium,
                    "job": digest,
                    "project": job.project,
                    "researcher": job.researcher,
                    "work": job.work.kind,
                    "policy": question.policy.digest,
                    "reasons": list(waits.reasons),
                },
                question.now,
            )
            self.asked.add_job(
                digest, job, question.site, question.envelope, "waiting", "", question.now
            )
        self.inbox.add_job(digest, waits.reasons, question.now)

    def _told_before(
        self, member: Membership, question: Question, refusal: Refused
    ) -> Refused | None:
        """Return a steward's refusal of this very job, for a coordinator that didn't hear it."""
        if refusal.code != "replay" or question.believed is None:
            return None
        digest = question.believed.digest
        if question.seen_nonce(question.job.nonce) != f"{digest}:refused":
            return None
        decided = self.verdict(member, "job", digest)
        return None if decided is None else decided.refusal

    def ready(self, member: Membership) -> list[bytes]:
        """Return the waiting jobs that need wait no longer: they are to be decided on again.

        A steward decided, a recipe was approved, or the policy changed.
        """
        found = []
        for _, envelope in self.asked.open_jobs(member.consortium, "waiting"):
            try:
                before_work.admit(self.question(member, envelope))
            except Waits:
                continue
            except Refused:
                pass
            found.append(envelope)
        return found

    def decided_outputs(self, member: Membership) -> list[InboxRow]:
        """Return the held outputs on which the stewards decided."""
        return [
            row
            for row in self.inbox.rows("waiting", consortium=member.consortium)
            if row.what == "output" and self.verdict(member, "output", row.subject) is not None
        ]

    def situation(self) -> tuple[object, ...]:
        """Return what changes whenever something that waits may need wait no longer."""
        return self.inbox.stamp(), self.asked.approved_recipes(), self.policy().digest

    def settle_held(
        self, member: Membership, admission: Admission, row: InboxRow, tensors: bytes = b""
    ) -> Sealed:
        """Return a held output as its stewards decided: the answer, a failure, or that it waits.

        ``tensors`` are its blob.
        """
        before = self.again(row.job, row.task, tensors)
        if before is not None:
            self.inbox.finish(row.subject, "approved")
            return before
        decided = self.verdict(member, "output", row.subject)
        if decided is None or (decided.refusal is None and row.payload is None):
            return self.waiting(member, row.job, OUTPUT_WAITS)
        if decided.refusal is not None:
            if row.state == "waiting":
                self._record_withheld(member, admission, row.task, decided.refusal)
            self.inbox.finish(row.subject, "refused")
            return self.failure(member, row.job, row.task, decided.refusal.code, "")
        assert row.payload is not None
        self.check_still_allowed(member, admission)
        sealed = self._leave(
            member,
            admission,
            row.task,
            row.entry | {"stewards": list(decided.keys)},
            row.payload,
            tensors,
            row.seconds,
        )
        self.inbox.finish(row.subject, "approved")
        return sealed

    def _is_held(self, member: Membership, admission: Admission, policy: Policy) -> bool:
        job = admission.job
        if policy.holds_outputs(job.project, job.work.kind):
            return True
        decisions = self.inbox.decisions(admission.digest)
        return bool(decisions) and hold_wanted(
            decisions,
            self._stewards(member),
            admission.digest,
            (member.consortium, member.site),
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
            self.inbox.finish(believed.digest, "refused")

    # ---- out -----------------------------------------------------------------------------------

    def answer_statistics(
        self,
        member: Membership,
        admission: Admission,
        parts: list[Part],
        seconds: float,
        answered: Answered | None = None,
    ) -> Sealed:
        """Withhold what is small, run the second table, write the ledger, seal the answer.

        ``answered`` is what ``noise`` returned, if some of the parts are from there.
        """
        policy = self.policy()
        kept = before_egress.withhold_small(parts, policy.disclosure)
        message = answers.encode(kept)
        if answered is not None:
            message.account.spent = answered.epsilon
            message.account.remaining = answered.standing.remaining_project
        payload = message.SerializeToString(deterministic=True)
        outbound = Outbound(
            admission.job,
            admission.project,
            admission.release,
            policy,
            StatisticsOutput(kept),
            len(payload),
        )
        return self._let_out(member, admission, "statistics", outbound, payload, b"", seconds)

    def noise(
        self, member: Membership, admission: Admission, ask: Sequence[Statistic], look: Look
    ) -> Answered:
        """Answer statistics with noise (``node.gate.dp``); ``look`` gives columns and cohort."""
        policy, job = self.policy(), admission.job
        assert isinstance(job.work, StatisticsWork)
        asked = DpQuestion(
            Payer(member.consortium, job.project),
            admission.digest,
            admission.release.digest,
            job.work.model_copy(update={"ask": tuple(ask)}),
            admission.project,
            Limits.of(policy, job.project),
            policy.privacy.epsilon_question,
            self.clock(),
        )
        try:
            return self.dp.answer(asked, look)
        except Refused as refusal:
            self._record_withheld(member, admission, "statistics", refusal)
            raise

    def withhold(
        self, member: Membership, admission: Admission, task: str, parts: list[Part]
    ) -> list[Part]:
        """Return a site's parts as they may go into a secure sum: checked, and small ones gone."""
        policy = self.policy()
        if self._is_held(member, admission, policy):
            refusal = Refused("held", "This site looks at answers, which a secure sum forbids.")
            self._record_withheld(member, admission, task, refusal)
            raise refusal
        kept = before_egress.withhold_small(parts, policy.disclosure)
        size = len(answers.encode(kept).SerializeToString(deterministic=True))
        before_egress.let_pass(
            Outbound(
                admission.job,
                admission.project,
                admission.release,
                policy,
                StatisticsOutput(kept),
                size,
            )
        )
        return kept

    def answer_step(
        self,
        member: Membership,
        admission: Admission,
        task: str,
        reply: wire.SumReply,
        parts: list[Part] | None,
        seconds: float,
    ) -> Sealed:
        """Write a step of a secure sum on the ledger and seal it.

        ``parts`` are what a masked vector holds, as ``withhold`` returned them; the ledger has the
        digests of both.
        """
        policy = self.policy()
        payload = reply.SerializeToString(deterministic=True)
        if (reply.WhichOneof("step") == "words") is (parts is None):
            raise Refused("undeclared-output", "A masked vector is made of no checked parts.")
        if len(payload) > policy.jobs.max_answer_bytes:
            refusal = Refused("too-large", "The payload is larger than what may leave.")
            self._record_withheld(member, admission, task, refusal)
            raise refusal
        plain = (
            b"" if parts is None else answers.encode(parts).SerializeToString(deterministic=True)
        )
        entry: dict[str, object] = {
            "consortium": member.consortium,
            "job": admission.digest,
            "task": task,
            "work": admission.job.work.kind,
            "project": admission.job.project,
            "researcher": admission.job.researcher,
            "release": admission.release.digest,
            "payload": hashlib.sha256(payload).hexdigest(),
            "tensors": "",
            "bytes": len(payload),
            "lane": "exact",
            "rules": [type(r).__name__ for r in before_egress.BEFORE_EGRESS] if plain else [],
            "policy": policy.digest,
            **({"masked": hashlib.sha256(plain).hexdigest()} if plain else {}),
        }
        return self._leave(member, admission, task, entry, payload, b"", seconds)

    def answer_model(
        self,
        member: Membership,
        admission: Admission,
        task: str,
        part: wire.ModelPart,
        width: int,
        seconds: float,
    ) -> Sealed:
        """Run the second table over a site's part of a model's step, write the ledger, seal it.

        ``width`` is how many coefficients the model has.
        """
        payload = part.SerializeToString(deterministic=True)
        outbound = Outbound(
            admission.job,
            admission.project,
            admission.release,
            self.policy(),
            ModelOutput(part, width),
            len(payload),
        )
        return self._let_out(member, admission, task, outbound, payload, b"", seconds)

    def answer_task(
        self,
        member: Membership,
        admission: Admission,
        task: str,
        output: TrainingOutput,
        message: wire.RecordDict,
        tensors: bytes,
        seconds: float,
        keep: Callable[[bytes], object] = len,
    ) -> Sealed:
        """Treat a recipe's reply, run the second table over it, write the ledger, seal it.

        ``keep`` is given the tensors that leave, before the ledger is written, so that they can be
        sent again.
        """
        policy = self.policy()
        treated = None
        try:
            events = replies.charges(output.records, policy.training)
            self._charge(member, admission, task, events, policy)
            treated = replies.treat_reply(
                output,
                policy.training,
                secret=self._noise_secret,
                subjects=_published(admission.release.subjects, policy),
            )
        except Refused as refusal:
            self._record_withheld(member, admission, task, refusal)
            raise
        if treated is not None:
            output = treated.output
            message, tensors = treated.encoded.message, treated.encoded.blob
        payload = message.SerializeToString(deterministic=True)
        outbound = Outbound(
            admission.job,
            admission.project,
            admission.release,
            policy,
            output,
            len(payload) + len(tensors),
            message,
            tensors,
            treated is not None,
        )
        return self._let_out(
            member, admission, task, outbound, payload, tensors, seconds, treated, keep
        )

    def _charge(
        self,
        member: Membership,
        admission: Admission,
        task: str,
        events: Sequence[Event],
        policy: Policy,
    ) -> None:
        """Spend what noise on a reply costs, before it is drawn; ``Refused`` beyond the account."""
        if events:
            project = admission.job.project
            self.account.spend(
                Payer(member.consortium, project),
                admission.release.digest,
                [Charge(f"{admission.digest}:{task}", event) for event in events],
                Limits.of(policy, project),
                self.clock(),
                admission.digest,
            )

    def _noise_secret(self) -> bytes:
        if self._noise_key is None:
            raise Refused("noise", "This site can't add the noise that its policy wants.")
        return noise_key(self._noise_key)

    def check_received(
        self, member: Membership, admission: Admission, task: str, received: Records
    ) -> None:
        """Raise ``Refused`` when arrays to train from are made to give single records away."""
        if not self.policy().training.check_imprint:
            return
        try:
            imprint.check(received)
        except Refused as refusal:
            self._record_withheld(member, admission, task, refusal)
            raise

    def _record_withheld(
        self, member: Membership, admission: Admission, task: str, refusal: Refused
    ) -> None:
        self.ledger.append(
            "withheld",
            {
                "consortium": member.consortium,
                "job": admission.digest,
                "task": task,
                "code": refusal.code,
            },
            self.clock(),
        )

    def _let_out(
        self,
        member: Membership,
        admission: Admission,
        task: str,
        outbound: Outbound,
        payload: bytes,
        tensors: bytes,
        seconds: float,
        treated: TreatedReply | None = None,
        keep: Callable[[bytes], object] = len,
    ) -> Sealed:
        try:
            if admission.job.consortium != member.consortium:
                raise Refused("not-admitted", "The job is of another consortium.")
            rules = before_egress.let_pass(outbound)
        except Refused as refusal:
            self._record_withheld(member, admission, task, refusal)
            raise
        if tensors:
            keep(tensors)
        if treated is not None:
            rules += treated.names
        entry: dict[str, object] = {
            "consortium": member.consortium,
            "job": admission.digest,
            "task": task,
            "work": admission.job.work.kind,
            "project": admission.job.project,
            "researcher": admission.job.researcher,
            "release": admission.release.digest,
            "payload": hashlib.sha256(payload).hexdigest(),
            "tensors": outbound.message.tensors.digest,  # checked by the second table
            "bytes": outbound.size,
            "lane": _lane(outbound),
            "rules": list(rules),
            **({"treatment": dict(treated.done)} if treated is not None else {}),
            "policy": outbound.policy.digest,
        }
        if self._is_held(member, admission, outbound.policy):
            return self._hold(member, admission, task, entry, payload, len(tensors), seconds)
        return self._leave(member, admission, task, entry, payload, tensors, seconds)

    def _hold(
        self,
        member: Membership,
        admission: Admission,
        task: str,
        entry: dict[str, object],
        payload: bytes,
        tensors_size: int,
        seconds: float,
    ) -> Sealed:
        """Keep an output that passed until the steward releases it; it is sent to nobody.

        One that is held already for the task stays the one.
        """
        before = self.inbox.held(admission.digest, task)
        if before is not None:
            return self.waiting(member, admission.digest, OUTPUT_WAITS)
        subject = output_subject(admission.digest, task, payload)
        now = self.clock()
        self.ledger.append("held", entry | {"output": subject}, now)
        tensors = (str(entry["tensors"]), tensors_size)
        self.inbox.hold(subject, admission.digest, task, payload, tensors, entry, seconds, now)
        return self.waiting(member, admission.digest, OUTPUT_WAITS)

    def _leave(
        self,
        member: Membership,
        admission: Admission,
        task: str,
        entry: dict[str, Any],
        payload: bytes,
        tensors: bytes,
        seconds: float,
    ) -> Sealed:
        """Write an answer on the ledger, receipt it, keep it to be sent again, seal it."""
        now = self.clock()
        kept = [
            self.ledger.keep_payload(data)
            for data in (payload, tensors)
            if data and len(data) <= self.policy().ledger.keep_payload_bytes
        ]
        head = self.ledger.append("answer", entry | {"kept": kept}, now)
        receipt = Receipt(
            consortium=member.consortium,
            site=member.site,
            job=admission.digest,
            task=task,
            release=admission.release.digest,
            payload=entry["payload"],
            payload_bytes=entry["bytes"],
            rules=tuple(entry["rules"]),
            lane=entry["lane"],
            ledger_sequence=head.sequence,
            ledger_head=head.hash,
            time=now,
        ).sign(member.key)
        row = AnswerRow(
            admission.digest, task, payload, entry["tensors"], len(tensors), receipt, False
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

    def waiting(self, member: Membership, job: str, code: str = "waiting") -> Sealed:
        """Seal the news that the steward is to decide, on the job or on an output of it."""
        decision = wire.Decision(job=job, waiting=True, code=code, sentence=WAITING[code])
        return self._notice(member, "waiting", wire.FromNode(decision=decision), job)

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
            open_jobs=[
                digest
                for digest, _ in self.asked.open_jobs(member.consortium, "accepted", "waiting")
            ],
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
        policy = self.policy()
        cell = policy.disclosure.minimum_cell
        listed: dict[str, wire.Release] = {}
        for project in self.asked.projects(member.consortium):
            for row in self.catalog.granted(member.consortium, project.name):
                release = listed.setdefault(
                    row.digest,
                    wire.Release(
                        name=row.name,
                        digest=row.digest,
                        table=row.manifest.table or "",
                        subjects=_published(row.subjects, policy),
                        variables=[column.name for column in row.manifest.columns],
                        assets=[
                            wire.AssetCount(modality=modality, count=count // cell * cell)
                            for modality, count in sorted(row.manifest.assets.items())
                        ],
                        strata=exact.strata_of(row.manifest),
                        analyses=[
                            wire.AnalysisSet(name=one.name, variables=one.variables)
                            for one in exact.analyses_of(row.manifest)
                        ],
                    ),
                )
                release.projects.append(project.name)
        return wire.Releases(releases=listed.values())

    def ledger_head(self, member: Membership, offer: wire.HeadOffer) -> Sealed:
        """Seal a signed head of the ledger: its length, two hashes, a time, and proofs."""
        return self._notice(member, "ledger-head", wire.FromNode(head=offer))

    def countersigned(self, member: Membership, heads: wire.Countersignatures) -> Sealed:
        """Seal heads of other sites' ledgers that we countersigned."""
        message = wire.FromNode(countersigned=heads)
        return self._notice(member, "countersignature", message)

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


def _published(subjects: int, policy: Policy) -> int:
    """Return how many subjects a release is said to hold: a multiple of the policy's cell."""
    return subjects // policy.disclosure.minimum_cell * policy.disclosure.minimum_cell


def _lane(outbound: Outbound) -> str:
    """Return by which lane a payload leaves; "exact+dp" when some of its parts have noise."""
    if isinstance(outbound.output, ModelOutput):
        return "exact"
    if not isinstance(outbound.output, StatisticsOutput):
        return "training"
    found = {part.lane for part in outbound.output.parts if not part.withheld}
    return "+".join(lane for lane in ("exact", "dp") if lane in found) or "exact"
