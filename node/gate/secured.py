"""A rule of the first table: whether updates leave in secure sums, as policy and project want."""

from __future__ import annotations

from contract.errors import Refused
from contract.work import TrainingWork
from node.gate.rules import Question


class SumsAsWanted:
    """Where policy or project wants secure sums, a job trains by these only, with enough noise.

    Guarantee: no update of this site leaves alone, over fewer sites than the policy wants, or with
    less noise in the sum. Assumption: those of ``contract.secure_aggregation``, and with the sparse
    graph that the coordinator keeps to the protocol, so that graph needs the policy's word.
    Source: Bonawitz et al. 2017, 6.2 (active adversaries); Bell et al. 2020 (sparse graph).
    """

    code = "secure-only"

    def check(self, question: Question) -> None:
        """Refuse an update in clear where it must not be, and sums that are too weak."""
        work, policy = question.job.work, question.policy
        if not isinstance(work, TrainingWork):
            return
        assert question.project is not None
        grant = question.project.recipe(work.bundle)
        if work.secure is None:
            if policy.training.secure_only or (grant is not None and grant.secure):
                raise Refused(self.code, "Updates leave this site in secure sums only.")
            return
        least = max(question.job.minimum_sites, question.project.minimum_sites)
        fewest = policy.disclosure.minimum_sum_sites
        if least < fewest or len(question.job.releases) < fewest:
            raise Refused(
                "too-few-sites", "The secure sum may be over fewer sites than allowed here."
            )
        if work.secure.sparse and not policy.training.sparse_sums:
            raise Refused("sparse-sum", "This site takes no part in sums over a sparse graph.")
        if work.secure.noise_multiplier < policy.training.sum_noise_multiplier:
            raise Refused("noise", "The secure sum holds less noise than this site wants.")
        if policy.holds_outputs(question.job.project, work.kind):
            raise Refused("held", "This site looks at answers, which a secure sum forbids.")
