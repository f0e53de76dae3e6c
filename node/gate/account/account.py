"""The account of one node's subjects: spent first, answered after, over all projects and consortia.

Rules, in the order in which ``spend`` keeps them:

1.  Whoever spends holds the catalogue's write lock from reading the account to committing it. Two
    questions can't both take the last of it.
2.  With the new charges, neither what the project spent on the pool (ever) nor what all projects of
    all consortia spent on it (within the last 365 days) is above its limit. Otherwise nothing is
    spent and the question is refused. Both depend on what was asked, on policy and on the sizes
    that releases are listed with, never on patients' data.
3.  The spending is an entry of the ledger, durable, before the catalogue commits it; and it is
    committed before anything is drawn. A crash in between gives nothing back.
4.  Before its first use in a process, the account takes up every entry of the ledger that the
    catalogue lacks. So a catalogue restored from a backup remembers what was spent since, as long
    as the ledger does; a ledger that was turned back is noticed by its own means.

Guarantee: what is answered with noise about the subjects of a pool is, together, (epsilon,
delta)-differentially private for each of them with the policy's limits, for a project over all
time, and for everybody together over any 365 days. Assumptions: those of
``node.gate.account.composition``; every answer with noise is charged here first. Answers of the
exact lane are not covered: no epsilon is claimed for them.

There is one pool: all subjects of the node (docs/decisions/0020-one-pool.md).
"""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, insert, select, update

from contract.errors import DocumentError, LedgerError, Refused
from foundation.database import aware, reading
from node.catalog import schema
from node.catalog.numbering import batches
from node.gate.account import events
from node.gate.account.composition import epsilon
from node.gate.account.events import Event
from node.gate.account.tally import Payer, Tally
from node.gate.ledger import Ledger
from node.gate.policy import Policy

POOL = "node"
"""The one pool of subjects: all that this node holds."""
_MANY = 10**8
"""Subjects of a pool none of whose releases is known: more than there are."""
SPENT = "spent"
"""The kind of the ledger's entries about what was spent."""


@dataclass(frozen=True)
class Charge:
    """What one question costs: its digest (or another name without patients' data), its event."""

    question: str
    event: Event


@dataclass(frozen=True)
class Limits:
    """What a policy lets a project spend. ``delta`` 0: a tenth of one over the pool's subjects."""

    epsilon_project: float
    epsilon_year: float
    delta: float
    cell: int
    """The number of subjects that releases are listed to the next multiple of."""
    largest_delta: float = 1.0
    """What delta is at most, however few the subjects are."""

    @classmethod
    def of(cls, policy: Policy, project: str) -> Limits:
        """Return what ``policy`` says about a project."""
        own = policy.limits(project).epsilon
        privacy = policy.privacy
        return cls(
            privacy.epsilon_project if own is None else own,
            privacy.epsilon_subject_year,
            privacy.delta,
            policy.disclosure.minimum_cell,
            policy.limits(project).delta or 1.0,
        )


@dataclass(frozen=True)
class Standing:
    """How an account stands for a project: spent by it ever, and by all within 365 days."""

    epsilon_project: float
    epsilon_year: float
    delta: float
    limits: Limits

    @property
    def remaining_project(self) -> float:
        """What the project may still spend, as far as it alone is concerned."""
        return max(0.0, self.limits.epsilon_project - self.epsilon_project)

    @property
    def remaining_year(self) -> float:
        """What all projects together may still spend now."""
        return max(0.0, self.limits.epsilon_year - self.epsilon_year)

    @property
    def within_limits(self) -> bool:
        """Whether nothing is overdrawn."""
        return (
            self.epsilon_project <= self.limits.epsilon_project
            and self.epsilon_year <= self.limits.epsilon_year
        )


@dataclass(frozen=True)
class SpentRow:
    """What was spent once."""

    consortium: str
    project: str
    release: str
    question: str
    event: Event
    spent_at: datetime


