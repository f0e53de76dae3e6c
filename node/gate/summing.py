"""The way out of a training reply that leaves in a secure sum only: sealed in first, then masked.

A reply passes the second table as any other, and is treated as policy wants it. Then it stays here,
and what leaves is an empty message. Of a sum's steps, one carries the reply's words, under masks;
the ledger's entry of it has the digests of both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from contract.errors import Refused
from contract.records import Records
from foundation import tensors
from node.gate import before_egress
from node.gate.announcing import published
from node.gate.answering import Answering
from node.gate.rules import Outbound, TrainingOutput
from node.gate.sealing import Sealed, entry_of
from node.gate.state import Admission, Membership
from node.gate.updates import replies
from node.gate.updates.noise import GaussianRelease


@dataclass(frozen=True)
class SealedIn:
    """A reply that passed: its records as they may be summed, and what the ledger says of it."""

    records: Records
    rules: tuple[str, ...]
    treatment: dict[str, float]


class Summing(Answering):
    """What may go into a secure sum of training, and the sum's steps."""

    def pass_in(
        self, member: Membership, admission: Admission, task: str, output: TrainingOutput
    ) -> SealedIn:
        """Treat a recipe's reply and run the second table over it; ``Refused`` if it objects."""
        policy = self.policy_of(admission)
        try:
            if self._is_held(member, admission, policy):
                raise Refused("held", "This site looks at answers, which a secure sum forbids.")
            events = replies.charges(output.records, policy.training)
            self._charge(member, admission, task, events, policy)
            treated = replies.treat_reply(
                output,
                policy.training,
                secret=self._noise_secret,
                subjects=published(admission.release.subjects, self.policy()),
            )
            output = treated.output if treated is not None else output
            encoded = treated.encoded if treated is not None else tensors.encode(output.records)
            payload = encoded.message.SerializeToString(deterministic=True)
            rules = before_egress.let_pass(
                Outbound(
                    admission.job,
                    admission.project,
                    admission.release,
                    policy,
                    output,
                    len(payload) + encoded.message.tensors.size,
                    encoded.message,
                    b"",
                    laid_out_here=True,
                )
            )
        except Refused as refusal:
            self._record_withheld(member, admission, task, refusal)
            raise
        done = dict(treated.done) if treated is not None else {}
        return SealedIn(output.records, rules + (treated.names if treated else ()), done)

    def subjects_published(self, admission: Admission) -> int:
        """Return how many subjects the release is published to hold: what weighs noised updates."""
        return published(admission.release.subjects, self.policy())

    def noise_secret(self) -> bytes:
        """Return the node's secret of draws; ``Refused`` when it has none."""
        return self._noise_secret()

    def answer_sealed_in(
        self,
        member: Membership,
        admission: Admission,
        task: str,
        passed: SealedIn,
        digest: str,
        seconds: float,
    ) -> Sealed:
        """Write on the ledger what was sealed in, by its digest, and seal an empty answer."""
        entry = entry_of(
            member,
            admission,
            task,
            b"",
            policy=self.policy().digest,
            lane="training",
            rules=passed.rules,
            masked=digest,
            treatment=passed.treatment,
        )
        return self._leave(member, admission, task, entry, b"", b"", seconds)

    def charge_sum(
        self, member: Membership, admission: Admission, task: str, noise: float, releases: int
    ) -> tuple[float, ...]:
        """Spend what a sum with this noise multiplier costs; ``Refused`` beyond the account.

        ``releases``: one for an update, and one for all metrics. Returns their multipliers.
        """
        if not noise:
            return ()
        events = (GaussianRelease(noise / 2),) * releases
        try:
            self._charge(member, admission, task, events, self.policy_of(admission))
        except Refused as refusal:
            self._record_withheld(member, admission, task, refusal)
            raise
        return tuple(event.noise_multiplier for event in events)

    def answer_sum_step(
        self,
        member: Membership,
        admission: Admission,
        task: str,
        step: Records,
        seconds: float,
        masked: str = "",
        keep: Callable[[bytes], object] = len,
        noise: Sequence[float] = (),
    ) -> Sealed:
        """Write a step of a sum on the ledger and seal it.

        ``masked`` is the digest of what a masked vector holds, as ``answer_sealed_in`` had it, and
        ``noise`` what ``charge_sum`` returned for it. ``keep`` is given the vector before the
        ledger is written, so that it can be sent again.
        """
        encoded = tensors.encode(step)
        payload, blob = encoded.message.SerializeToString(deterministic=True), encoded.blob
        policy = self.policy_of(admission)
        grant = admission.project.recipe(getattr(admission.job.work, "bundle", ""))
        limit = min(policy.training.max_reply_bytes, grant.max_reply_bytes if grant else 0)
        if bool(blob) != bool(masked):
            raise Refused("undeclared-output", "A masked vector is made of no checked reply.")
        if len(payload) + len(blob) > limit:
            refusal = Refused("too-large", "The payload is larger than what may leave.")
            self._record_withheld(member, admission, task, refusal)
            raise refusal
        entry = entry_of(
            member,
            admission,
            task,
            payload,
            policy=policy.digest,
            lane="training",
            rules=(),
            tensors=encoded.message.tensors,
            masked=masked,
            noise=list(noise),
        )
        if blob:
            keep(blob)
        return self._leave(member, admission, task, entry, payload, blob, seconds)
