"""Whom we answer and what we were asked: consortia, projects, jobs and answers in the catalogue."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, insert, select, update
from sqlalchemy.exc import IntegrityError

from contract.documents import Job
from contract.errors import NotFound, Refused
from foundation.database import aware, reading
from foundation.statements import transaction
from node.catalog import prepared, schema


@dataclass(frozen=True)
class ConsortiumRow:
    """A consortium that this node belongs to."""

    name: str
    site: str
    address: str
    anchor: str
    roster: bytes | None


@dataclass(frozen=True)
class ProjectRow:
    """A project as known here; ``approved_digest`` is what our steward approved, if anything."""

    name: str
    version: int
    envelope: bytes
    approved_digest: str | None


@dataclass(frozen=True)
class AskedRow:
    """A job as asked of this node."""

    digest: str
    consortium: str
    project: str
    researcher: str
    kind: str
    release: str
    state: str
    code: str
    received_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True)
class AnswerRow:
    """A payload that passed the gate: its bytes, its receipt, and whether it was received."""

    job: str
    task: str
    payload: bytes
    tensors_digest: str
    tensors_size: int
    receipt: bytes
    received: bool


@dataclass(frozen=True)
class Asked:
    """The part of the catalogue that gate, link and pages share."""

    engine: Engine

    # ---- consortia and projects ----------------------------------------------------------------

    def consortia(self) -> list[ConsortiumRow]:
        """Return the consortia, by name."""
        table = schema.consortia
        with reading(self.engine) as connection:
            rows = connection.execute(select(table).order_by(table.c.name)).all()
        return [ConsortiumRow(r.name, r.site, r.address, r.anchor, r.roster) for r in rows]

    def consortium(self, name: str) -> ConsortiumRow:
        """Return one; ``NotFound`` when this node isn't in it."""
        found = next((c for c in self.consortia() if c.name == name), None)
        if found is None:
            raise NotFound(f"This node has not joined a consortium called {name}.")
        return found

    def put_consortium(self, row: ConsortiumRow, now: datetime) -> None:
        """Record that this node joined, or joined again."""
        table = schema.consortia
        values = {"site": row.site, "address": row.address, "anchor": row.anchor}
        with self.engine.begin() as connection:
            done = connection.execute(
                update(table).where(table.c.name == row.name).values(**values)
            )
            if done.rowcount == 0:
                connection.execute(insert(table).values(name=row.name, joined_at=now, **values))

    def put_roster(self, consortium: str, envelope: bytes) -> None:
        """Keep the roster that is believed."""
        table = schema.consortia
        with self.engine.begin() as connection:
            connection.execute(
                update(table).where(table.c.name == consortium).values(roster=envelope)
            )

    def projects(self, consortium: str) -> list[ProjectRow]:
        """Return a consortium's projects, by name."""
        table = schema.projects
        with reading(self.engine) as connection:
            rows = connection.execute(
                select(table).where(table.c.consortium == consortium).order_by(table.c.name)
            ).all()
        return [ProjectRow(r.name, r.version, r.envelope, r.approved_digest) for r in rows]

    def approved_digest(self, consortium: str, name: str) -> str | None:
        """Return which version of a project our steward approved, if any."""
        found = prepared.APPROVED.row(self.engine, consortium=consortium, name=name)
        return None if found is None else found[0]

    def put_project(self, consortium: str, name: str, version: int, envelope: bytes) -> None:
        """Keep a project's envelope; what was approved stays as it was."""
        table = schema.projects
        key = (table.c.consortium == consortium, table.c.name == name)
        with self.engine.begin() as connection:
            done = connection.execute(
                update(table).where(*key).values(envelope=envelope, version=version)
            )
            if done.rowcount == 0:
                connection.execute(
                    insert(table).values(
                        consortium=consortium, name=name, version=version, envelope=envelope
                    )
                )

    def approve_project(
        self, consortium: str, name: str, digest: str | None, now: datetime
    ) -> None:
        """Note which version our steward approved; None takes the approval back."""
        table = schema.projects
        with self.engine.begin() as connection:
            done = connection.execute(
                update(table)
                .where(table.c.consortium == consortium, table.c.name == name)
                .values(approved_digest=digest, approved_at=now if digest else None)
            )
        if done.rowcount == 0:
            raise NotFound(f"Project {name} is not known here.")

    def approved_recipes(self) -> frozenset[str]:
        """Return the digests of the bundles that our steward approved and didn't withdraw."""
        return frozenset(bundle for (bundle,) in prepared.APPROVED_RECIPES.rows(self.engine))

    def approved_weights(self) -> frozenset[str]:
        """Return the digests of the weights that our steward approved and didn't withdraw."""
        table = schema.weights
        with reading(self.engine) as connection:
            rows = connection.execute(
                select(table.c.digest).where(table.c.withdrawn_at.is_(None))
            ).all()
        return frozenset(r.digest for r in rows)

    def withdrawn_recipes(self) -> frozenset[str]:
        """Return the digests of the bundles that our steward let in once and withdrew."""
        table = schema.recipes
        with reading(self.engine) as connection:
            rows = connection.execute(
                select(table.c.bundle).where(table.c.withdrawn_at.is_not(None))
            ).all()
        return frozenset(r.bundle for r in rows)

    # ---- jobs ----------------------------------------------------------------------------------

    def seen_nonce(self, nonce: str) -> str | None:
        """Return ``DIGEST:STATE`` of the job that used a nonce, or None."""
        found = prepared.SEEN.row(self.engine, nonce=nonce)
        return f"{found[0]}:{found[1]}" if found else None

    def asked_since(self, consortium: str, researcher: str, since: datetime, most: int) -> int:
        """Return how many jobs a researcher of a consortium asked since a time, up to ``most``."""
        found = prepared.ASKED_BY.row(
            self.engine, consortium=consortium, name=researcher, since=since, most=most
        )
        return int(found[0]) if found else 0

    def asked_of_project(self, consortium: str, project: str, since: datetime, most: int) -> int:
        """Return how many jobs were asked under a project since a time, up to ``most``."""
        found = prepared.ASKED_UNDER.row(
            self.engine, consortium=consortium, name=project, since=since, most=most
        )
        return int(found[0]) if found else 0

    def add_job(
        self,
        digest: str,
        job: Job,
        site: str,
        envelope: bytes,
        state: str,
        code: str,
        now: datetime,
    ) -> None:
        """Record a decided job; the same again is no error, another under its nonce is a replay.

        One that is let in or waits is durable once a later entry of catalogue is; nothing of it
        leaves before (``node.gate.sealing``).
        """
        try:
            with transaction(self.engine, durable=state == "refused") as within:
                prepared.ADD_JOB.execute(
                    within,
                    digest=digest,
                    consortium=job.consortium,
                    nonce=job.nonce,
                    envelope=envelope,
                    project=job.project,
                    researcher=job.researcher,
                    kind=job.work.kind,
                    release=job.releases.get(site, ""),
                    state=state,
                    code=code,
                    received_at=now,
                    closed_at=None,
                )
        except IntegrityError:
            if self.seen_nonce(job.nonce) != f"{digest}:{state}":
                raise Refused("replay", "This job was seen before.") from None

    def set_state(self, digest: str, state: str, now: datetime, code: str = "") -> None:
        """Note that a job was refused after all, or closed."""
        with self.engine.begin() as connection:
            connection.execute(
                update(schema.jobs)
                .where(schema.jobs.c.digest == digest)
                .values(state=state, code=code, closed_at=now)
            )

    def accept(self, digest: str) -> None:
        """Note that a job which waited for the steward is let in."""
        table = schema.jobs
        with self.engine.begin() as connection:
            connection.execute(
                update(table)
                .where(table.c.digest == digest, table.c.state == "waiting")
                .values(state="accepted")
            )

    def open_jobs(self, consortium: str, *states: str) -> list[tuple[str, bytes]]:
        """Return (digest, envelope) of jobs that aren't closed, oldest first.

        Without ``states``, of the accepted ones.
        """
        table = schema.jobs
        with reading(self.engine) as connection:
            rows = connection.execute(
                select(table.c.digest, table.c.envelope)
                .where(table.c.consortium == consortium, table.c.state.in_(states or ("accepted",)))
                .order_by(table.c.received_at)
            ).all()
        return [(r.digest, r.envelope) for r in rows]

    def over(self, jobs: Collection[str]) -> set[str]:
        """Return which of these jobs are known here and under way no more."""
        table = schema.jobs
        with reading(self.engine) as connection:
            rows = connection.execute(
                select(table.c.digest).where(
                    table.c.digest.in_(jobs), table.c.state.not_in(("accepted", "waiting"))
                )
            ).all()
        return {r.digest for r in rows}

    def newest_jobs(self, limit: int = 100) -> list[AskedRow]:
        """Return the newest jobs first."""
        table = schema.jobs
        with reading(self.engine) as connection:
            rows = connection.execute(
                select(table).order_by(table.c.received_at.desc()).limit(limit)
            ).all()
        return [
            AskedRow(
                digest=r.digest,
                consortium=r.consortium,
                project=r.project,
                researcher=r.researcher,
                kind=r.kind,
                release=r.release,
                state=r.state,
                code=r.code,
                received_at=aware(r.received_at),
                closed_at=aware(r.closed_at) if r.closed_at else None,
            )
            for r in rows
        ]

    # ---- answers -------------------------------------------------------------------------------

    def add_answer(self, row: AnswerRow, sequence: int, seconds: float) -> None:
        """Keep a payload until it is received, so that a crash needs no second working out."""
        with transaction(self.engine) as within:
            prepared.ADD_ANSWER.execute(
                within,
                job=row.job,
                task=row.task,
                ledger_sequence=sequence,
                payload=row.payload,
                tensors_digest=row.tensors_digest,
                tensors_size=row.tensors_size,
                receipt=row.receipt,
                received=row.received,
                seconds=seconds,
            )

    def answer(self, job: str, task: str) -> AnswerRow | None:
        """Return the answer to a task, or None."""
        found = prepared.ANSWER.row(self.engine, job=job, task=task)
        if found is None:
            return None
        payload, tensors_digest, tensors_size, receipt, received = found
        return AnswerRow(job, task, payload, tensors_digest, tensors_size, receipt, bool(received))

    def drop_answer(self, job: str, task: str) -> None:
        """Forget an answer that never left."""
        with transaction(self.engine) as within:
            prepared.DROP_ANSWER.execute(within, job=job, task=task)

    def has_answered(self, job: str) -> bool:
        """Say whether any task of a job was answered."""
        return prepared.HAS_ANSWERED.row(self.engine, job=job) is not None

    def received(self, consortium: str, job: str, task: str) -> bool:
        """Note that the coordinator has an answer durably; say whether there is one for it.

        After a power cut this may be forgotten; then the answer is sent again.
        """
        with transaction(self.engine, durable=False) as within:
            done = prepared.RECEIVED.execute(within, consortium=consortium, job=job, task=task)
            return bool(done.rowcount)

    def close(self, consortium: str, job: str, now: datetime) -> bool:
        """Close a job if it was open, and forget its payloads; the ledger keeps what it must.

        Says whether the job is one of this consortium's. After a power cut this may be forgotten;
        the coordinator then says so again.
        """
        with transaction(self.engine, durable=False) as within:
            if prepared.IS_OF.execute(within, consortium=consortium, job=job).fetchone() is None:
                return False
            prepared.CLOSE.execute(within, job=job, now=now)
            prepared.NOT_HELD.execute(within, job=job)
            prepared.DROP_ANSWERS.execute(within, job=job)
        return True
