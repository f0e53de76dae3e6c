"""Heads of sites' ledgers: carried from their site to its witnesses, and countersignatures back.

The newest of each site is kept, with its countersignatures, and told back to it at each connection.
Nothing is decided here: nodes check what they are told by the roster that they believe.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Engine, bindparam, delete, insert, select

from contract import wire_pb2 as wire
from contract.documents import Roster
from contract.errors import DocumentError, SignatureError
from contract.heads import SignedHead, TreeHead, witnesses
from coordinator import schema
from coordinator.link.sessions import Session, Sessions
from coordinator.registry.documents import DocumentShelf
from foundation.statements import Prepared, transaction

log = logging.getLogger("wardgate.coordinator")

MAX_MESSAGE_BYTES = 2 * 1024 * 1024
MAX_ENVELOPES = 1024
MAX_OFFERS_ON_ARRIVAL = 512
FLUSH_SECONDS = 1.0


_H = schema.heads.c
_ENVELOPE = Prepared(select(_H.envelope).where(_H.site == bindparam("site")))
_DROP = Prepared(delete(schema.heads).where(_H.site == bindparam("site")))
_ADD = Prepared(insert(schema.heads))


@dataclass
class HeadRelay:
    """The heads of one consortium's ledgers on their way.

    What came is written and told together, every second or so (``run``): of hundreds of sites each
    is witness of many others.
    """

    consortium: str
    engine: Engine
    shelf: DocumentShelf
    sessions: Sessions
    clock: Callable[[], datetime]
    _offers: dict[str, wire.HeadOffer] = field(default_factory=dict)
    """The newest offer of each site, for those that come online later."""
    _roster: _Witnessed | None = None
    _newest: dict[str, SignedHead] = field(default_factory=dict)
    """Of each site, once checked by the roster in force."""
    _unwritten: set[str] = field(default_factory=set)
    _untold: dict[str, dict[TreeHead, SignedHead]] = field(default_factory=dict)
    """What was countersigned of each site's heads since they were told last."""

    def offered(self, site: str, offer: wire.HeadOffer) -> None:
        """Carry a site's newest head to its witnesses."""
        known = self._in_force()
        if known is None or offer.ByteSize() > MAX_MESSAGE_BYTES:
            return
        signed = _verified(offer.envelope, known.roster)
        if signed is None or signed.head.site != site:
            log.warning("%s: a head of its ledger is not carried on", site)
            return
        self._keep(signed, known.roster)
        self._offers[site] = offer
        message = wire.ToNode(head=offer)
        for witness in known.witnesses[site]:
            self.sessions.send(witness, message)

    def countersigned(self, site: str, message: wire.Countersignatures) -> None:
        """Keep what a site countersigned, to be told to the sites whose ledgers they are."""
        known = self._in_force()
        if known is None or message.ByteSize() > MAX_MESSAGE_BYTES:
            return
        for envelope in message.envelopes[:MAX_ENVELOPES]:
            signed = _verified(envelope, known.roster)
            if signed is None or site not in signed.countersigned:
                log.warning("%s: a countersignature is not carried on", site)
                continue
            self._keep(signed, known.roster)
            untold = self._untold.setdefault(signed.head.site, {})
            before = untold.get(signed.head)
            if before is None and len(untold) >= MAX_ENVELOPES:
                continue
            untold[signed.head] = signed if before is None else before.merged(signed)

    def arrived(self, session: Session) -> None:
        """Tell a node that came online of the heads that were offered while it was away."""
        known = self._in_force()
        if known is None:
            return
        theirs = [s for s in known.witnessed.get(session.site, ()) if s in self._offers]
        for site in theirs[:MAX_OFFERS_ON_ARRIVAL]:
            session.send(wire.ToNode(head=self._offers[site]))

    def newest(self, site: str) -> bytes:
        """Return the newest head of a site's ledger with its countersignatures, empty if none."""
        known = self._newest.get(site)
        if known is not None:
            return known.envelope
        found = _ENVELOPE.row(self.engine, site=site)
        return found[0] if found is not None else b""

    def flush(self) -> None:
        """Write the heads that came since the last time; then tell sites who countersigned theirs.

        When the database can't be written (``DBAPIError``), nothing is told, and all of it is
        tried again the next time.
        """
        if self._unwritten:
            with transaction(self.engine) as within:
                for site in self._unwritten:
                    signed = self._newest[site]
                    _DROP.execute(within, site=site)
                    _ADD.execute(
                        within,
                        site=site,
                        tree_size=signed.head.tree_size,
                        envelope=signed.envelope,
                    )
            self._unwritten.clear()
        for site, heads in self._untold.items():
            told = wire.Countersignatures(envelopes=[signed.envelope for signed in heads.values()])
            self.sessions.send(site, wire.ToNode(countersigned=told))
        self._untold.clear()

    async def run(self) -> None:
        """Flush again and again."""
        failing = False
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                self.flush()
                failing = False
            except Exception as error:  # whatever it is, the next heads are told again
                if not failing:
                    log.error("heads of ledgers are not told on (%s)", type(error).__name__)
                failing = True

    def _keep(self, signed: SignedHead, roster: Roster) -> None:
        """Keep a head unless a newer one is known; countersignatures of one head are put together.

        A head of a key that is no longer on the roster gives way to any of the new one.
        """
        head = signed.head
        before = self._newest.get(head.site)
        if before is None and (kept := self.newest(head.site)):
            before = _verified(kept, roster)
        if before is not None:
            if before.head == head:
                signed = before.merged(signed)
            elif head.tree_size <= before.head.tree_size:
                self._newest[head.site] = before
                return
            if signed.envelope == before.envelope:
                self._newest[head.site] = before
                return
        self._newest[head.site] = signed
        self._unwritten.add(head.site)

    def _in_force(self) -> _Witnessed | None:
        """Return the roster in force, or None; what another one's keys signed is forgotten."""
        now = self.clock()
        try:
            trusted = self.shelf.trusted(self.consortium, now)
            roster = trusted.current_roster(now)
        except (DocumentError, SignatureError):
            return None
        assert trusted.roster is not None
        digest = trusted.roster.digest
        if self._roster is None or self._roster.digest != digest:
            self.flush()
            self._newest.clear()
            self._roster = _Witnessed.of(roster, digest)
        return self._roster


@dataclass(frozen=True)
class _Witnessed:
    """A roster, each site's witnesses, and whose witness each site is."""

    roster: Roster
    digest: str
    witnesses: dict[str, frozenset[str]]
    witnessed: dict[str, list[str]]

    @classmethod
    def of(cls, roster: Roster, digest: str) -> _Witnessed:
        found = {member.name: witnesses(roster, member.name) for member in roster.sites}
        turned: dict[str, list[str]] = {}
        for site, names in found.items():
            for name in names:
                turned.setdefault(name, []).append(site)
        return cls(roster, digest, found, turned)


def _verified(envelope: bytes, roster: Roster) -> SignedHead | None:
    try:
        return SignedHead.verify(envelope, roster)
    except (DocumentError, SignatureError):
        return None
