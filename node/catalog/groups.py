"""Groups: what is held of one lesion or one case across modalities, as one record with links.

A link's target is of the group's own subject and is here, or the group is refused. A group whose
subject withdraws is dropped with the withdrawal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection, delete, insert, select

from contract.errors import DataError, NotFound
from foundation.database import aware
from node.catalog import schema
from node.catalog.members import TableSubjects
from node.catalog.store import Catalog
from node.catalog.withdrawals import withdrawn_subjects
from node.home import NodeHome

Kind = Literal["lesion", "case"]
Target = Literal["asset", "observations", "table"]
KINDS: tuple[Kind, ...] = ("lesion", "case")


@dataclass(frozen=True, order=True)
class Link:
    """What a group points at, and as what: ``dermoscopy``, ``slide``, ``follow-up``."""

    role: str
    kind: Target
    target: str
    """An asset's digest, a source's name, or a table's."""


@dataclass(frozen=True)
class Group:
    """A lesion or a case of one subject (a pseudonym). Its name tells nothing."""

    name: str
    kind: Kind
    subject: str
    links: tuple[Link, ...]
    created_at: datetime


class Groups:
    """The groups of a catalogue."""

    def __init__(self, catalog: Catalog, home: NodeHome) -> None:
        self._catalog = catalog
        self._tables = TableSubjects(catalog, home)

    def put(self, groups: Sequence[Group]) -> None:
        """Keep groups in place of those of the same names, all or none.

        ``DataError`` says how many links are orphans, or that somebody withdrew.
        """
        self._read_tables(groups)
        with self._catalog.engine.begin() as connection:
            self._check(connection, groups)
            for group in groups:
                _replace(connection, group)

    def check(self, groups: Sequence[Group]) -> None:
        """Raise what ``put`` would raise; write nothing."""
        self._read_tables(groups)
        with self._catalog.reading.connect() as connection:
            self._check(connection, groups)

    def _read_tables(self, groups: Sequence[Group]) -> None:
        # Before the transaction, which others wait for.
        for target in {link.target for g in groups for link in g.links if link.kind == "table"}:
            if self._catalog.get_table(target) is not None:
                self._tables(target)

    def _check(self, connection: Connection, groups: Sequence[Group]) -> None:
        gone = withdrawn_subjects(connection)
        if any(group.subject in gone for group in groups):
            raise DataError("A group is of a subject who withdrew; nothing was recorded.")
        if not all(group.links for group in groups):
            raise DataError("A group has no link; nothing was recorded.")
        orphans = sum(len(self._orphans(connection, group)) for group in groups)
        if orphans:
            raise DataError(
                f"{orphans} links are orphans: what they name is not here, or is of another "
                "subject. Nothing was recorded."
            )

    def names(self) -> list[Group]:
        """Return all groups, by name."""
        return self._read(None)

    def get(self, name: str) -> Group:
        """Return one group; ``NotFound`` without it."""
        found = self._read(name)
        if not found:
            raise NotFound("There is no such group; `group list` shows them.")
        return found[0]

    def orphans(self) -> dict[str, tuple[Link, ...]]:
        """Return the links that point nowhere by now, by group."""
        found = {}
        with self._catalog.reading.connect() as connection:
            for group in self.names():
                if lost := self._orphans(connection, group):
                    found[group.name] = lost
        return found

    def remove(self, name: str) -> None:
        """Forget a group; what it points at stays. ``NotFound`` without it."""
        self.get(name)
        with self._catalog.engine.begin() as connection:
            _drop(connection, name)

    def _read(self, name: str | None) -> list[Group]:
        groups, links = schema.groups, schema.group_links
        query = select(groups).order_by(groups.c.name)
        of = select(links).order_by(links.c.role, links.c.kind, links.c.target)
        if name is not None:
            query = query.where(groups.c.name == name)
            of = of.where(links.c.group == name)
        with self._catalog.reading.connect() as connection:
            by_group: dict[str, list[Link]] = {}
            for row in connection.execute(of):
                by_group.setdefault(row.group, []).append(Link(row.role, row.kind, row.target))
            return [
                Group(
                    row.name,
                    row.kind,
                    row.subject,
                    tuple(by_group.get(row.name, ())),
                    aware(row.created_at),
                )
                for row in connection.execute(query)
            ]

    def _orphans(self, connection: Connection, group: Group) -> tuple[Link, ...]:
        return tuple(
            link for link in group.links if not self._is_of(connection, group.subject, link)
        )

    def _is_of(self, connection: Connection, subject: str, link: Link) -> bool:
        """Say whether a link's target is here and of this subject."""
        if link.kind == "asset":
            assets = schema.assets
            found = connection.execute(
                select(assets.c.subject).where(assets.c.digest == link.target)
            ).scalar()
            return found == subject
        if link.kind == "observations":
            table, sources, subjects = schema.observations, schema.sources, schema.subjects
            one = (
                select(table.c.number)
                .join(sources, sources.c.number == table.c.source)
                .join(subjects, subjects.c.number == table.c.subject)
                .where(
                    sources.c.name == link.target, sources.c.current, subjects.c.subject == subject
                )
                .limit(1)
            )
            return connection.execute(one).first() is not None
        if self._catalog.get_table(link.target) is None:
            return False
        return subject in self._tables(link.target)


def _replace(connection: Connection, group: Group) -> None:
    _drop(connection, group.name)
    connection.execute(
        insert(schema.groups).values(
            name=group.name, kind=group.kind, subject=group.subject, created_at=group.created_at
        )
    )
    connection.execute(
        insert(schema.group_links),
        [
            {"group": group.name, "role": link.role, "kind": link.kind, "target": link.target}
            for link in sorted(set(group.links))
        ],
    )


def _drop(connection: Connection, name: str) -> None:
    links, groups = schema.group_links, schema.groups
    connection.execute(delete(links).where(links.c.group == name))
    connection.execute(delete(groups).where(groups.c.name == name))
