"""Withdrawal of consent: it stops every release that holds the subject, and hides who left.

Guarantee: releases of one population differ only by whole blocks, each of them the subjects who
withdrew between two releases and at least ``count`` others, drawn at random and left out from then
on. So no set of releases of that population isolates fewer than ``count`` + 1 subjects by what was
withdrawn; what exact answers tell by cells is for ``node.catalog.lineage``. Populations that
overlap leave out the same others as far as they hold them, so that many of them don't average the
draw out. Assumptions: ``draw`` can't be foretold; a subject leaves by withdrawal alone (one who
leaves because the data was corrected isn't hidden).
"""

from __future__ import annotations

import hashlib
import secrets
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select, update

from contract.errors import DataError, Unavailable
from node.catalog import schema

SEAL_BYTES = 16
REASON = "withdrawal"
Draw = Callable[[Sequence[str], int], Sequence[str]]
"""Draws so many of a sequence at random, without putting back."""
CHANCE: Draw = secrets.SystemRandom().sample
"""What nobody can foretell."""


@dataclass(frozen=True)
class Withdrawn:
    """What a withdrawal did, or would do."""

    subjects: int
    """How many hadn't withdrawn before."""
    unknown: int
    """Of how many of these nothing is held."""
    releases: tuple[str, ...]
    """The releases that nobody may ask from now on, by digest."""


@dataclass(frozen=True)
class Held:
    """Whom a release holds, as planned: checked again when it is registered."""

    population: str
    subjects: Collection[str]
    withdrawn: frozenset[str] = frozenset()
    """Those who had withdrawn when the release was planned."""
    omissions: tuple[tuple[int, str], ...] = ()
    """Whom it omits that no release of the population omitted before, with their blocks."""
    block: int | None = None
    """The block that those who withdrew since the last release become, if they do."""
    blocks: Mapping[str, int] = field(default_factory=dict)
    """The block of each withdrawn subject, with that one."""
    left: int = 0
    """How many it leaves out because they withdrew."""
    omitted: int = 0
    """How many others it leaves out."""


# ---- seals: whom a release holds, 16 bytes for each ----------------------------------------------


def seals_of(subjects: Iterable[str]) -> bytes:
    """Return the sorted seals of some subjects."""
    return b"".join(sorted({_seal(subject) for subject in subjects}))


def holds(seals: bytes, subject: str) -> bool:
    """Say whether a subject is among those sealed."""
    wanted = _seal(subject)
    at = bisect_left(_Seals(seals), wanted)
    return seals[at * SEAL_BYTES : (at + 1) * SEAL_BYTES] == wanted


class _Seals(Sequence[bytes]):
    def __init__(self, seals: bytes) -> None:
        self._seals = seals

    def __len__(self) -> int:
        return len(self._seals) // SEAL_BYTES

    def __getitem__(self, at: int) -> bytes:  # type: ignore[override]
        return self._seals[at * SEAL_BYTES : (at + 1) * SEAL_BYTES]


def _seal(subject: str) -> bytes:
    return hashlib.sha256(subject.encode()).digest()[:SEAL_BYTES]


# ---- withdrawing ---------------------------------------------------------------------------------


def withdrawn_subjects(connection: Connection) -> frozenset[str]:
    """Return the pseudonyms of all who withdrew."""
    return frozenset(connection.execute(select(schema.withdrawals.c.subject)).scalars())


def releases_with(connection: Connection, subjects: Collection[str]) -> tuple[list[str], set[str]]:
    """Return the valid releases that hold one of the subjects, and who was in any release at all.

    A release whose subjects aren't known (its files are damaged) counts as holding everybody.
    """
    releases, index = schema.releases, schema.release_index
    rows = connection.execute(
        select(releases.c.digest, releases.c.revoked_at, index.c.seals)
        .join(index, index.c.release == releases.c.digest, isouter=True)
        .order_by(releases.c.digest)
    )
    valid: list[str] = []
    released: set[str] = set()
    for digest, revoked_at, seals in rows:
        inside = {s for s in subjects if seals is None or holds(seals, s)}
        released |= inside
        if inside and revoked_at is None:
            valid.append(digest)
    return valid, released


def releases_holding(connection: Connection, subject: str) -> list[str]:
    """Return all releases, revoked ones too, that hold a subject, oldest first.

    A release whose subjects aren't known (its files are damaged) counts as holding everybody.
    """
    releases, index = schema.releases, schema.release_index
    rows = connection.execute(
        select(releases.c.digest, index.c.seals)
        .join(index, index.c.release == releases.c.digest, isouter=True)
        .order_by(releases.c.created_at, releases.c.digest)
    )
    return [digest for digest, seals in rows if seals is None or holds(seals, subject)]


def look(connection: Connection, subjects: Collection[str]) -> Withdrawn:
    """Return what withdrawing the subjects would do."""
    new = set(subjects) - withdrawn_subjects(connection)
    valid, released = releases_with(connection, new)
    table = schema.subjects
    known = {
        subject
        for subject in new
        if subject in released
        or connection.execute(select(table.c.number).where(table.c.subject == subject)).first()
    }
    return Withdrawn(len(new), len(new - known), tuple(valid))


