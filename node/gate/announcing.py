"""Notices: the closed list of what a node says beside its answers, without patients' data."""

from __future__ import annotations

from datetime import datetime

from contract import wire_pb2 as wire
from contract.errors import Refused
from node.gate import deadline, exact
from node.gate.policy import Policy
from node.gate.sealing import Sealed, Sealing
from node.gate.state import Membership

OUTPUT_WAITS = "waiting-output"
WAITING = {
    "waiting": "The site's steward has not decided yet.",
    OUTPUT_WAITS: "The site's steward has not released the answer yet.",
}


class Announcing(Sealing):
    """What a node tells a coordinator of jobs, releases and its ledger."""

    def decision(self, member: Membership, job: str, refusal: Refused | None) -> Sealed:
        """Seal the decision on a job. Its admission or refusal is on the ledger already."""
        decision = wire.Decision(job=job, accepted=refusal is None)
        if refusal is not None:
            decision.code, decision.sentence = refusal.code, refusal.sentence
        return self._notice(member, "decision", wire.FromNode(decision=decision), job)

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

    def listed(self, member: Membership) -> tuple[object, ...]:
        """Return what changes whenever ``releases`` would say something else."""
        return self.policy().digest, *self.catalog.listed(member.consortium)

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
        created: dict[str, datetime] = {}
        for project in self.asked.projects(member.consortium):
            for row in self.catalog.granted(member.consortium, project.name):
                release = listed.setdefault(
                    row.digest,
                    wire.Release(
                        name=row.name,
                        digest=row.digest,
                        table=row.manifest.table or "",
                        subjects=published(row.subjects, policy),
                        variables=[column.name for column in row.manifest.columns],
                        assets=[
                            wire.AssetCount(modality=modality, count=count // cell * cell)
                            for modality, count in sorted(row.manifest.assets.items())
                        ],
                        strata=exact.strata_of(row.manifest),
                        sum_sites=policy.disclosure.minimum_sum_sites,
                        analyses=[
                            wire.AnalysisSet(
                                name=one.name,
                                variables=one.variables,
                                joint=exact.as_bits(one, one.joint),
                                products=exact.as_bits(one, one.products),
                            )
                            for one in exact.analyses_of(row.manifest)
                        ],
                    ),
                )
                created[row.digest] = row.created_at
                release.projects.append(project.name)
        newest = sorted(listed, key=created.__getitem__, reverse=True)
        return wire.Releases(releases=[listed[digest] for digest in newest])

    def ledger_head(self, member: Membership, offer: wire.HeadOffer) -> Sealed:
        """Seal a signed head of the ledger: its length, two hashes, a time, and proofs."""
        return self._notice(member, "ledger-head", wire.FromNode(head=offer))

    def countersigned(self, member: Membership, heads: wire.Countersignatures) -> Sealed:
        """Seal heads of other sites' ledgers that we countersigned."""
        message = wire.FromNode(countersigned=heads)
        return self._notice(member, "countersignature", message)

    def period_seconds(self, member: Membership, envelope: bytes) -> float:
        """Return the period at whose end a decision on this offer leaves; 0 for no statistics."""
        statistics, wanted = deadline.asked(envelope, member.site)
        if not statistics:
            return 0.0
        policy = self.policy()
        listed = published(self.catalog.subjects_of(wanted), policy)
        return deadline.period_seconds(policy.jobs, statistics, listed)


def published(subjects: int, policy: Policy) -> int:
    """Return how many subjects a release is said to hold: a multiple of the policy's cell."""
    return subjects // policy.disclosure.minimum_cell * policy.disclosure.minimum_cell
