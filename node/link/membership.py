"""This node's place in a consortium: its keys, and the documents that it believes."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING

from contract import wire_pb2 as wire
from contract.documents import Roster
from contract.envelope import Envelope
from contract.errors import DocumentError, SignatureError
from contract.keys import SigningKey
from contract.trust import TrustedDocuments
from foundation.files import read_bounded
from foundation.transport import MAX_PEM_BYTES, TransportIdentity
from node.catalog.asked import Asked, ConsortiumRow
from node.home import NodeHome

if TYPE_CHECKING:
    from node.gate.state import Membership

log = logging.getLogger("wardgate.node")


def load_membership(home: NodeHome, asked: Asked, row: ConsortiumRow, now: datetime) -> Membership:
    """Return the membership with what was believed before.

    A roster that was believed stays the one that the next must continue, also when it has expired:
    nothing is answered under it then, but its stewards alone can renew it.
    """
    from node.gate.state import Membership  # brings the whole gate, which few commands need

    trusted = TrustedDocuments(row.name, row.anchor)
    if row.roster is not None:
        known = Envelope.parse(row.roster)
        trusted.anchor = known.digest
        trusted.update_roster(row.roster, Roster.read(known.body).issued_at)
        try:
            trusted.current_roster(now)
        except DocumentError as error:
            log.warning("%s: nothing is answered: %s", row.name, error)
        for project in asked.projects(row.name):
            # Also one that isn't in force now keeps older ones out.
            trusted.newest[project.name] = (
                project.version,
                Envelope.parse(project.envelope).digest,
            )
            _quietly_update(trusted, project.envelope, now)
    return Membership(row.name, row.site, row.anchor, signing_key(home, row.name), trusted)


def signing_key(home: NodeHome, consortium: str) -> SigningKey:
    """Return the site's key for receipts in a consortium."""
    pem = read_bounded(home.identity(consortium) / "site.key", MAX_PEM_BYTES)
    return SigningKey.from_pem(pem)


def transport_identity(home: NodeHome, consortium: str) -> TransportIdentity:
    """Return the site's TLS identity in a consortium."""
    return TransportIdentity(home.identity(consortium))


def take_in(
    asked: Asked, member: Membership, documents: wire.Documents, now: datetime
) -> list[str]:
    """Believe and keep what the rules of trust allow; return why anything was not believed."""
    objections: list[str] = []
    if documents.roster:
        try:
            if member.trusted.update_roster(documents.roster, now):
                asked.put_roster(member.consortium, documents.roster)
        except (DocumentError, SignatureError) as error:
            objections.append(str(error))
    for envelope in documents.projects:
        try:
            if member.trusted.update_project(envelope, now):
                for believed in member.trusted.projects.values():
                    if believed.envelope == envelope:
                        asked.put_project(
                            member.consortium,
                            believed.document.name,
                            believed.document.version,
                            envelope,
                        )
        except (DocumentError, SignatureError) as error:
            objections.append(str(error))
    return objections


def _quietly_update(trusted: TrustedDocuments, envelope: bytes, now: datetime) -> None:
    try:
        trusted.update_project(envelope, now)
    except (DocumentError, SignatureError) as error:
        log.info("%s: a project known before is not in force: %s", trusted.consortium, error)
