"""What an answer says of the sites that are not in it, and when it is no estimate for that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from contract.documents import Project

if TYPE_CHECKING:
    from researcher.statistics import PartAnswer

_WORDS = {"absent": "offline or too late"}
"""Where a site's state isn't said by its own name."""
_LEAST = 0.005


def absent_note(states: Iterable[str], share: float, what: str) -> list[str]:
    """Return what sites that are not in an answer mean for it; nothing when nobody is missing.

    ``states`` are those sites' states, ``share`` is theirs of the subjects listed at all sites that
    were asked, and ``what`` names the answer.
    """
    counted = Counter(_WORDS.get(state, state) for state in states)
    if not counted or not 0 < share <= 1:
        return []
    who = ", ".join(f"{number} {word}" for word, number in counted.items())
    return [
        f"{percent(share)} of the listed subjects are at sites that are not in this {what} "
        f"({who}): it is of the others' patients."
    ]


def percent(share: float) -> str:
    """Return a share in whole per cent, so that what is missing never reads as nothing."""
    return "under 1%" if 0 < share < _LEAST else f"{share:.0%}"


def misses_too_much(share: float, unnamed: int, answered: int, project: Project) -> bool:
    """Say whether more is missing than a project lets be missing, whatever a coordinator says.

    ``unnamed`` of ``answered`` sites withheld theirs in a secure sum; then the share is of sites.
    """
    least = unnamed / answered if answered else 0.0
    return not max(share, least) <= project.most_missing_share


def _who(part: PartAnswer) -> str:
    if part.withheld:
        return ", ".join(part.withheld)
    return "one site" if part.unnamed == 1 else f"{part.unnamed} sites"


def part_notes(part: PartAnswer, project: Project) -> list[str]:
    """Return what is not in one statistic, in sentences."""
    what = f"{part.statistic.kind} of {part.statistic.variable}"
    if part.statistic.by:
        what += f" by {part.statistic.by}"
    of = "sites" if part.secure else "subjects"
    share = f" ({percent(part.missing_share)} of {of})" if part.missing_share else ""
    said = []
    if part.withheld or part.unnamed:
        said.append(
            f"{_who(part)} withheld {what}{share}: left out of numerator and denominator alike."
        )
    if part.partial:
        said.append(f"{', '.join(part.partial)}: not in all groups of {what}.")
    if part.too_much_missing:
        said.append(
            f"No estimate of {what}: the project allows {project.most_missing_share:.0%} of "
            f"{of} to be missing, and {percent(part.missing_share)} are."
        )
    if part.too_much_missing_groups:
        said.append(
            f"No estimate of {what} for {', '.join(part.too_much_missing_groups)}: more than "
            f"{project.most_missing_share:.0%} of {of} are missing there."
        )
    return said
