"""What this hospital's stewards decided on what waits for them."""

from __future__ import annotations

from node.gate.inbox.decisions import Verdict, What, hold_wanted, verdict
from node.gate.inbox.stewards import allowed_keys
from node.gate.policy import Policy
from node.gate.state import Admission, Membership, State


class Deciding(State):
    """Verdicts on jobs and outputs, by the stewards' signatures alone."""

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
