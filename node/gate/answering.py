"""The way out: an answer passes the second table, is written down, and leaves or is held."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence

from contract import wire_pb2 as wire
from contract.errors import Refused
from contract.records import Records
from contract.statistics import forms
from contract.statistics.answers import Part
from contract.work import Statistic, StatisticsWork
from node.gate import before_egress
from node.gate.account import Charge, Event, Limits, Payer
from node.gate.announcing import OUTPUT_WAITS, Announcing, published
from node.gate.deciding import Deciding
from node.gate.dp.lane import Answered, Look
from node.gate.dp.lane import Asked as DpQuestion
from node.gate.inbox.decisions import output_subject
from node.gate.policy import Policy
from node.gate.rules import (
    ModelOutput,
    Outbound,
    StatisticsOutput,
    TrainingOutput,
)
from node.gate.sealing import Sealed, entry_of
from node.gate.state import Admission, Membership
from node.gate.updates import imprint, replies
from node.gate.updates.noise import noise_key
from node.gate.updates.replies import TreatedReply


class Answering(Deciding, Announcing):
    """What may leave of what was worked out, for each kind of work."""

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
        policy = self.policy_of(admission)
        kept = before_egress.withhold_small(parts, policy.disclosure)
        message = forms.encode(kept)
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
        policy, job = self.policy_of(admission), admission.job
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
        policy = self.policy_of(admission)
        if self._is_held(member, admission, policy):
            refusal = Refused("held", "This site looks at answers, which a secure sum forbids.")
            self._record_withheld(member, admission, task, refusal)
            raise refusal
        least = before_egress.minimums_of(admission.job.work, policy.disclosure)
        kept = before_egress.withhold_small(parts, least)
        size = len(forms.encode(kept).SerializeToString(deterministic=True))
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
        plain: bytes | None,
        seconds: float,
        partners: str = "",
    ) -> Sealed:
        """Write a step of a secure sum on the ledger and seal it.

        ``plain`` is what a masked vector holds, as ``withhold`` or ``pass_model`` returned it; the
        ledger has the digests of both. ``partners`` are the only sites with which the release may
        be summed (``node.catalog.partners``): the ledger remembers them for a catalogue that is
        turned back.
        """
        policy = self.policy_of(admission)
        payload = reply.SerializeToString(deterministic=True)
        if (reply.WhichOneof("step") == "words") is not bool(plain):
            raise Refused("undeclared-output", "A masked vector is made of no checked parts.")
        if len(payload) > policy.jobs.max_answer_bytes:
            refusal = Refused("too-large", "The payload is larger than what may leave.")
            self._record_withheld(member, admission, task, refusal)
            raise refusal
        entry = entry_of(
            member,
            admission,
            task,
            payload,
            policy=policy.digest,
            lane="exact",
            rules=[type(r).__name__ for r in before_egress.BEFORE_EGRESS] if plain else [],
            masked=hashlib.sha256(plain).hexdigest() if plain else "",
            partners=partners,
        )
        return self._leave(member, admission, task, entry, payload, b"", seconds)

    def pass_model(
        self, member: Membership, admission: Admission, task: str, part: wire.ModelPart, width: int
    ) -> bytes:
        """Return a site's part of a model's step as it may go into a secure sum.

        It passes the second table as one that leaves in clear does; ``Refused`` if that objects.
        """
        policy = self.policy_of(admission)
        plain = part.SerializeToString(deterministic=True)
        try:
            if self._is_held(member, admission, policy):
                raise Refused("held", "This site looks at answers, which a secure sum forbids.")
            output = ModelOutput(part, width)
            before_egress.let_pass(
                Outbound(
                    admission.job,
                    admission.project,
                    admission.release,
                    policy,
                    output,
                    len(plain),
                )
            )
        except Refused as refusal:
            self._record_withheld(member, admission, task, refusal)
            raise
        return plain

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
            self.policy_of(admission),
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
        policy = self.policy_of(admission)
        treated = None
        try:
            events = replies.charges(output.records, policy.training)
            self._charge(member, admission, task, events, policy)
            treated = replies.treat_reply(
                output,
                policy.training,
                secret=self._noise_secret,
                subjects=published(admission.release.subjects, self.policy()),
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
        noise = [event.noise_multiplier for event in events]
        return self._let_out(
            member, admission, task, outbound, payload, tensors, seconds, treated, keep, noise
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
        if not self.policy_of(admission).training.check_imprint:
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
        noise: Sequence[float] = (),
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
        entry = entry_of(
            member,
            admission,
            task,
            payload,
            policy=outbound.policy.digest,
            lane=_lane(outbound),
            rules=rules,
            tensors=outbound.message.tensors,  # checked by the second table
            treatment=dict(treated.done) if treated is not None else {},
            noise=list(noise),
        )
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
        salt = secrets.token_hex(16)  # heads leave, what is held doesn't
        self.ledger.append("held", entry | {"output": subject, "salt": salt}, now)
        tensors = (str(entry["tensors"]), tensors_size)
        self.inbox.hold(subject, admission.digest, task, payload, tensors, entry, seconds, now)
        return self.waiting(member, admission.digest, OUTPUT_WAITS)


def _lane(outbound: Outbound) -> str:
    """Return by which lane a payload leaves; "exact+dp" when some of its parts have noise."""
    if isinstance(outbound.output, ModelOutput):
        return "exact"
    if not isinstance(outbound.output, StatisticsOutput):
        return "training"
    found = {part.lane for part in outbound.output.parts if not part.withheld}
    return "+".join(lane for lane in ("exact", "dp") if lane in found) or "exact"
