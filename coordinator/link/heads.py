"""Heads of sites' ledgers: carried from their site to its witnesses, and countersignatures back.

The newest of each site is kept, with its countersignatures, and told back to it at each connection.
Nothing is decided here: nodes check what they are told by the roster that they believe.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Engine, delete, insert, select

from contract import wire_pb2 as wire
from contract.documents import Roster
from contract.errors import DocumentError, SignatureError
from contract.heads import SignedHead, witnesses
from coordinator import schema
from coordinator.link.sessions import Session, Sessions
from coordinator.registry.documents import DocumentShelf
from foundation.database import reading

log = logging.getLogger("wardgate.coordinator")

MAX_MESSAGE_BYTES = 2 * 1024 * 1024
MAX_ENVELOPES = 1024
MAX_OFFERS_ON_ARRIVAL = 512


@dataclass
class HeadRelay:
    """The heads of one consortium's ledgers on their way."""

    consortium: str
    engine: Engine
    shelf: DocumentShelf
    sessions: Sessions
    clock: Callable[[], datetime]
    _offers: dict[str, wire.HeadOffer] = field(default_factory=dict)
    """The newest offer of each site, for those that come online later."""

    def offered(self, site: str, offer: wire.HeadOffer) -> None:
        """Carry a site's newest head to its witnesses."""
        roster = self._roster()
        if roster is None or offer.ByteSize() > MAX_MESSAGE_BYTES:
            return
        signed = self._verified(offer.envelope, roster)
        if signed is None or signed.head.site != site:
            log.warning("%s: a head of its ledger is not carried on", site)
            return
        self._keep(signed)
        self._offers[site] = offer
        message = wire.ToNode(head=offer)
        for witness in witnesses(roster, site):
            self.sessions.send(witness, message)

    def countersigned(self, site: str, message: wire.Countersignatures) -> None:
        """Keep what a site countersigned, and tell the sites whose ledgers they are."""
        roster = self._roster()
        if roster is None or message.ByteSize() > MAX_MESSAGE_BYTES:
            return
        for envelope in message.envelopes[:MAX_ENVELOPES]:
            signed = self._verified(envelope, roster)
            if signed is None or site not in signed.countersigned:
                log.warning("%s: a countersignature is not carried on", site)
                continue
            self._keep(signed)
            told = wire.Countersignatures(envelopes=[signed.envelope])
            self.sessions.send(signed.head.site, wire.ToNode(countersigned=told))

    def arrived(self, session: Session) -> None:
        """Tell a node that came online of the heads that were offered while it was away."""
        roster = self._roster()
        if roster is None:
            return
        theirs = [o for s, o in self._offers.items() if session.site in witnesses(roster, s)]
        for offer in theirs[:MAX_OFFERS_ON_ARRIVAL]:
            session.send(wire.ToNode(head=offer))

    def newest(self, site: str) -> bytes:
        """Return the newest head of a site's ledger with its countersignatures, empty if none."""
        table = schema.heads
        with reading(self.engine) as connection:
            query = select(table.c.envelope).where(table.c.site == site)
            found: bytes | None = connection.execute(query).scalar()
        return found or b""

    def _keep(self, signed: SignedHead) -> None:
        """Keep a head unless a newer one is known; countersignatures of one head are put together.

        A head of a key that is no longer on the roster gives way to any of the new one.
        """
        head, roster = signed.head, self._roster()
        known = self.newest(head.site)
        before = self._verified(known, roster) if known and roster is not None else None
        if before is not None:
            if before.head == head:
                signed = before.merged(signed)
            elif head.tree_size <= before.head.tree_size:
                return
            if signed.envelope == known:
                return
        table = schema.heads
        with self.engine.begin() as connection:
            connection.execute(delete(table).where(table.c.site == head.site))
            connection.execute(
                insert(table).values(
                    site=head.site, tree_size=head.tree_size, envelope=signed.envelope
                )
            )

    def _verified(self, envelope: bytes, roster: Roster) -> SignedHead | None:
        try:
            return SignedHead.verify(envelope, roster)
        except (DocumentError, SignatureError):
            return None

    def _roster(self) -> Roster | None:
        now = self.clock()
        try:
            return self.shelf.trusted(self.consortium, now).current_roster(now)
        except (DocumentError, SignatureError):
            return None
