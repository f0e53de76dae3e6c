"""What subjects allow: consents as held, and their withdrawal."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import Connection, insert, select

from node.catalog import schema
from node.catalog.releases import released_subjects
from node.catalog.rows import ReleaseRow
from node.catalog.store import Catalog
from node.catalog.withdrawals import (
    Withdrawn,
    look,
    releases_with,
    seals_of,
    withdraw,
    withdrawn_subjects,
)
from node.home import NodeHome

FACES = "faces"
"""The purpose of a consent that covers pictures of the face."""


@dataclass(frozen=True)
class ConsentRow:
    """A consent of one subject; days as the hospital wrote them."""

    source: str
    basis: str
    purposes: tuple[str, ...]
    starts: date | None
    ends: date | None

    def holds(self, day: date) -> bool:
        """Say whether it is in force on a day."""
        return (self.starts is None or self.starts <= day) and (
            self.ends is None or day <= self.ends
        )


@dataclass(frozen=True)
class Standing:
    """What is known of one subject's consent."""

    withdrawn_at: datetime | None
    consents: tuple[ConsentRow, ...]
    releases: tuple[str, ...]
    """The valid releases that hold the subject, by digest."""


class Consents:
    """The consents of a catalogue. ``days`` returns by how many days a subject's dates moved."""

    def __init__(self, catalog: Catalog, home: NodeHome, days: Callable[[str], int]) -> None:
        self._catalog = catalog
        self._home = home
        self._days = days

    # ---- withdrawal ----------------------------------------------------------------------------

    def look(self, subjects: Collection[str]) -> Withdrawn:
        """Return what a withdrawal would do."""
        self._index_releases()
        with self._catalog.reading.connect() as connection:
            return look(connection, subjects)

    def withdraw(self, subjects: Collection[str], now: datetime) -> Withdrawn:
        """Record that subjects (by pseudonym) withdrew, and revoke every release that holds one.

        All or nothing, in one transaction; from its end on, none of these releases answers.
        """
        self._index_releases()
        with self._catalog.engine.begin() as connection:
            return withdraw(connection, subjects, now)

    def _index_releases(self) -> None:
        """Note whom older releases hold. One that can't be read counts as holding everybody."""
        releases, index = schema.releases, schema.release_index
        missing = select(releases.c.digest).where(releases.c.digest.not_in(select(index.c.release)))
        with self._catalog.reading.connect() as connection:
            digests = set(connection.execute(missing).scalars())
        for release in self._catalog.list_releases() if digests else ():
            if release.digest not in digests:
                continue
            subjects = released_subjects(self._home, release.digest, release.manifest)
            if subjects is not None:
                self._put_index(release, subjects)

    def _put_index(self, release: ReleaseRow, subjects: Collection[str]) -> None:
        with self._catalog.engine.begin() as connection:
            connection.execute(
                insert(schema.release_index).values(
                    release=release.digest, population="", seals=seals_of(subjects)
                )
            )

    # ---- what is held --------------------------------------------------------------------------

    def standing(self, subject: str) -> Standing:
        """Return what is known of one subject, by pseudonym."""
        self._index_releases()
        with self._catalog.reading.connect() as connection:
            releases, _ = releases_with(connection, [subject])
            return Standing(
                self._withdrawn_at(connection, subject),
                tuple(self._held(connection, subject)),
                tuple(releases),
            )

    def allows(self, subject: str, purpose: str, day: date) -> bool:
        """Say whether a subject's consents cover a purpose on a day, and weren't withdrawn."""
        with self._catalog.reading.connect() as connection:
            return self._withdrawn_at(connection, subject) is None and any(
                purpose in consent.purposes and consent.holds(day)
                for consent in self._held(connection, subject)
            )

    def withdrew(self, subject: str) -> bool:
        """Say whether a subject withdrew."""
        with self._catalog.reading.connect() as connection:
            return self._withdrawn_at(connection, subject) is not None

    def _withdrawn_at(self, connection: Connection, subject: str) -> datetime | None:
        withdrawals = schema.withdrawals
        query = select(withdrawals.c.withdrawn_at).where(withdrawals.c.subject == subject)
        return connection.execute(query).scalar()

    def _held(self, connection: Connection, subject: str) -> Iterator[ConsentRow]:
        consents, sources, purposes = schema.consents, schema.sources, schema.consent_purposes
        query = (
            select(consents, sources.c.name.label("name"))
            .join(schema.subjects, schema.subjects.c.number == consents.c.subject)
            .join(sources, sources.c.number == consents.c.source)
            .where(schema.subjects.c.subject == subject, sources.c.current)
            .order_by(consents.c.number)
        )
        moved = timedelta(days=self._days(subject))
        for row in connection.execute(query).all():
            of = select(purposes.c.purpose).where(purposes.c.consent == row.number)
            yield ConsentRow(
                row.name,
                row.basis,
                tuple(sorted(connection.execute(of).scalars())),
                row.starts and row.starts + moved,
                row.ends and row.ends + moved,
            )

    def counts(self, today: date) -> dict[tuple[str, str, bool], int]:
        """Return the number of subjects by basis, purpose and whether it is in force today.

        Withdrawn ones don't count. A consent without a purpose counts under an empty one.
        """
        consents, sources, purposes = schema.consents, schema.sources, schema.consent_purposes
        query = (
            select(
                schema.subjects.c.subject,
                consents.c.basis,
                purposes.c.purpose,
                consents.c.starts,
                consents.c.ends,
            )
            .join(consents, consents.c.subject == schema.subjects.c.number)
            .join(sources, sources.c.number == consents.c.source)
            .join(purposes, purposes.c.consent == consents.c.number, isouter=True)
            .where(sources.c.current)
        )
        subjects: dict[tuple[str, str, bool], set[str]] = {}
        with self._catalog.reading.connect() as connection:
            gone = withdrawn_subjects(connection)
            for name, basis, purpose, starts, ends in connection.execute(query):
                if name in gone:
                    continue
                day = today - timedelta(days=self._days(name))
                holds = (starts is None or starts <= day) and (ends is None or day <= ends)
                subjects.setdefault((basis, purpose or "", holds), set()).add(name)
        return {key: len(some) for key, some in sorted(subjects.items())}

    def withdrawals(self) -> int:
        """Return how many subjects withdrew."""
        with self._catalog.reading.connect() as connection:
            return len(withdrawn_subjects(connection))
