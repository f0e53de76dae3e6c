"""The registry of models: every finished model under its digest, with where it comes from.

A model is called by the SHA-256 of its safetensors file, so who holds the file can find it here. A
model is recorded before its job is finished, and is there once the job is.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, Select, delete, insert, select

from contract import wire_pb2 as wire
from contract.errors import NotFound
from coordinator import schema
from coordinator.jobs.states import JobState
from foundation.database import aware, reading

MODELS, JOBS = schema.models, schema.jobs


@dataclass(frozen=True)
class ModelRegistry:
    """The finished models of a consortium."""

    engine: Engine

    def record(self, record: wire.ModelRecord) -> None:
        """Write what is known of a job's model, in place of what was written before."""
        with self.engine.begin() as connection:
            connection.execute(delete(MODELS).where(MODELS.c.job == record.job))
            connection.execute(
                insert(MODELS).values(
                    job=record.job,
                    digest=record.digest,
                    project=record.project,
                    record=record.SerializeToString(),
                )
            )

    def recorded(self) -> set[str]:
        """Return the jobs whose model is recorded, finished or not."""
        with reading(self.engine) as connection:
            return set(connection.execute(select(MODELS.c.job)).scalars())

    def all(self, projects: Collection[str] | None = None) -> list[wire.ModelRecord]:
        """Return the models of these projects, or of all, the newest first."""
        query = _finished().order_by(JOBS.c.ended_at.desc(), MODELS.c.job)
        if projects is not None:
            query = query.where(MODELS.c.project.in_(sorted(projects)))
        return self._read(query)

    def find(self, name: str, projects: Collection[str] | None = None) -> wire.ModelRecord:
        """Return the model of this digest or job. Of several jobs that gave it, the first.

        ``NotFound`` when there is none in these projects: another's model doesn't exist.
        """
        query = _finished().where((MODELS.c.digest == name) | (MODELS.c.job == name))
        if projects is not None:
            query = query.where(MODELS.c.project.in_(sorted(projects)))
        found = self._read(query.order_by(JOBS.c.ended_at, MODELS.c.job).limit(1))
        if not found:
            raise NotFound("There is no such model.")
        return found[0]

    def check_origin(self, digest: str, project: str, known: Collection[str]) -> None:
        """Refuse a job of a project that would begin with a model which the project hasn't got.

        ``known`` are the projects that its researcher is in: of a model in one of these, the
        sentence says why that isn't enough.
        """
        try:
            self.find(digest, {project})
        except NotFound:
            short = digest[:12]
            try:
                other = self.find(digest, set(known)).project
            except NotFound:
                raise NotFound(f"Project {project} has no model {short} to start from.") from None
            raise NotFound(
                f"Model {short} is of project {other}, whose hospitals didn't agree that it goes "
                f"to those of {project}; a job starts from a model of its own project."
            ) from None

    def _read(self, query: Select[tuple[bytes, datetime]]) -> list[wire.ModelRecord]:
        with reading(self.engine) as connection:
            rows = connection.execute(query).all()
        records: list[wire.ModelRecord] = []
        for row in rows:
            record = wire.ModelRecord.FromString(row.record)
            record.time = aware(row.ended_at).timestamp()
            records.append(record)
        return records


def _finished() -> Select[tuple[bytes, datetime]]:
    joined = MODELS.join(JOBS, MODELS.c.job == JOBS.c.digest)
    return (
        select(MODELS.c.record, JOBS.c.ended_at)
        .select_from(joined)
        .where(JOBS.c.state == JobState.FINISHED)
    )
