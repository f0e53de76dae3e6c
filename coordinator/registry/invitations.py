"""Invitations: one-time, expiring, bound to a role and a name, kept as a hash only."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import Connection, Engine, insert, select, update

from contract.errors import InvitationError
from coordinator import schema
from coordinator.registry.authority import Authority
from foundation import transport
from foundation.database import aware
from foundation.invitations import Invitation
from foundation.transport import Role


def invite(
    engine: Engine,
    authority: Authority,
    role: Literal["site", "researcher"],
    name: str,
    now: datetime,
    life: timedelta,
) -> Invitation:
    """Return a new invitation for ``name`` and record its hash."""
    identifier = secrets.token_hex(16)
    token = secrets.token_bytes(32)
    key = transport.new_private_key()
    issued = authority.issue(key.public_key(), Role.ENROL, identifier, now, life)
    with engine.begin() as connection:
        consortium = connection.execute(select(schema.consortium)).one()
        connection.execute(
            insert(schema.invitations).values(
                id=identifier,
                role=role,
                name=name,
                token_hash=hashlib.sha256(token).hexdigest(),
                expires_at=now + life,
            )
        )
    return Invitation(
        consortium=consortium.name,
        role=role,
        name=name,
        address=consortium.address,
        expires_at=now + life,
        token=token.hex(),
        authority_pem=authority.pem.decode(),
        certificate_pem=issued.pem.decode(),
        key_pem=transport.private_key_pem(key).decode(),
    )


def redeem(connection: Connection, identifier: str, token: bytes, name: str, now: datetime) -> Role:
    """Use an invitation up and return the role that it gives; once, within its time, for its name.

    ``identifier`` comes from the caller's enrolment certificate. ``InvitationError`` otherwise.
    """
    table = schema.invitations
    row = connection.execute(select(table).where(table.c.id == identifier)).one_or_none()
    hashed = hashlib.sha256(token).hexdigest()
    if row is None or not hmac.compare_digest(hashed, row.token_hash):
        raise InvitationError("The invitation is not one of this coordinator's, or was changed.")
    if row.used_at is not None:
        raise InvitationError("The invitation was used already; ask for a new one.")
    if now >= aware(row.expires_at):
        raise InvitationError("The invitation has expired; ask for a new one.")
    if row.name != name:
        raise InvitationError("The invitation is for another name.")
    used = connection.execute(
        update(table).where(table.c.id == identifier, table.c.used_at.is_(None)).values(used_at=now)
    )
    if used.rowcount != 1:
        raise InvitationError("The invitation was used already; ask for a new one.")
    return Role(row.role)