class PrivacyAccount:
    """The account, in the catalogue and on the ledger."""

    def __init__(self, engine: Engine, ledger: Ledger) -> None:
        self._engine = engine
        self._ledger = ledger
        self._lock = threading.Lock()
        """Guards the two that follow."""
        self._reconciled = False
        self._tally = Tally(POOL)

    # ---- spending ------------------------------------------------------------------------------

    def spend(
        self,
        payer: Payer,
        release: str,
        charges: Sequence[Charge],
        limits: Limits,
        now: datetime,
        job: str = "",
    ) -> Standing:
        """Spend for all charges or for none; ``Refused`` when the account doesn't allow it.

        What is spent is durable when this returns, and stays spent whatever happens next. No
        charges are always allowed.
        """
        for charge in charges:
            events.check(charge.event)
        with self._lock:
            self._reconcile()
            try:
                with self._engine.begin() as connection:
                    _lock_pool(connection)
                    standing = self._standing(connection, payer, release, charges, limits, now)
                    if charges:
                        self._spend(connection, payer, release, charges, standing, now, job)
            except Refused:
                raise
            except BaseException:
                self._reconciled = False  # the ledger may have what the catalogue has not
                raise
            if charges:
                self._tally.add(payer, release, [charge.event for charge in charges], now)
            return standing

    def _spend(
        self,
        connection: Connection,
        payer: Payer,
        release: str,
        charges: Sequence[Charge],
        standing: Standing,
        now: datetime,
        job: str,
    ) -> None:
        if not standing.within_limits:
            raise Refused("privacy-budget", "The privacy account doesn't allow this question now.")
        rows = [
            {
                "id": secrets.token_hex(16),
                "pool": POOL,
                "consortium": payer.consortium,
                "project": payer.project,
                "release": release,
                "question": charge.question,
                "event": events.text(charge.event),
                "spent_at": now,
            }
            for charge in charges
        ]
        connection.execute(insert(schema.privacy_spends), rows)
        self._ledger.append(SPENT, _entry(rows, standing, job), now)

    # ---- asking --------------------------------------------------------------------------------

    def after(
        self, payer: Payer, release: str, charges: Sequence[Charge], limits: Limits, now: datetime
    ) -> Standing:
        """Return how the account would stand for a project after some charges; spend nothing."""
        with self._lock:
            self._reconcile()
            with reading(self._engine) as connection:
                return self._standing(connection, payer, release, charges, limits, now)

    def standing(self, payer: Payer, limits: Limits, now: datetime) -> Standing:
        """Return how the account stands for a project."""
        return self.after(payer, "", (), limits, now)

    def payers(self) -> list[Payer]:
        """Return who spent anything, in order."""
        with self._lock:
            self._reconcile()
        table = schema.privacy_spends
        with reading(self._engine) as connection:
            rows = connection.execute(
                select(table.c.consortium, table.c.project)
                .distinct()
                .order_by(table.c.consortium, table.c.project)
            ).all()
        return [Payer(r.consortium, r.project) for r in rows]

    def spends(self, project: str | None = None) -> list[SpentRow]:
        """Return all that was spent, oldest first; of one project's name, if that is given."""
        with self._lock:
            self._reconcile()
        table = schema.privacy_spends
        query = select(table).order_by(table.c.spent_at, table.c.id)
        if project is not None:
            query = query.where(table.c.project == project)
        with reading(self._engine) as connection:
            return [
                SpentRow(
                    r.consortium,
                    r.project,
                    r.release,
                    r.question,
                    events.parse(r.event),
                    aware(r.spent_at),
                )
                for r in connection.execute(query)
            ]

    def _standing(
        self,
        connection: Connection,
        payer: Payer,
        release: str,
        charges: Sequence[Charge],
        limits: Limits,
        now: datetime,
    ) -> Standing:
        """Return how the account stands for ``payer`` with ``charges``, which aren't in it yet."""
        self._tally.read_on(connection)
        coming = Counter(charge.event for charge in charges)
        ever = Counter(self._tally.ever(payer)) + coming
        year = Counter(self._tally.within_a_year(now)) + coming
        delta = limits.delta
        if not delta:
            releases = self._tally.releases | {release}
            delta = 1 / (10 * _subjects(connection, releases, limits.cell))
        delta = min(delta, limits.largest_delta)
        return Standing(epsilon(ever, delta), epsilon(year, delta), delta, limits)

    # ---- the ledger remembers ------------------------------------------------------------------

    def _reconcile(self) -> None:
        """Take up what the ledger says was spent and the catalogue doesn't know, once a process."""
        if self._reconciled:
            return
        table = schema.privacy_pools
        with self._engine.begin() as connection:
            _lock_pool(connection)
            mark = connection.execute(select(table).where(table.c.name == POOL)).one()
            begin = mark.ledger_sequence + 1
            if not self._ledger.holds(mark.ledger_sequence, mark.ledger_hash):
                begin = 0  # another history: all of this one is to be looked at
            head = self._ledger.head
            spends = schema.privacy_spends
            known = set(connection.execute(select(spends.c.id)).scalars())
            missing = [
                row
                for sequence in range(begin, head.sequence + 1)
                for row in _spent_in(self._ledger, sequence)
                if row["id"] not in known
            ]
            if missing:
                connection.execute(insert(spends), missing)
            connection.execute(
                update(table)
                .where(table.c.name == POOL)
                .values(ledger_sequence=head.sequence, ledger_hash=head.hash)
            )
        self._reconciled = True


