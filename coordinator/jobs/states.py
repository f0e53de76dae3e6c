"""The states of a job and of each site in it, as tables keyed by (state, event).

A transition is written to the database before it is acted on. What isn't in the table can't happen.
"""

from __future__ import annotations

from enum import StrEnum

from contract.errors import DocumentError


class JobState(StrEnum):
    """Where a job is."""

    SUBMITTED = "submitted"
    OFFERED = "offered"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class JobEvent(StrEnum):
    """What happens to a job."""

    OFFER = "offer"  # the sites are asked
    START = "start"  # enough sites accepted, training begins
    RESULT = "result"  # the answer is complete
    TOO_FEW = "too-few"  # fewer sites than the minimum are left
    ERROR = "error"  # the recipe's server side ended without a model
    CANCEL = "cancel"  # the researcher or the operator stops it
    EXPIRE = "expire"  # its validity is over


J, E = JobState, JobEvent

JOB_TRANSITIONS: dict[tuple[JobState, JobEvent], JobState] = {
    (J.SUBMITTED, E.OFFER): J.OFFERED,
    (J.SUBMITTED, E.ERROR): J.FAILED,
    (J.SUBMITTED, E.CANCEL): J.CANCELLED,
    (J.SUBMITTED, E.EXPIRE): J.EXPIRED,
    (J.OFFERED, E.OFFER): J.OFFERED,
    (J.OFFERED, E.START): J.RUNNING,
    (J.OFFERED, E.RESULT): J.FINISHED,
    (J.OFFERED, E.TOO_FEW): J.FAILED,
    (J.OFFERED, E.ERROR): J.FAILED,
    (J.OFFERED, E.CANCEL): J.CANCELLED,
    (J.OFFERED, E.EXPIRE): J.EXPIRED,
    (J.RUNNING, E.RESULT): J.FINISHED,
    (J.RUNNING, E.TOO_FEW): J.FAILED,
    (J.RUNNING, E.ERROR): J.FAILED,
    (J.RUNNING, E.CANCEL): J.CANCELLED,
    (J.RUNNING, E.EXPIRE): J.EXPIRED,
}

ENDED = frozenset({J.FINISHED, J.FAILED, J.CANCELLED, J.EXPIRED})
UNFINISHED = frozenset(JobState) - ENDED


def after(state: JobState, event: JobEvent) -> JobState:
    """Return the state after ``event``; ``DocumentError`` when the table has no such transition."""
    following = JOB_TRANSITIONS.get((state, event))
    if following is None:
        raise DocumentError(f"A job that is {state} can't {event}.")
    return following


class SiteState(StrEnum):
    """Where one site is in one job."""

    WAITING = "waiting"  # asked, or to be asked when it is online
    HELD = "held"  # its steward is to decide
    ACCEPTED = "accepted"
    REFUSED = "refused"
    ANSWERED = "answered"
    FAILED = "failed"
    ABSENT = "absent"  # offline, or silent until the deadline
    REVOKED = "revoked"


UNDECIDED = frozenset({SiteState.WAITING, SiteState.HELD})
DECIDED = frozenset(SiteState) - UNDECIDED
