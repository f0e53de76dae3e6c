"""Members: the sites and researchers that joined, their certificates, and who was revoked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    bindparam,
    delete,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from contract import keys
from contract import wire_pb2 as wire
from contract.errors import CertificateError, InvitationError, NotFound, SignatureError
from coordinator import schema
from coordinator.registry import invitations
from coordinator.registry.authority import Authority, Issued
from foundation.database import aware, reading
from foundation.statements import Prepared, transaction
from foundation.transport import Peer, Role

_M = schema.members.c
_RELEASES = Prepared(select(_M.name, _M.releases).where(_M.role == literal_column("'site'")))
_NOTE_LEDGER = Prepared(
    update(schema.members)
    .where(
        _M.role == literal_column("'site'"),
        _M.name == bindparam("site"),
        or_(_M.ledger_sequence.is_(None), _M.ledger_sequence < bindparam("size")),
    )
    .values(ledger_sequence=bindparam("size"), ledger_hash=bindparam("head"))
)


@dataclass(frozen=True)
class MemberRow:
    """One member as registered. Times are UTC; ledger and releases are a site's."""

    role: Role
    name: str
    signing_key: str
    steward_key: str
    joined_at: datetime
    revoked_at: datetime | None
    seen_at: datetime | None
    ledger_sequence: int | None
    ledger_hash: bytes | None
    releases: bytes | None


@dataclass(frozen=True)
class Members:
    """The registry's members."""

    engine: Engine

    def enrol(
        self,
        authority: Authority,
        peer: Peer,
        request: wire.EnrolRequest,
        now: datetime,
        life: timedelta,
    ) -> Issued:
        """Redeem an invitation: register the keys and return a certificate, in one transaction.

        ``proof`` shows that whoever joins holds the keys that it registers.
        """
        if not keys.verify(request.signing_key, request.proof, request.csr):
            raise SignatureError("The signing key's proof of possession is not valid.")
        with self.engine.begin() as connection:
            role = invitations.redeem(connection, peer.name, request.token, request.name, now)
            if role is Role.SITE and not keys.verify(
                request.steward_key, request.steward_proof, request.csr
            ):
                raise SignatureError("The steward key's proof of possession is not valid.")
            table = schema.members
            old = connection.execute(
                select(table).where(table.c.role == role, table.c.name == request.name)
            ).one_or_none()
            if old is not None and old.revoked_at is not None:
                raise InvitationError(f"{role} {request.name} was revoked.")
            connection.execute(
                delete(table).where(table.c.role == role, table.c.name == request.name)
            )
            connection.execute(
                insert(table).values(
                    role=role,
                    name=request.name,
                    signing_key=request.signing_key,
                    steward_key=request.steward_key if role is Role.SITE else "",
                    joined_at=now,
                    # A site that joins again can't have its ledger's newest head forgotten.
                    ledger_sequence=old.ledger_sequence if old is not None else None,
                    ledger_hash=old.ledger_hash if old is not None else None,
                )
            )
            return self._issue(connection, authority, request.csr, role, request.name, now, life)

    def renew(
        self, authority: Authority, peer: Peer, csr: bytes, now: datetime, life: timedelta
    ) -> Issued:
        """Return a fresh certificate for a member in good standing."""
        self.check(peer)
        with self.engine.begin() as connection:
            return self._issue(connection, authority, csr, peer.role, peer.name, now, life)

    def _issue(
        self,
        connection: Connection,
        authority: Authority,
        csr: bytes,
        role: Role,
        name: str,
        now: datetime,
        life: timedelta,
    ) -> Issued:
        issued = authority.issue_for_request(csr, role, name, now, life)
        connection.execute(
            insert(schema.certificates).values(
                serial=issued.serial,
                role=role,
                name=name,
                issued_at=now,
                not_after=issued.not_after,
            )
        )
        return issued

    def check(self, peer: Peer) -> None:
        """Raise ``CertificateError`` unless ``peer`` is a member, not revoked, under this serial.

        A certificate issued before its holder last joined is of no use any more.
        """
        found = self.find(peer.role, peer.name)
        if found is None:
            raise CertificateError("The certificate is of no member of this consortium.")
        if found.revoked_at is not None:
            raise CertificateError(f"{peer.role} {peer.name} was revoked.")
        table = schema.certificates
        with reading(self.engine) as connection:
            row = connection.execute(
                select(table).where(table.c.serial == peer.serial)
            ).one_or_none()
        if row is None or aware(row.issued_at) < found.joined_at:
            raise CertificateError("The certificate was replaced by a later joining.")

    def find(self, role: Role, name: str) -> MemberRow | None:
        """Return a member or None."""
        return next(
            iter(self._rows(schema.members.c.role == role, schema.members.c.name == name)), None
        )

    def all(self, role: Role) -> list[MemberRow]:
        """Return all members of a role, by name."""
        return self._rows(schema.members.c.role == role)

    def _rows(self, *conditions: ColumnElement[bool]) -> list[MemberRow]:
        table = schema.members
        with reading(self.engine) as connection:
            rows = connection.execute(select(table).where(*conditions).order_by(table.c.name)).all()
        return [
            MemberRow(
                role=Role(r.role),
                name=r.name,
                signing_key=r.signing_key,
                steward_key=r.steward_key,
                joined_at=aware(r.joined_at),
                revoked_at=aware(r.revoked_at) if r.revoked_at else None,
                seen_at=aware(r.seen_at) if r.seen_at else None,
                ledger_sequence=r.ledger_sequence,
                ledger_hash=r.ledger_hash,
                releases=r.releases,
            )
            for r in rows
        ]

    def releases(self) -> dict[str, bytes]:
        """Return what each site says it can be asked about, of those that said it."""
        return {name: found for name, found in _RELEASES.rows(self.engine) if found}

    def revoked(self) -> set[tuple[Role, str]]:
        """Return everybody who was revoked."""
        table = schema.members
        with reading(self.engine) as connection:
            rows = connection.execute(
                select(table.c.role, table.c.name).where(table.c.revoked_at.is_not(None))
            ).all()
        return {(Role(r.role), r.name) for r in rows}

    def revoke(self, role: Role, name: str, now: datetime) -> None:
        """Revoke a member: no connection, no renewal. ``NotFound`` when there is none."""
        self._update(role, name, revoked_at=now)

    def seen(self, names: Iterable[str], now: datetime) -> None:
        """Note that sites are there."""
        table = schema.members
        with self.engine.begin() as connection:
            connection.execute(
                update(table)
                .where(table.c.role == Role.SITE, table.c.name.in_(sorted(names)))
                .values(seen_at=now)
            )

    def note_ledgers(self, heads: Mapping[str, wire.LedgerHead]) -> None:
        """Keep the newest heads of sites' ledgers; one that is older than the known is not."""
        with transaction(self.engine) as within:
            for site, head in heads.items():
                _NOTE_LEDGER.execute(within, site=site, size=head.sequence, head=head.hash)

    def set_releases(self, name: str, releases: bytes) -> None:
        """Keep what a site says it can be asked about."""
        self._update(Role.SITE, name, releases=releases)

    def _update(self, role: Role, name: str, **values: object) -> None:
        table = schema.members
        with self.engine.begin() as connection:
            done = connection.execute(
                update(table).where(table.c.role == role, table.c.name == name).values(**values)
            )
        if done.rowcount != 1:
            raise NotFound(f"There is no {role} called {name}.")
