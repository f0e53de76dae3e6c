"""The way in: a job is looked at by the first table, and what became of it is written down."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from contract.errors import DocumentError, Refused
from contract.trust import Believed
from contract.work import StatisticsWork, TrainingWork, Work
from node.catalog.store import Catalog
from node.gate import before_work, limits, modelling, recipe_rules, remembering
from node.gate.deciding import Deciding
from node.gate.floods import FloodLimit
from node.gate.ledger import Ledger
from node.gate.policy import Policy
from node.gate.rules import (
    BeforeWork,
    Question,
    Waits,
)
from node.gate.secured import SumsAsWanted
from node.gate.state import Admission, Membership

FLOOD = "flood"
"""The code of a refusal that is neither written down nor answered."""
REPEATABLE = ("replay", "rate", "limit-rate")
"""Codes under which one job, or one researcher, can be refused any number of times."""
MAX_WAITING = 1000
"""Things that wait for the steward at once; a job that would be one more is refused."""


class Admitting(Deciding):
    """Whether a job may be worked on, when it comes and as long as it runs."""

    def __init__(
        self,
        catalog: Catalog,
        ledger: Ledger,
        policy: Callable[[], Policy],
        clock: Callable[[], datetime],
        noise_key: Path | None = None,
    ) -> None:
        super().__init__(catalog, ledger, policy, clock, noise_key)
        self._lock = threading.Lock()
        self._noted_policy = ""
        self._remembers = False
        self._floods = FloodLimit()

    def admit(self, member: Membership, envelope: bytes) -> Admission:
        """Run the first table over a job. The decision is on the ledger when this returns.

        That a question in statistics is admitted is synced with whatever is written next: nothing
        of it leaves before that.

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
                if question.seen_nonce(question.job.nonce) is not None:
                    self._count(member, question)
                self._let_wait(question, waits)
                raise
            except Refused as refusal:
                if question.believed is None or refusal.code in REPEATABLE:
                    self._count(member, question)
                told = self._told_before(member, question, refusal)
                if told is not None:
                    raise told from None
                self._record_refusal(question, refusal)
                raise
            assert question.believed is not None
            assert question.project is not None
            assert question.release is not None
            job, digest = question.job, question.believed.digest
            resumed = question.let_in
            if resumed:
                self._count(member, question)
            else:
                self._floods.pay(member.consortium, _paying(job.work), digest)
                waited = question.seen_nonce(job.nonce) is not None
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
                    sync=not isinstance(job.work, StatisticsWork),
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
            before_work.EngineAllowed(),
            recipe_rules.WeightsApproved(),
            recipe_rules.DraftsAllowed(),
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
            SumsAsWanted().check(question)
            modelling.ModelWithinLimits().check(question)
            before_work.CohortLargeEnough().check(question)
            if list(question.plan) != list(admission.plan):
                raise Refused("policy", "The policy of this site has changed since.")

    def question(self, member: Membership, envelope: bytes) -> Question:
        """Return what the rules look at, for a job's envelope."""
        now = self.clock()
        hour_ago, policy = now - timedelta(hours=1), self.policy()
        return Question(
            envelope=envelope,
            consortium=member.consortium,
            site=member.site,
            now=now,
            policy=policy,
            trusted=member.trusted,
            approved_project=lambda name: self.asked.approved_digest(member.consortium, name),
            seen_nonce=functools.cache(self.asked.seen_nonce),
            asked_this_hour=lambda researcher: self.asked.asked_since(
                member.consortium, researcher, hour_ago, policy.jobs.per_hour
            ),
            granted=lambda project, release: self.catalog.granted_release(
                member.consortium, project, release
            ),
            approved_recipes=self.asked.approved_recipes,
            approved_weights=self.asked.approved_weights,
            asked_of_project=lambda project: self.asked.asked_of_project(
                member.consortium, project, hour_ago, policy.limits(project).per_hour or 0
            ),
            forgotten=lambda job: remembering.is_forgotten(self.catalog.engine, job),
            withdrawn_recipes=self.asked.withdrawn_recipes,
            decided=lambda job: self.verdict(member, "job", job),
        )

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

    def _note_policy(self, policy: Policy, now: datetime) -> None:
        """Write the policy on the ledger when it is another than at the last question."""
        if policy.digest != self._noted_policy:
            values = policy.model_dump(mode="json")
            self.ledger.append("policy", {"digest": policy.digest, "values": values}, now)
            self._noted_policy = policy.digest

    def is_flood(self, member: Membership, job: str = "", researcher: str = "") -> bool:
        """Count a message that no researcher signed anew; say whether it is one too many.

        ``job`` is the one it is about, whose own allowance it uses first; ``researcher`` is who
        signed it, if it is offered once more or refused.
        Then it is neither written down nor answered: whoever owns the coordinator could fill the
        disk otherwise.
        """
        per_hour = self.policy().jobs.unsigned_per_hour
        return not self._floods.take(member.consortium, per_hour, self.clock(), job, researcher)

    def _count(self, member: Membership, question: Question) -> None:
        believed = question.believed
        of = ("", "") if believed is None else (believed.digest, question.job.researcher)
        if self.is_flood(member, *of):
            raise Refused(FLOOD, "Too many messages that no researcher signed anew.") from None

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


def _paying(work: Work) -> str:
    """Return as what kind of work a job pays for its messages."""
    if isinstance(work, TrainingWork):
        return "secure training" if work.secure is not None else work.kind
    return "secure model" if work.secure and work.fit is not None else work.kind
