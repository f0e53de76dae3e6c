"""What waits for a steward, what stewards decided, and held outputs, in the catalogue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Engine, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from contract.errors import NotFound
from foundation.database import aware, reading
from node.catalog import prepared, schema


@dataclass(frozen=True)
class InboxRow:
    """One thing that waits or waited: a job, or an output of a task of it."""

    number: int
    what: str
    subject: str
    job: str
    task: str
    reasons: tuple[str, ...]
    state: str
    arrived_at: datetime
    consortium: str
    project: str
    researcher: str
    kind: str
    envelope: bytes
    payload: bytes | None
    tensors_digest: str
    tensors_size: int
    entry: dict[str, Any]
    seconds: float


@dataclass(frozen=True)
class StewardRow:
    """A steward whom the first one registered."""

    key_id: str
    name: str
    envelope: bytes
    added_at: datetime
    removed_at: datetime | None


@dataclass(frozen=True)
class Inbox:
    """The part of the catalogue that a steward decides on."""

    engine: Engine

    # ---- what waits ----------------------------------------------------------------------------

    def add_job(self, job: str, reasons: tuple[str, ...], now: datetime) -> bool:
        """Let a job wait; say whether it did not yet."""
        return self._add("job", job, job, "", reasons, now)

    def hold(
        self,
        subject: str,
        job: str,
        task: str,
        payload: bytes,
        tensors: tuple[str, int],
        entry: Mapping[str, object],
        seconds: float,
        now: datetime,
    ) -> bool:
        """Hold an output. ``tensors``: digest and size of its blob; ``entry``: of the ledger."""
        return self._add(
            "output",
            subject,
            job,
            task,
            ("output",),
            now,
            payload=payload,
            tensors_digest=tensors[0],
            tensors_size=tensors[1],
            entry=json.dumps(entry),
            seconds=seconds,
        )

    def _add(
        self,
        what: str,
        subject: str,
        job: str,
        task: str,
        reasons: tuple[str, ...],
        now: datetime,
        **more: Any,
    ) -> bool:
        values = {
            "what": what,
            "subject": subject,
            "job": job,
            "task": task,
            "reasons": ",".join(reasons),
            "state": "waiting",
            "arrived_at": now,
        }
        try:
            with self.engine.begin() as connection:
                connection.execute(insert(schema.inbox).values(**values | more))
        except IntegrityError:
            return False
        return True

    def rows(self, *states: str, consortium: str = "") -> list[InboxRow]:
        """Return rows in these states (all without any), oldest first."""
        wanted: list[ColumnElement[bool]] = []
        if states:
            wanted.append(schema.inbox.c.state.in_(states))
        if consortium:
            wanted.append(schema.jobs.c.consortium == consortium)
        return self._rows(*wanted)

    def _rows(self, *wanted: ColumnElement[bool]) -> list[InboxRow]:
        table, jobs = schema.inbox, schema.jobs
        query = (
            select(
                table,
                jobs.c.consortium,
                jobs.c.project,
                jobs.c.researcher,
                jobs.c.kind,
                jobs.c.envelope,
            )
            .join(jobs, jobs.c.digest == table.c.job)
            .where(*wanted)
            .order_by(table.c.number)
        )
        with reading(self.engine) as connection:
            return [_row(r) for r in connection.execute(query)]

    def row(self, number: int) -> InboxRow:
        """Return one; ``NotFound`` when there is none."""
        found = self._rows(schema.inbox.c.number == number)
        if not found:
            raise NotFound(f"There is no number {number} in the inbox.")
        return found[0]

    def held(self, job: str, task: str) -> InboxRow | None:
        """Return the output of a task that is or was held, or None."""
        table = schema.inbox
        found = self._rows(table.c.job == job, table.c.task == task, table.c.what == "output")
        return found[0] if found else None

    def count_waiting(self) -> int:
        """Return how much waits."""
        query = select(func.count()).where(schema.inbox.c.state == "waiting")
        with reading(self.engine) as connection:
            return int(connection.execute(query).scalar() or 0)

    def finish(self, subject: str, state: str) -> None:
        """Note what became of something; a held payload is kept no longer."""
        table = schema.inbox
        with self.engine.begin() as connection:
            connection.execute(
                update(table)
                .where(table.c.subject == subject, table.c.state == "waiting")
                .values(state=state, payload=None)
            )

    def untold(self) -> list[InboxRow]:
        """Return what waits and no steward was told of."""
        return self._rows(schema.inbox.c.state == "waiting", schema.inbox.c.told_at.is_(None))

    def told(self, rows: list[InboxRow], now: datetime) -> None:
        """Note that the steward was told of these."""
        table = schema.inbox
        with self.engine.begin() as connection:
            connection.execute(
                update(table)
                .where(table.c.number.in_([r.number for r in rows]))
                .values(told_at=now)
            )

    # ---- decisions and those who make them -----------------------------------------------------

    def add_decision(self, subject: str, key_id: str, envelope: bytes, now: datetime) -> None:
        """Keep a steward's decision; a later one of the same steward takes its place."""
        table = schema.decisions
        with self.engine.begin() as connection:
            done = connection.execute(
                update(table)
                .where(table.c.subject == subject, table.c.key_id == key_id)
                .values(envelope=envelope, made_at=now)
            )
            if done.rowcount == 0:
                connection.execute(
                    insert(table).values(
                        subject=subject, key_id=key_id, envelope=envelope, made_at=now
                    )
                )

    def decisions(self, subject: str) -> list[bytes]:
        """Return the decisions on a job, an output or a bundle."""
        return [envelope for (envelope,) in prepared.DECISIONS.rows(self.engine, subject=subject)]

    def stamp(self) -> tuple[int, str]:
        """Return what changes whenever a decision is made."""
        ((count, newest),) = prepared.DECIDED.rows(self.engine)
        return int(count), str(newest)

    def stewards(self, *, removed: bool = False) -> list[StewardRow]:
        """Return the registered stewards, by name; those who were removed too if asked for."""
        table = schema.stewards
        query = select(table).order_by(table.c.name, table.c.added_at)
        if not removed:
            query = query.where(table.c.removed_at.is_(None))
        with reading(self.engine) as connection:
            return [
                StewardRow(
                    r.key_id,
                    r.name,
                    r.envelope,
                    aware(r.added_at),
                    aware(r.removed_at) if r.removed_at else None,
                )
                for r in connection.execute(query)
            ]

    def add_steward(self, key_id: str, name: str, envelope: bytes, now: datetime) -> None:
        """Register a steward, perhaps again."""
        table = schema.stewards
        values = {"name": name, "envelope": envelope, "added_at": now, "removed_at": None}
        with self.engine.begin() as connection:
            done = connection.execute(
                update(table).where(table.c.key_id == key_id).values(**values)
            )
            if done.rowcount == 0:
                connection.execute(insert(table).values(key_id=key_id, **values))

    def remove_steward(self, name: str, now: datetime) -> None:
        """Let a steward decide no more; ``NotFound`` when none of that name does."""
        table = schema.stewards
        with self.engine.begin() as connection:
            done = connection.execute(
                update(table)
                .where(table.c.name == name, table.c.removed_at.is_(None))
                .values(removed_at=now)
            )
        if done.rowcount == 0:
            raise NotFound(f"There is no registered steward called {name}.")


def _row(r: Any) -> InboxRow:
    return InboxRow(
        number=r.number,
        what=r.what,
        subject=r.subject,
        job=r.job,
        task=r.task,
        reasons=tuple(filter(None, r.reasons.split(","))),
        state=r.state,
        arrived_at=aware(r.arrived_at),
        consortium=r.consortium,
        project=r.project,
        researcher=r.researcher,
        kind=r.kind,
        envelope=r.envelope,
        payload=r.payload,
        tensors_digest=r.tensors_digest,
        tensors_size=r.tensors_size,
        entry=json.loads(r.entry) if r.entry else {},
        seconds=r.seconds,
    )
