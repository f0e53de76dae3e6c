"""Rules on what a recipe is given and may leave here: pretrained weights, and drafts."""

from __future__ import annotations

from contract.documents import RecipeGrant
from contract.errors import Refused
from contract.work import Scalar, TrainingWork
from node.gate.rules import Question

WEIGHTS = "weights"
"""The parameter that names a file of weights, where the project's grant lists any."""


class WeightsApproved:
    """A recipe begins from pretrained weights only if project and steward approved their digest.

    Guarantee: a recipe sees no file that nobody here looked at, and none comes from elsewhere.
    Assumption: SHA-256 is collision-resistant. What a file was trained on, approval can't tell.
    Source: Gu, Dolan-Gavitt and Garg 2017, "BadNets": weights that err on purpose look like others.
    """

    code = "weights-not-approved"

    def check(self, question: Question) -> None:
        """Refuse a file that the project doesn't list, or that isn't approved here."""
        work = question.job.work
        if not isinstance(work, TrainingWork):
            return
        named = work.parameters.get(WEIGHTS, "")
        grant = _grant(question, work)
        if grant is None or not grant.weights or named == "":
            return
        if named not in grant.weights or named not in question.approved_weights():
            raise Refused(self.code, "The weights that the job names are not approved here.")


class DraftsAllowed:
    """A recipe that leaves drafts runs only where the policy allows them.

    Guarantee: project and hospital both agreed that files are written here. None of them leaves.
    Assumption: no code of the link reads where they lie (``node.work.training.drafts``).
    Source: ``docs/reference/drafts.md``.
    """

    code = "drafts-off"

    def check(self, question: Question) -> None:
        """Refuse a recipe with drafts where the policy has them off."""
        work = question.job.work
        if not isinstance(work, TrainingWork):
            return
        grant = _grant(question, work)
        if grant is not None and grant.drafts and not question.policy.training.drafts:
            raise Refused(self.code, "The policy of this site allows no drafts.")


def _grant(question: Question, work: TrainingWork) -> RecipeGrant | None:
    assert question.project is not None
    return question.project.recipe(work.bundle)


def is_of_weights(name: str, value: Scalar, grant: RecipeGrant) -> bool:
    """Say whether a parameter names a file of weights, which has a rule of its own."""
    return name == WEIGHTS and bool(grant.weights) and isinstance(value, str)
