"""Drafts as the console shows them: how much each job left here, and whether it may be used.

A draft's file name and asset stand for one patient's picture, so that neither is read here: what
is shown is sums over a job's drafts. ``wardgate-node drafts`` shows single ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import func, select

from foundation.database import aware, reading
from node.catalog import schema
from node.catalog.store import Catalog

NEWEST_JOBS = 200


@dataclass(frozen=True)
class DraftsLine:
    """What one job left of one release by one recipe.

    ``state`` is ``withheld`` when the release is revoked: no draft of it is exported then.
    """

    job: str
    job_state: str
    """As on the page of jobs; empty when the job isn't known here any more."""
    consortium: str
    project: str
    researcher: str
    release: str
    release_name: str
    recipe: str
    recipe_name: str
    state: Literal["kept", "withheld"]
    files: int
    size_bytes: int
    kinds: Mapping[str, int]
    first_at: datetime
    last_at: datetime


def drafts_lines(catalog: Catalog) -> list[DraftsLine]:
    """Return the newest jobs that left drafts here, the newest first."""
    drafts, jobs = schema.drafts.c, schema.jobs.c
    releases, recipes = schema.releases.c, schema.recipes.c
    last = func.max(drafts.made_at)
    group = (drafts.job, drafts.release, drafts.recipe)
    query = (
        select(
            *group,
            func.count().label("files"),
            func.sum(drafts.size_bytes).label("size_bytes"),
            func.min(drafts.made_at).label("first_at"),
            last.label("last_at"),
        )
        .group_by(*group)
        .order_by(last.desc())
        .limit(NEWEST_JOBS)
    )
    by_kind = select(*group, drafts.kind, func.count().label("files")).group_by(*group, drafts.kind)
    with reading(catalog.reading) as connection:
        sums = connection.execute(query).all()
        shown = {row.job for row in sums}
        kinds: dict[tuple[str, str, str], dict[str, int]] = {}
        for row in connection.execute(by_kind.where(drafts.job.in_(shown)).order_by(drafts.kind)):
            kinds.setdefault((row.job, row.release, row.recipe), {})[row.kind] = row.files
        asked = {
            row.digest: row
            for row in connection.execute(
                select(jobs.digest, jobs.state, jobs.consortium, jobs.project, jobs.researcher)
                .where(jobs.digest.in_(shown))
            )
        }  # fmt: skip
        held = {
            row.digest: row
            for row in connection.execute(
                select(releases.digest, releases.name, releases.revoked_at)
                .where(releases.digest.in_({row.release for row in sums}))
            )
        }  # fmt: skip
        named = {
            row.bundle: row.name
            for row in connection.execute(
                select(recipes.bundle, recipes.name)
                .where(recipes.bundle.in_({row.recipe for row in sums}))
            )
        }  # fmt: skip
    lines = []
    for row in sums:
        job, release = asked.get(row.job), held.get(row.release)
        lines.append(
            DraftsLine(
                job=row.job,
                job_state=job.state if job else "",
                consortium=job.consortium if job else "",
                project=job.project if job else "",
                researcher=job.researcher if job else "",
                release=row.release,
                release_name=release.name if release else "",
                recipe=row.recipe,
                recipe_name=named.get(row.recipe, ""),
                state="withheld" if release and release.revoked_at else "kept",
                files=row.files,
                size_bytes=int(row.size_bytes),
                kinds=kinds.get((row.job, row.release, row.recipe), {}),
                first_at=aware(row.first_at),
                last_at=aware(row.last_at),
            )
        )
    return lines
