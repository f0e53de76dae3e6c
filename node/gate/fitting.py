"""The rule that a release is of the dictionary by which it is asked."""

from __future__ import annotations

from contract.dictionary import Variable
from contract.errors import Refused
from contract.work import StatisticsWork
from node.catalog.columns import misfits
from node.catalog.manifest import ReleaseColumn
from node.gate.limits import variables_of
from node.gate.rules import Question


class FitsTheRelease:
    """A question's variables are of the type, unit and levels that the release's manifest says;
    numbers of a model are kept within the dictionary's ranges by the release itself.

    Guarantee: a newer version of a project, or an older release, is refused by manifest and
    dictionary alone: before anything is spent, and whether or not a level that the dictionary
    hasn't got occurs in the data. A model's sums, which bring numbers into the dictionary's ranges,
    are of the same numbers as other exact answers, in whatever project: else their difference would
    be that of the few outside. Assumption: a table holds no level and no number but those of its
    schema, which intake sees to. Source: ``docs/decisions/0031-models-follow-the-dictionary.md``.
    """

    code = "does-not-fit"

    def check(self, question: Question) -> None:
        """Refuse a question about a variable that the release has in another form."""
        work = question.job.work
        if not isinstance(work, StatisticsWork):
            return
        assert question.project is not None
        assert question.release is not None
        asked = variables_of(question)
        modelled = set() if work.fit is None else set(work.fit.variables)
        for variable in question.project.variables:
            column = question.release.manifest.column(variable.name)
            if variable.name not in asked or column is None:
                continue
            problem = misfits(question.release.manifest, variable)
            if problem:
                raise Refused(self.code, f"The release doesn't fit: {problem}.")
            if variable.name in modelled and not _is_within(column, variable):
                raise Refused(
                    self.code,
                    f"The release's table keeps {variable.name} within no range, or within another "
                    "than the dictionary's, which a model needs.",
                )


def _is_within(column: ReleaseColumn, variable: Variable) -> bool:
    """Say whether a column's own range, if it is a number's, is within the dictionary's."""
    if variable.kind == "category":
        return True
    low = variable.minimum is None or (
        column.minimum is not None and column.minimum >= variable.minimum
    )
    high = variable.maximum is None or (
        column.maximum is not None and column.maximum <= variable.maximum
    )
    return low and high
