"""What waited for a steward and need wait no longer: jobs to decide on again, held outputs."""

from __future__ import annotations

from contract.errors import Refused
from node.catalog.inbox import InboxRow
from node.gate import before_work
from node.gate.admitting import Admitting
from node.gate.announcing import OUTPUT_WAITS
from node.gate.answering import Answering
from node.gate.rules import (
    Waits,
)
from node.gate.sealing import Sealed
from node.gate.state import Admission, Membership


class Settling(Admitting, Answering):
    """What becomes of what waited, once a steward decided or the policy changed."""

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
