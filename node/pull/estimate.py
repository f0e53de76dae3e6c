"""What a pull would fetch: counted at the archive, nothing retrieved, nothing kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from node.pull.archive import Archive
from node.pull.question import Question


@dataclass(frozen=True)
class Estimate:
    """What the archive says that it has. It may not say all."""

    asked: int
    not_found: int
    studies: int
    series: int
    instances: int
    unsaid: int
    """Studies whose instances the archive doesn't count."""


def estimate(archive: Archive, questions: Sequence[Question], filters: Question) -> Estimate:
    """Ask the questions, and for series only where the archive's counts don't tell.

    ``filters`` are what holds for all; with a modality or body part only some series count.
    """
    seen: set[str] = set()
    not_found = series_total = instances_total = unsaid = 0
    by_series = bool(filters.modality or filters.body_part)
    for question in questions:
        found = list(archive.studies(question))
        not_found += not found
        for study in found:
            if study.uid in seen:
                continue
            seen.add(study.uid)
            series, instances = study.series, study.instances
            if by_series or not series or not instances:
                listed = archive.series(study.uid, filters)
                series = len(listed)
                instances = sum(one.instances for one in listed)
                unsaid += any(not one.instances for one in listed)
            series_total += series
            instances_total += instances
    return Estimate(len(questions), not_found, len(seen), series_total, instances_total, unsaid)
