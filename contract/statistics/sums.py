"""A question whose parts are summed securely: its terms, alike at the sites and in the middle."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from contract.documents import Job, Project, Roster
from contract.errors import DocumentError
from contract.secure_aggregation.messages import Participant, Terms, smallest_threshold
from contract.statistics import words
from contract.work import StatisticsWork


def terms(
    digest: str, job: Job, project: Project, roster: Roster, sites: Sequence[str], minimum: int
) -> Terms:
    """Return the terms of the secure sum of a job's question over ``sites``.

    ``digest`` is the job's. There is one sum for a job: its session is the job's digest.
    ``DocumentError`` for a site that the job doesn't ask, or that isn't on the roster.
    """
    work = job.work
    if not isinstance(work, StatisticsWork) or not work.secure:
        raise DocumentError("The job asks for no secure sum.")
    if work.small_sites and (set(sites) != set(job.releases) or minimum != len(sites)):
        # Two sums over other sites would tell, by their difference, what those have who are in one.
        raise DocumentError("A sum with small sites is over all sites that the job asks.")
    everyone = participants(job, project, roster, sites)
    return Terms(
        session=hashlib.sha256(b"wardgate statistics\0" + bytes.fromhex(digest)).digest(),
        participants=everyone,
        minimum=minimum,
        length=words.length(work.ask, project),
        word=64,
        threshold=smallest_threshold(len(everyone)),
    )


def participants(
    job: Job, project: Project, roster: Roster, sites: Sequence[str]
) -> tuple[Participant, ...]:
    """Return who takes part; ``DocumentError`` unless the job asks each, and the roster has it."""
    found = []
    for name in sites:
        member = roster.site(name)
        if member is None or name not in job.releases or name not in project.sites:
            raise DocumentError("A secure sum names a site that the job doesn't ask.")
        found.append(Participant(member.name, member.key))
    return tuple(found)
