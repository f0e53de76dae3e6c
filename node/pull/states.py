"""The life of a pull, its requests and its studies, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class JobState(StrEnum):
    """A pull."""

    FINDING = "finding"
    FETCHING = "fetching"
    FINISHED = "finished"


class RequestState(StrEnum):
    """One question of a pull: a number of its list, or its query."""

    PENDING = "pending"
    FOUND = "found"
    NOT_FOUND = "not found"
    REFUSED = "refused"
    """The archive can't answer this one question."""


class StudyState(StrEnum):
    """One study of a pull."""

    PENDING = "pending"
    COMPLETE = "complete"
    """Everything that was wanted of it is here."""
    INCOMPLETE = "incomplete"
    """Something didn't come, though it was asked for as often as allowed."""
    EMPTY = "empty"
    """The archive has nothing of it that was asked for."""


JOB: Mapping[tuple[JobState, str], JobState] = {
    (JobState.FINDING, "found"): JobState.FETCHING,
    (JobState.FETCHING, "done"): JobState.FINISHED,
    (JobState.FINISHED, "resumed"): JobState.FETCHING,
    (JobState.FETCHING, "resumed"): JobState.FETCHING,
    (JobState.FINDING, "resumed"): JobState.FINDING,
}

REQUEST: Mapping[tuple[RequestState, str], RequestState] = {
    (RequestState.PENDING, "matched"): RequestState.FOUND,
    (RequestState.PENDING, "unmatched"): RequestState.NOT_FOUND,
    (RequestState.PENDING, "refused"): RequestState.REFUSED,
}

STUDY: Mapping[tuple[StudyState, str], StudyState] = {
    (StudyState.PENDING, "arrived"): StudyState.COMPLETE,
    (StudyState.PENDING, "given up"): StudyState.INCOMPLETE,
    (StudyState.PENDING, "nothing there"): StudyState.EMPTY,
    (StudyState.INCOMPLETE, "resumed"): StudyState.PENDING,
}
"""No way leads out of what is complete: it is never asked for again."""
