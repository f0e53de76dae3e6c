"""Heads of ledgers in one consortium: ours offered to the other sites, theirs countersigned.

What leaves goes through the gate, as notices of its closed list. What comes is checked against the
roster believed here by the rules of ``contract.heads``; the coordinator only carries it. It can
withhold heads and countersignatures, and can make neither.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from datetime import datetime

from contract import wire_pb2 as wire
from contract.documents import Roster
from contract.envelope import Envelope
from contract.errors import DocumentError, LedgerError, SignatureError
from contract.heads import (
    Contradiction,
    SignedHead,
    TreeHead,
    check_successor,
    read_head,
    witnesses,
)
from contract.trust import Believed
from node.gate.gate import Gate, Membership, Sealed
from node.gate.ledger.heads import HeadStore

log = logging.getLogger("wardgate.node")

MAX_PROOFS = 64
MAX_ENVELOPES = 1024
MAX_REMEMBERED = 4096


class HeadExchange:
    """What a node says and hears about heads in one consortium. Called from threads.

    ``seconds`` is a monotonic clock; of one site, at most one head is countersigned within
    ``pause_seconds``, so that nobody can fill our ledger with countersignatures.
    """

    def __init__(
        self, gate: Gate, member: Membership, seconds: Callable[[], float], pause_seconds: float
    ) -> None:
        self._gate = gate
        self._member = member
        self._lock = threading.Lock()
        self._seconds = seconds
        self._pause = pause_seconds
        self._countersigned_at: dict[str, float] = {}
        self._last_of: dict[str, int] = {}
        """For each other site, the size of our head that it countersigned last."""
        self._offered: bytes | None = None
        self._again = False
        self._told: list[bytes] | None = None
        self._refused: set[str] = set()

    # ---- our ledger ----------------------------------------------------------------------------

    def linked(self) -> None:
        """Note that a link is up: what was offered over the last one may not have arrived."""
        with self._lock:
            self._offered = None
            for envelope in self._store.own():
                self._note_sizes(envelope)

    @functools.cached_property
    def _store(self) -> HeadStore:
        return HeadStore(self._gate.ledger.folder, self._member.consortium)

    def offer(self) -> Sealed | None:
        """Return our newest head with the proofs that the others need; None when they have it.

        A new head is signed when the ledger holds more than talk about heads since the last.
        """
        with self._lock:
            believed = self._roster()
            if believed is None or not self._is_ours(believed.document):
                return None
            signed = self._newest(believed)
            if signed is None or (signed.envelope == self._offered and not self._again):
                return None
            others = witnesses(believed.document, self._member.site)
            if self._offered is None and others and signed.countersigned >= others:
                self._offered = signed.envelope
                return None
            self._offered, self._again = signed.envelope, False
            size = signed.head.tree_size
            firsts = sorted({n for n in self._last_of.values() if n < size}, reverse=True)
            proofs = [
                wire.ConsistencyProof(
                    first=first, path=self._gate.ledger.consistency_proof(first, size)
                )
                for first in firsts[:MAX_PROOFS]
            ]
        offer = wire.HeadOffer(envelope=signed.envelope, proofs=proofs)
        return self._gate.ledger_head(self._member, offer)

    def _newest(self, believed: Believed[Roster]) -> SignedHead | None:
        """Return the newest head, signed now if there is news; None when none can be."""
        standing, now = self._gate.ledger.standing(), self._gate.clock()
        kept = self._store.newest()
        before = read_head(kept) if kept is not None else None
        if kept is not None and before is not None and before.tree_size >= standing.news:
            try:
                return SignedHead.verify(kept, believed.document)
            except (DocumentError, SignatureError):
                pass  # our key on the roster is another than when it was signed
        if standing.size == 0 or (before is not None and before.tree_size > standing.size):
            return None
        if before is not None and now < before.time:
            log.warning(
                "%s: the clock went back; no head of the ledger is signed before %s.",
                self._member.consortium,
                before.time.isoformat(timespec="seconds"),
            )
            return None
        head = TreeHead(
            consortium=self._member.consortium,
            site=self._member.site,
            tree_size=standing.size,
            root_hash=standing.root.hex(),
            chain_hash=standing.hash,
            time=now,
        )
        signed = SignedHead(head, head.sign(self._member.key), frozenset())
        self._store.keep(signed, believed)
        return signed

    def check(self, envelope: bytes) -> None:
        """Raise ``LedgerError`` when we signed a head that our ledger doesn't go on from.

        Whoever tells us of it: only our own signature counts.
        """
        if not envelope:
            return
        try:
            head, signatures = read_head(envelope), Envelope.parse(envelope)
        except DocumentError:
            return
        key = self._member.key
        if (head.consortium, head.site) != (self._member.consortium, self._member.site):
            return
        if not signatures.signers({key.id: key.public}):
            return
        ledger = self._gate.ledger
        ledger.standing()
        if ledger.holds_tree(head.tree_size, head.root) and ledger.holds(
            head.tree_size - 1, head.chain_hash
        ):
            return
        raise LedgerError(
            f"The ledger doesn't go on from its own head of {head.tree_size} entries, which "
            f"consortium {self._member.consortium} holds: it was cut, changed or restored from a "
            "backup. Nothing is answered until that is cleared up."
        )

    def countersigned(self, message: wire.Countersignatures) -> None:
        """Keep what other sites countersigned of our heads. Raises as ``check`` does."""
        for envelope in message.envelopes[:MAX_ENVELOPES]:
            self.check(envelope)
            with self._lock:
                self._keep(envelope)

    def _keep(self, envelope: bytes) -> None:
        believed = self._roster()
        if believed is None:
            return
        try:
            signed = SignedHead.verify(envelope, believed.document)
        except (DocumentError, SignatureError):
            return
        if signed.head.site != self._member.site or not signed.countersigned:
            return
        newest = read_head(self._offered).tree_size if self._offered is not None else 0
        for site in signed.countersigned:
            self._last_of[site] = signed.head.tree_size
            self._again |= signed.head.tree_size < newest
        kept = self._store.find(signed.head.tree_size)
        if kept is not None and read_head(kept) == signed.head:
            try:
                before = SignedHead.verify(kept, believed.document)
            except (DocumentError, SignatureError):
                before = signed
            if signed.countersigned <= before.countersigned:
                return
            merged = before.merged(signed)
            if kept == self._offered:
                self._offered = merged.envelope
            signed = merged
        self._store.keep(signed, believed)

    def _note_sizes(self, envelope: bytes) -> None:
        believed = self._roster()
        if believed is None:
            return
        try:
            signed = SignedHead.verify(envelope, believed.document)
        except (DocumentError, SignatureError):
            return
        for site in signed.countersigned:
            self._last_of[site] = signed.head.tree_size

    # ---- the others' ledgers -------------------------------------------------------------------

    def countersign(self, offer: wire.HeadOffer) -> Sealed | None:
        """Return what we countersign of another site's ledger: the offered head, if it may be.

        Otherwise it is the head that we countersigned before, so that its site can prove the
        offered one from there, or see that its ledger was turned back. None when there is nothing
        to say.
        """
        with self._lock:
            believed = self._roster()
            if believed is None or not self._is_ours(believed.document):
                return None
            try:
                signed = SignedHead.verify(offer.envelope, believed.document)
            except (DocumentError, SignatureError) as error:
                if not self._gate.is_flood(self._member):
                    log.warning("%s: not countersigned: %s", self._member.consortium, error)
                return None
            site = signed.head.site
            if self._member.site not in witnesses(believed.document, site):
                return None
            if not self._is_time(site):
                return None
            before = self._store.witnessed(site)
            previous = read_head(before) if before is not None else None
            try:
                check_successor(previous, signed.head, _proof(offer, previous), self._gate.clock())
            except Contradiction as error:
                self._contradicted(signed, error)
                envelope = before
            except DocumentError as error:
                log.info("%s: not countersigned yet: %s", self._member.consortium, error)
                envelope = before
            else:
                own = self._only_theirs(signed, believed.document)
                done = own.countersign(self._member.site, self._member.key)
                self._store.remember(done)
                envelope = done.envelope
        if envelope is None:
            return None
        message = wire.Countersignatures(envelopes=[envelope])
        return self._gate.countersigned(self._member, message)

    def held(self) -> Sealed | None:
        """Return all heads of other sites that we countersigned last, unless just these were told.

        A coordinator that lost its memory, and a site that did, learn them so.
        """
        with self._lock:
            heads = list(self._store.all_witnessed().values())[:MAX_ENVELOPES]
            if heads == (self._told or []):
                return None
            self._told = heads
        return self._gate.countersigned(self._member, wire.Countersignatures(envelopes=heads))

    def _is_time(self, site: str) -> bool:
        now = self._seconds()
        last = self._countersigned_at.get(site)
        if last is not None and now - last < self._pause:
            return False
        self._countersigned_at[site] = now
        return True

    def _only_theirs(self, signed: SignedHead, roster: Roster) -> SignedHead:
        """Return a head with its own site's signature alone; the others' are not ours to carry."""
        member = roster.site(signed.head.site)
        assert member is not None
        envelope = Envelope.parse(signed.envelope)
        kept = tuple(s for s in envelope.signatures if s.keyid == member.key_id)
        alone = envelope.model_copy(update={"signatures": kept})
        return SignedHead(signed.head, alone.to_bytes(), frozenset())

    def _contradicted(self, signed: SignedHead, error: Contradiction) -> None:
        """Write down, once, that a site shows another history than before."""
        head = signed.head
        log.error("%s: not countersigned: %s", self._member.consortium, error)
        if head.root_hash in self._refused or len(self._refused) >= MAX_REMEMBERED:
            return
        self._refused.add(head.root_hash)
        body = {
            "consortium": self._member.consortium,
            "site": head.site,
            "why": str(error),
            "envelope": signed.envelope.decode(),
        }
        self._gate.ledger.append("head-contradicted", body, self._gate.clock())

    # ---- both ----------------------------------------------------------------------------------

    def _roster(self) -> Believed[Roster] | None:
        """Return the roster in force, or None: then nothing is signed and nothing believed."""
        try:
            self._member.trusted.current_roster(self._now())
        except DocumentError:
            return None
        return self._member.trusted.roster

    def _now(self) -> datetime:
        return self._gate.clock()

    def _is_ours(self, roster: Roster) -> bool:
        site = roster.site(self._member.site)
        return site is not None and site.key_id == self._member.key.id


def _proof(offer: wire.HeadOffer, previous: TreeHead | None) -> list[bytes] | None:
    if previous is None:
        return None
    for proof in offer.proofs[:MAX_PROOFS]:
        if proof.first == previous.tree_size:
            return list(proof.path)
    return None