def withdraw(connection: Connection, subjects: Collection[str], now: datetime) -> Withdrawn:
    """Record that subjects withdrew, revoke every release that holds one, and drop their groups.

    Part of one transaction that writes. Who withdrew before is left as is.
    """
    done = look(connection, subjects)
    new = sorted(set(subjects) - withdrawn_subjects(connection))
    if not new:
        return done
    _, released = releases_with(connection, new)
    connection.execute(
        insert(schema.withdrawals),
        [
            {"subject": s, "withdrawn_at": now, "released": s in released, "block": None}
            for s in new
        ],
    )
    for digest in done.releases:
        connection.execute(
            update(schema.releases)
            .where(schema.releases.c.digest == digest, schema.releases.c.revoked_at.is_(None))
            .values(revoked_at=now, revoked_reason=REASON)
        )
    groups, links = schema.groups, schema.group_links
    for subject in new:
        names = select(groups.c.name).where(groups.c.subject == subject)
        connection.execute(delete(links).where(links.c.group.in_(names)))
        connection.execute(delete(groups).where(groups.c.subject == subject))
    return done


# ---- leaving out ---------------------------------------------------------------------------------


def leave_out(
    connection: Connection, population: str, candidates: Collection[str], count: int, draw: Draw
) -> Held:
    """Return whom a release of the candidates holds.

    Those who withdrew leave; so do ``count`` others for each block of withdrawals that concerns
    this population. ``DataError`` when that would leave nobody to hide behind.
    """
    table = schema.withdrawals
    rows = list(connection.execute(select(table.c.subject, table.c.released, table.c.block)))
    withdrawn = frozenset(row.subject for row in rows)
    coming = 1 + int(
        connection.execute(select(func.coalesce(func.max(table.c.block), 0))).scalar_one()
    )
    blocks = {r.subject: coming if r.block is None else r.block for r in rows if r.released}
    block = coming if coming in blocks.values() else None
    concerned = {subject for subject in blocks if subject in candidates}
    concerned |= _released_before(connection, population, set(blocks) - concerned)
    remembered, elsewhere = _remembered(connection, population)
    staying = set(candidates) - withdrawn
    new: list[tuple[int, str]] = []
    omitted = {subject for some in remembered.values() for subject in some}
    for wanted in sorted({blocks[subject] for subject in concerned} - set(remembered)):
        if all(subject in omitted for subject in concerned if blocks[subject] == wanted):
            continue  # who withdrew here was left out before, as somebody else's cover
        # The same others as elsewhere, also those who withdrew since: so releases stay nested.
        known = [s for s in elsewhere.get(wanted, ()) if s in candidates and s not in omitted]
        chosen = known[:count]
        rest = sorted(staying - omitted - set(chosen))
        missing = count - len(chosen)
        if len(rest) <= missing:
            raise DataError(
                "Too few subjects are left to hide who withdrew, so this release isn't made."
            )
        chosen += draw(rest, missing)
        omitted |= set(chosen)
        new += [(wanted, subject) for subject in chosen]
    return Held(
        population,
        staying - omitted,
        withdrawn,
        tuple(new),
        block,
        blocks,
        left=len(candidates) - len(staying),
        omitted=len(staying & omitted),
    )


def _released_before(
    connection: Connection, population: str, subjects: Collection[str]
) -> set[str]:
    table = schema.release_index
    found: set[str] = set()
    if subjects:
        for seals in connection.execute(
            select(table.c.seals).where(table.c.population == population)
        ).scalars():
            found |= {subject for subject in subjects if holds(seals, subject)}
    return found


def _remembered(
    connection: Connection, population: str
) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """Return whom releases of this population omit, by block, and those of all, oldest first."""
    table = schema.omissions
    ours: dict[int, list[str]] = {}
    all_of_them: dict[int, list[str]] = {}
    for row in connection.execute(select(table).order_by(table.c.number)):
        if row.population == population:
            ours.setdefault(row.block, []).append(row.subject)
        known = all_of_them.setdefault(row.block, [])
        if row.subject not in known:
            known.append(row.subject)
    return ours, all_of_them


def register(connection: Connection, digest: str, held: Held) -> None:
    """Note whom a new release holds, and remember whom it omits; part of one transaction.

    ``Unavailable`` when somebody withdrew, or another release was made, since it was planned.
    """
    if withdrawn_subjects(connection) != held.withdrawn:
        raise Unavailable("Consent was withdrawn meanwhile; make the release again.")
    table = schema.withdrawals
    if held.block is not None:
        connection.execute(
            update(table).where(table.c.block.is_(None), table.c.released).values(block=held.block)
        )
    now = {
        row.subject: row.block for row in connection.execute(select(table).where(table.c.released))
    }
    ours, _ = _remembered(connection, held.population)
    if now != dict(held.blocks) or any(block in ours for block, _ in held.omissions):
        raise Unavailable("Another release was made meanwhile; make this one again.")
    if held.omissions:
        connection.execute(
            insert(schema.omissions),
            [
                {"population": held.population, "block": block, "subject": subject}
                for block, subject in held.omissions
            ],
        )
    connection.execute(
        insert(schema.release_index).values(
            release=digest, population=held.population, seals=seals_of(held.subjects)
        )
    )
