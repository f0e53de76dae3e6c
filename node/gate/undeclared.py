"""Why a question has no exact answer, in a sentence of the question and the manifest alone.

So it is the same whoever is in the release, and tells what the hospital declared and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

from contract.errors import Refused
from contract.work import StatisticsWork
from node.catalog.manifest import Declaration

NOT_DECLARED = Refused(
    "not-declared",
    "The release declares no exact answer to this, and this site gives none with noise.",
)
_SHOWN = 8
"""Names, at most, that a sentence has."""


def undeclared(work: StatisticsWork, declaration: Declaration) -> Refused:
    """Return the refusal of a question of which the release declares nothing."""
    sets = {one.name: one.variables for one in declaration.analyses if one.by is not None}
    there = f"it has {_listed(list(sets))}" if sets else "it has none"
    if work.analysis is None:
        if sets and work.lane == "exact" and any(one.across for one in work.ask):
            return _refused(f"Several variables at once are asked of an analysis set; {there}.")
        return NOT_DECLARED
    if work.analysis not in sets:
        return _refused(f"The release has no analysis set {work.analysis}; {there}.")
    inside = sets[work.analysis]
    outside = [name for one in work.ask for name in one.variables if name not in inside]
    if not outside:
        return NOT_DECLARED
    return _refused(
        f"{outside[0]} is not in the release's analysis set {work.analysis}, which is of "
        f"{_listed(inside)}."
    )


def _refused(sentence: str) -> Refused:
    return Refused(NOT_DECLARED.code, sentence)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
