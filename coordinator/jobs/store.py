"""Jobs in the database: every change is committed before anybody acts on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from contract import wire_pb2 as wire
from contract.documents import Job
from contract.errors import DocumentError, NotFound
from contract.trust import Believed
from coordinator import schema
from coordinator.jobs import states
from coordinator.jobs.states import JobEvent, JobState, SiteState
from foundation.database import aware, reading
from foundation.statements import Prepared, transaction

MAX_EVENTS_A_JOB = 100_000

_J, _S = schema.jobs.c, schema.job_sites.c
_STATE = Prepared(select(_J.state).where(_J.digest == bindparam("job")))
_STANDING = Prepared(
    select(_J.researcher, _J.state, _J.reason).where(_J.digest == bindparam("job"))
)
_RESULT = Prepared(select(_J.result).where(_J.digest == bindparam("job")))
_SITES = Prepared(
    select(_S.site, _S.state, _S.code, _S.sentence)
    .where(_S.job == bindparam("which"))
    .order_by(_S.site)
)
_RECEIPTS = Prepared(
    select(schema.replies.c.receipt)
    .where(schema.replies.c.job == bindparam("which"))
    .order_by(schema.replies.c.site, schema.replies.c.task)
)
_ADD_SITE = Prepared(insert(schema.job_sites))
_MOVE = Prepared(
    update(schema.jobs)
    .where(_J.digest == bindparam("job"))
    .values(state=bindparam("after"), reason=bindparam("why"))
)
_END = Prepared(
    update(schema.jobs)
    .where(_J.digest == bindparam("job"))
    .values(
        state=bindparam("after"),
        reason=bindparam("why"),
        ended_at=bindparam("now"),
        result=bindparam("outcome"),
    )
)
_DROP_REPLIES = Prepared(delete(schema.replies).where(schema.replies.c.job == bindparam("job")))
_ADD_REPLY = Prepared(insert(schema.replies))
_ANSWERED = Prepared(
    update(schema.job_sites)
    .where(_S.job == bindparam("which"), _S.site == bindparam("who"))
    .values(state="answered", code="", sentence="")
)


@dataclass(frozen=True)
class JobRow:
    """One job as kept."""

    digest: str
    envelope: bytes
    researcher: str
    project: str
    kind: str
    state: JobState
    reason: str
    submitted_at: datetime
    ended_at: datetime | None
    result: bytes | None


@dataclass(frozen=True)
class Standing:
    """Whose a job is, and where it is."""

    researcher: str
    state: JobState
    reason: str


@dataclass(frozen=True)
class SiteRow:
    """One site of one job."""

    site: str
    state: SiteState
    code: str
    sentence: str


@dataclass(frozen=True)
class JobStore:
    """All jobs of the coordinator."""

    engine: Engine

    def add(self, believed: Believed[Job], now: datetime) -> None:
        """Record a new job. The same job again is no error; its nonce under another is a replay."""
        job = believed.document
        if self.known(believed.digest):
            return
        try:
            with self.engine.begin() as connection:
                connection.execute(
                    insert(schema.jobs).values(
                        digest=believed.digest,
                        nonce=job.nonce,
                        envelope=believed.envelope,
                        researcher=job.researcher,
                        project=job.project,
                        kind=job.work.kind,
                        state=JobState.SUBMITTED,
                        reason="",
                        submitted_at=now,
                    )
                )
                connection.execute(
                    insert(schema.job_sites),
                    [
                        {
                            "job": believed.digest,
                            "site": site,
                            "state": SiteState.WAITING,
                            "code": "",
                            "sentence": "",
                        }
                        for site in job.releases
                    ],
                )
        except IntegrityError:
            raise DocumentError("A job's nonce was used before; sign a new job.") from None

    def known(self, digest: str) -> bool:
        """Say whether the job is recorded."""
        return _STATE.row(self.engine, job=digest) is not None

    def get(self, digest: str) -> JobRow:
        """Return a job; ``NotFound`` when there is none."""
        with reading(self.engine) as connection:
            row = connection.execute(
                select(schema.jobs).where(schema.jobs.c.digest == digest)
            ).one_or_none()
        if row is None:
            raise NotFound("There is no such job.")
        return _row(row)

    def newest(self, limit: int = 100) -> list[JobRow]:
        """Return the newest jobs first."""
        query = select(schema.jobs).order_by(schema.jobs.c.submitted_at.desc()).limit(limit)
        with reading(self.engine) as connection:
            return [_row(r) for r in connection.execute(query)]

    def unfinished(self) -> list[JobRow]:
        """Return the jobs that a restarted coordinator takes up again, oldest first."""
        query = (
            select(schema.jobs)
            .where(schema.jobs.c.state.in_(sorted(states.UNFINISHED)))
            .order_by(schema.jobs.c.submitted_at)
        )
        with reading(self.engine) as connection:
            return [_row(r) for r in connection.execute(query)]

    def of_kind(self, kind: str, state: JobState) -> list[JobRow]:
        """Return the jobs of a kind that are in a state, oldest first."""
        query = (
            select(schema.jobs)
            .where(schema.jobs.c.kind == kind, schema.jobs.c.state == state)
            .order_by(schema.jobs.c.submitted_at)
        )
        with reading(self.engine) as connection:
            return [_row(r) for r in connection.execute(query)]

    def move(
        self,
        digest: str,
        event: JobEvent,
        now: datetime,
        reason: str = "",
        result: bytes | None = None,
    ) -> JobState:
        """Apply a transition of the table and return the new state.

        That a job is offered need not be durable: after a power cut it is offered again.
        """
        with transaction(self.engine, durable=event is not JobEvent.OFFER) as within:
            row = _STATE.execute(within, job=digest).fetchone()
            if row is None:
                raise NotFound("There is no such job.")
            state = states.after(JobState(row[0]), event)
            if state in states.ENDED:
                _END.execute(
                    within, job=digest, after=str(state), why=reason, now=now, outcome=result
                )
            else:
                _MOVE.execute(within, job=digest, after=str(state), why=reason)
        return state

    def state(self, digest: str) -> JobState:
        """Return where a job is; ``NotFound`` when there is none."""
        return self.standing(digest).state

    def standing(self, digest: str) -> Standing:
        """Return whose a job is, and where; ``NotFound`` when there is none."""
        row = _STANDING.row(self.engine, job=digest)
        if row is None:
            raise NotFound("There is no such job.")
        return Standing(row[0], JobState(row[1]), row[2])

    def result(self, digest: str) -> bytes:
        """Return what came of a job; empty when nothing did."""
        row = _RESULT.row(self.engine, job=digest)
        return (row[0] or b"") if row is not None else b""

    def sites(self, digest: str) -> list[SiteRow]:
        """Return the job's sites by name."""
        rows = _SITES.rows(self.engine, which=digest)
        return [SiteRow(site, SiteState(state), *rest) for site, state, *rest in rows]

    def set_site(
        self, digest: str, site: str, state: SiteState, code: str = "", sentence: str = ""
    ) -> None:
        """Note where a site is."""
        table = schema.job_sites
        with self.engine.begin() as connection:
            connection.execute(
                update(table)
                .where(table.c.job == digest, table.c.site == site)
                .values(state=state, code=code, sentence=sentence)
            )

    def add_replies(self, digest: str, replies: Mapping[str, wire.Reply]) -> None:
        """Keep the replies of a job's sites, all or none, and mark the sites as answered.

        They are durable with the job's next transition; until it is closed, each site keeps its
        own.
        """
        with transaction(self.engine, durable=False) as within:
            _DROP_REPLIES.execute(within, job=digest)
            for site, reply in replies.items():
                _ADD_REPLY.execute(
                    within,
                    job=digest,
                    site=site,
                    task=reply.task,
                    payload=reply.payload,
                    receipt=reply.receipt,
                )
                _ANSWERED.execute(within, which=digest, who=site)

    def add_receipt(self, digest: str, site: str, task: str, receipt: bytes) -> None:
        """Keep the receipt of a training reply, whose payload lies on disk; again is no error."""
        table, sites = schema.replies, schema.job_sites
        key = (table.c.job == digest, table.c.site == site, table.c.task == task)
        with self.engine.begin() as connection:
            if connection.execute(select(table.c.task).where(*key)).one_or_none() is not None:
                return
            connection.execute(
                insert(table).values(job=digest, site=site, task=task, payload=b"", receipt=receipt)
            )
            connection.execute(
                update(sites)
                .where(sites.c.job == digest, sites.c.site == site)
                .values(state=SiteState.ANSWERED, code="", sentence="")
            )

    def replied(self, digest: str) -> set[str]:
        """Return the sites that answered anything of a job, whatever became of them since."""
        table = schema.replies
        with reading(self.engine) as connection:
            rows = connection.execute(
                select(table.c.site).where(table.c.job == digest).distinct()
            ).all()
        return {r.site for r in rows}

    def receipts(self, digest: str) -> list[bytes]:
        """Return the receipts of every reply, by site and task."""
        return [receipt for (receipt,) in _RECEIPTS.rows(self.engine, which=digest)]

    def add_event(self, digest: str, event: wire.JobEvent) -> bool:
        """Append an event, giving it the next number; False once a job has too many."""
        table = schema.job_events
        with self.engine.begin() as connection:
            last = connection.execute(
                select(func.max(table.c.sequence)).where(table.c.job == digest)
            ).scalar()
            event.sequence = 0 if last is None else int(last) + 1
            if event.sequence >= MAX_EVENTS_A_JOB:
                return False
            connection.execute(
                insert(table).values(
                    job=digest, sequence=event.sequence, event=event.SerializeToString()
                )
            )
        return True

    def events(self, digest: str, start: int = 0) -> list[wire.JobEvent]:
        """Return a job's events from a number on."""
        table = schema.job_events
        with reading(self.engine) as connection:
            rows = connection.execute(
                select(table.c.event)
                .where(table.c.job == digest, table.c.sequence >= start)
                .order_by(table.c.sequence)
            ).all()
        return [wire.JobEvent.FromString(r.event) for r in rows]


def _row(row: object) -> JobRow:
    values = row._mapping  # type: ignore[attr-defined]
    return JobRow(
        digest=values["digest"],
        envelope=values["envelope"],
        researcher=values["researcher"],
        project=values["project"],
        kind=values["kind"],
        state=JobState(values["state"]),
        reason=values["reason"],
        submitted_at=aware(values["submitted_at"]),
        ended_at=aware(values["ended_at"]) if values["ended_at"] else None,
        result=values["result"],
    )