def _lock_pool(connection: Connection) -> None:
    """Wait for whoever else spends. SQLite's transactions begin as writers and wait already."""
    table = schema.privacy_pools
    connection.execute(select(table.c.name).where(table.c.name == POOL).with_for_update()).one()


def _subjects(connection: Connection, releases: frozenset[str], cell: int) -> int:
    """Return how many subjects the pool has at most, as far as listed sizes say.

    The ``releases`` that are spent on, each with its size up to the next multiple of ``cell``: what
    they are listed with, and so no secret.
    """
    table = schema.releases
    sizes = [
        size
        for some in batches(sorted(releases), 500)
        for size in connection.execute(
            select(table.c.subjects).where(table.c.digest.in_(some))
        ).scalars()
    ]
    return sum((size // cell + 1) * cell for size in sizes) or _MANY


def _entry(rows: Sequence[Mapping[str, Any]], standing: Standing, job: str) -> dict[str, Any]:
    """Return the ledger's entry about what is spent, with the totals that it leads to."""
    first = rows[0]
    return {
        "pool": first["pool"],
        "consortium": first["consortium"],
        "project": first["project"],
        "release": first["release"],
        **({"job": job} if job else {}),
        "spends": [{k: row[k] for k in ("id", "question", "event")} for row in rows],
        "epsilon_project": standing.epsilon_project,
        "epsilon_year": standing.epsilon_year,
        "delta": standing.delta,
    }


def _spent_in(ledger: Ledger, sequence: int) -> Iterator[dict[str, Any]]:
    """Yield the catalogue's rows of one entry of the ledger; none when it is about other things."""
    if b'"spent"' not in ledger.line(sequence):
        return
    entry = ledger.entry(sequence)
    if entry.kind != SPENT:
        return
    body = entry.body
    try:
        for spend in body["spends"]:
            events.parse(spend["event"])
            yield {
                "id": str(spend["id"]),
                "pool": str(body["pool"]),
                "consortium": str(body["consortium"]),
                "project": str(body["project"]),
                "release": str(body["release"]),
                "question": str(spend["question"]),
                "event": str(spend["event"]),
                "spent_at": datetime.fromisoformat(entry.time),
            }
    except (KeyError, TypeError, ValueError, DocumentError):
        raise LedgerError(f"The ledger's entry {sequence} about spending is malformed.") from None
