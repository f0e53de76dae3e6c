"""Rosters and projects on their way: proposed, signed by stewards, published, superseded.

The coordinator decides nothing here. It believes a document by the same rules as everybody else
(``contract.trust``) and carries it; a signature that no steward made is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection, Engine, insert, literal_column, select, update

from contract import wire_pb2 as wire
from contract.documents import PROJECT_TYPE, ROSTER_TYPE, Project, Roster
from contract.envelope import Envelope
from contract.errors import DocumentError, NotFound, SignatureError
from contract.trust import TrustedDocuments
from coordinator import schema
from foundation.database import reading
from foundation.statements import Prepared, Row

Kind = Literal["roster", "project"]

_D = schema.documents.c
_PUBLISHED = Prepared(
    select(_D.digest, _D.updated_at).where(_D.state == literal_column("'published'"))
)
"""What changes with each publication, and with each signature more."""


@dataclass(frozen=True)
class DocumentRow:
    """One document as kept."""

    kind: Kind
    name: str
    version: int
    digest: str
    envelope: Envelope
    state: str


@dataclass(frozen=True)
class DocumentShelf:
    """The documents of the consortium."""

    engine: Engine
    _cache: dict[tuple[Row, ...], TrustedDocuments] = field(default_factory=dict)

    def all(self, *states: str) -> list[DocumentRow]:
        """Return documents in the given states (all without any), oldest version first."""
        table = schema.documents
        query = select(table).order_by(table.c.kind.desc(), table.c.name, table.c.version)
        if states:
            query = query.where(table.c.state.in_(states))
        with reading(self.engine) as connection:
            rows = connection.execute(query).all()
        return [
            DocumentRow(r.kind, r.name, r.version, r.digest, Envelope.parse(r.envelope), r.state)
            for r in rows
        ]

    def latest_version(self, kind: Kind, name: str) -> int:
        """Return the highest version of a document, 0 without any."""
        rows = [d.version for d in self.all() if (d.kind, d.name) == (kind, name)]
        return max(rows, default=0)

    def propose(
        self, kind: Kind, name: str, version: int, envelope: Envelope, now: datetime
    ) -> None:
        """Put up an unsigned document for the stewards; an older proposal of it is withdrawn."""
        table = schema.documents
        with self.engine.begin() as connection:
            connection.execute(
                update(table)
                .where(table.c.kind == kind, table.c.name == name, table.c.state == "proposed")
                .values(state="superseded", updated_at=now)
            )
            connection.execute(
                insert(table).values(
                    digest=envelope.digest,
                    kind=kind,
                    name=name,
                    version=version,
                    envelope=envelope.to_bytes(),
                    state="proposed",
                    updated_at=now,
                )
            )

    def trusted(self, consortium: str, now: datetime) -> TrustedDocuments:
        """Return what is published, believed by the common rules from the first roster on.

        A published document that has expired since is left out.
        """
        key = tuple(_PUBLISHED.rows(self.engine))
        if key not in self._cache:
            published = self.all("published")
            believed = self._believe(published, consortium, now)
            self._cache.clear()
            left_out = [
                d for d in published if d.kind == "project" and d.name not in believed.projects
            ]
            if not all(_is_over(d, now) for d in left_out):
                return believed  # one that was left out may begin to hold
            self._cache[key] = believed
        return self._cache[key]

    def _believe(
        self, published: list[DocumentRow], consortium: str, now: datetime
    ) -> TrustedDocuments:
        rosters = [d for d in published if d.kind == "roster"]
        trusted = TrustedDocuments(consortium, anchor=rosters[-1].digest if rosters else "")
        for document in rosters[-1:]:
            trusted.update_roster(document.envelope.to_bytes(), now)
        for document in published:
            if document.kind == "project":
                try:
                    trusted.update_project(document.envelope.to_bytes(), now)
                except (DocumentError, SignatureError):
                    continue
        return trusted

    def sign(self, data: bytes, now: datetime) -> DocumentRow:
        """Merge valid signatures of stewards into a document; publish it once they are enough."""
        offered = Envelope.parse(data)
        known = next(
            (d for d in self.all("proposed", "published") if d.digest == offered.digest), None
        )
        if known is None:
            raise NotFound("The document that was signed is not one that is proposed here.")
        published = [d for d in self.all("published") if d.kind == "roster"]
        current = Roster.read(published[-1].envelope.body) if published else None
        allowed: dict[str, str] = dict(current.steward_keys) if current else {}
        if known.kind == "roster":
            claimed = Roster.read(known.envelope.body)
            allowed |= claimed.steward_keys
        held = set(known.envelope.signatures)
        fresh = tuple(s for s in offered.signatures if s not in held)
        valid = offered.model_copy(update={"signatures": fresh}).signers(allowed)
        if not valid and not (held & set(offered.signatures)):
            raise SignatureError("The document carries no valid signature of a steward.")
        merged = known.envelope.with_signatures(s for s in offered.signatures if s.keyid in valid)
        enough = _has_enough(known.kind, merged, current)
        state = "published" if enough or known.state == "published" else "proposed"
        with self.engine.begin() as connection:
            if state == "published" and known.state == "proposed":
                _supersede(connection, known, now)
            connection.execute(
                update(schema.documents)
                .where(schema.documents.c.digest == known.digest)
                .values(envelope=merged.to_bytes(), state=state, updated_at=now)
            )
        return DocumentRow(known.kind, known.name, known.version, known.digest, merged, state)

    def message(self, *states: str) -> wire.Documents:
        """Return the documents in these states as a message: the newest roster, all projects."""
        message = wire.Documents()
        for document in self.all(*states):
            if document.kind == "roster":
                message.roster = document.envelope.to_bytes()
            else:
                message.projects.append(document.envelope.to_bytes())
        return message


def _is_over(document: DocumentRow, now: datetime) -> bool:
    """Say whether a project has expired, and so never holds again."""
    try:
        return Project.read(document.envelope.body).expires_at <= now
    except DocumentError:
        return False


def _has_enough(kind: Kind, envelope: Envelope, current: Roster | None) -> bool:
    try:
        if kind == "project":
            if current is None:
                return False
            envelope.open(PROJECT_TYPE, current.steward_keys, current.threshold)
            Project.read(envelope.body)
        else:
            claimed = Roster.read(envelope.body)
            envelope.open(ROSTER_TYPE, claimed.steward_keys, claimed.threshold)
            if current is not None:
                envelope.open(ROSTER_TYPE, current.steward_keys, current.threshold)
    except SignatureError:
        return False
    return True


def _supersede(connection: Connection, document: DocumentRow, now: datetime) -> None:
    table = schema.documents
    connection.execute(
        update(table)
        .where(
            table.c.kind == document.kind,
            table.c.name == document.name,
            table.c.state == "published",
        )
        .values(state="superseded", updated_at=now)
    )
