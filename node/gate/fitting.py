"""The rule that a release is of the dictionary by which it is asked."""

from __future__ import annotations

from contract.documents import StatisticsWork
from contract.errors import Refused
from node.catalog.columns import misfits
from node.gate.limits import variables_of
from node.gate.rules import Question


class FitsTheRelease:
    """A question's variables are of the type, unit and levels that the release's manifest says.

    Guarantee: a newer version of a project, or an older release, is refused by manifest and
    dictionary alone: before anything is spent, and whether or not a level that the dictionary
    hasn't got occurs in the data. Assumption: a table holds no level but those of its schema, which
    intake sees to.
    """

    code = "does-not-fit"

    def check(self, question: Question) -> None:
        """Refuse a question about a variable that the release has in another form."""
        if not isinstance(question.job.work, StatisticsWork):
            return
        assert question.project is not None
        assert question.release is not None
        asked = variables_of(question)
        for variable in question.project.variables:
            if variable.name in asked:
                problem = misfits(question.release.manifest, variable)
                if problem:
                    raise Refused(self.code, f"The release doesn't fit: {problem}.")
