"""Signed heads of a site's ledger, and the rules by which another site countersigns one.

A head says how a ledger stood: how many entries, their Merkle root, the hash of the last entry's
line, when. It is a DSSE envelope signed by the site's key on the roster. A countersignature is
another site's signature in the same envelope, over the same bytes: "I have seen no other history
of this ledger". Before a site countersigns (``check_successor``):

1.  The head is of this consortium, of another site on the roster believed here, and that site
    signed it.
2.  It isn't shorter than the head of that site that was countersigned last, and a proof of
    consistency shows that it begins with it. Of one length, it is the same.
3.  Its time isn't before that head's, nor later than the clock here by more than a tolerance.

Who countersigns: of a site, ``WITNESSES`` others, which follow from the roster by rendezvous
hashing (``witnesses``), so that nobody chooses them; all others where there are no more. Hundreds
of sites that countersigned one another's heads would write tens of thousands of entries each.

Guarantee: two heads of one site that both carry an honest site's countersignature lie on one
history. Assumption: that site's memory wasn't turned back in between. Whoever carries heads (the
coordinator) can withhold them, and countersignatures, and can make none. The first head that a site
sees of another is taken as it is. Source: RFC 6962, 3.5, and the witnesses of C2SP's tlog-witness;
Thaler and Ravishankar 1998 for the hashing.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from contract import merkle
from contract.documents import Name, Roster, Sha256
from contract.envelope import Envelope
from contract.errors import DocumentError, SignatureError
from contract.keys import SigningKey

HEAD_TYPE = "application/vnd.wardgate.ledger-head+json"
MAX_HEAD_BYTES = 512 * 1024
"""An envelope with the signatures of as many sites as a roster holds is smaller."""
MAX_SIGNATURES = 256
"""As many as an envelope holds."""
WITNESSES = 16
CLOCK_TOLERANCE = timedelta(minutes=10)
"""By how much another site's clock may be ahead of ours."""


class Contradiction(DocumentError):
    """A head that its site signed and that doesn't go on from one it signed before."""


class TreeHead(BaseModel):
    """How a ledger stood at a moment. ``chain_hash`` is SHA-256 of the last entry's line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    consortium: Name
    site: Name
    tree_size: Annotated[int, Field(ge=1, lt=2**63)]
    root_hash: Sha256
    chain_hash: Sha256
    time: AwareDatetime

    def sign(self, key: SigningKey) -> bytes:
        """Return the head as an envelope signed by its site's key."""
        return Envelope.seal(HEAD_TYPE, self.model_dump_json().encode()).sign(key).to_bytes()

    @property
    def root(self) -> bytes:
        """The root's 32 bytes."""
        return bytes.fromhex(self.root_hash)


@dataclass(frozen=True)
class SignedHead:
    """A head that its site signed, and who of the roster's other sites countersigned it."""

    head: TreeHead
    envelope: bytes
    countersigned: frozenset[str]

    @classmethod
    def verify(cls, data: bytes, roster: Roster) -> SignedHead:
        """Return the head if the site that it names, as on ``roster``, signed it.

        Signatures that aren't valid, or of nobody on the roster, are left out of ``envelope``.
        Errors: ``DocumentError``, ``SignatureError``.
        """
        head, envelope = _read(data)
        if head.consortium != roster.consortium:
            raise DocumentError("A ledger's head is of another consortium.")
        signed = {signature.keyid for signature in envelope.signatures}
        keys = {member.key_id: member for member in roster.sites if member.key_id in signed}
        valid = envelope.signers({i: member.key for i, member in keys.items()})
        names = {keys[i].name for i in valid}
        if head.site not in names:
            raise SignatureError("A ledger's head is not signed by the site that it names.")
        kept = tuple(s for s in envelope.signatures if s.keyid in valid)
        clean = envelope.model_copy(update={"signatures": kept})
        return cls(head, clean.to_bytes(), frozenset(names - {head.site}))

    def merged(self, other: SignedHead) -> SignedHead:
        """Return this head with the countersignatures of another envelope of the same head.

        An envelope that would get too full stays as it is.
        """
        if other.head != self.head:
            raise DocumentError("Two ledger heads differ.")
        envelope = Envelope.parse(self.envelope)
        both = envelope.with_signatures(Envelope.parse(other.envelope).signatures)
        if len(both.signatures) > MAX_SIGNATURES:
            return self
        names = self.countersigned | other.countersigned
        return SignedHead(self.head, both.to_bytes(), names)

    def countersign(self, site: str, key: SigningKey) -> SignedHead:
        """Return this head with a site's countersignature."""
        envelope = Envelope.parse(self.envelope).sign(key)
        return SignedHead(self.head, envelope.to_bytes(), self.countersigned | {site})


def witnesses(roster: Roster, site: str) -> frozenset[str]:
    """Return the sites of a roster that countersign the heads of ``site``."""
    return _drawn(roster.consortium, site, tuple(member.name for member in roster.sites))


@functools.lru_cache(maxsize=8192)
def _drawn(consortium: str, site: str, names: tuple[str, ...]) -> frozenset[str]:
    def height(name: str) -> bytes:
        return hashlib.sha256(f"{consortium}/{site}/{name}".encode()).digest()

    return frozenset(sorted((n for n in names if n != site), key=height)[:WITNESSES])


def read_head(data: bytes) -> TreeHead:
    """Return the head of an envelope, its signatures unchecked; ``DocumentError`` when none."""
    return _read(data)[0]


def check_successor(
    previous: TreeHead | None, head: TreeHead, proof: Sequence[bytes] | None, now: datetime
) -> None:
    """Apply rules 2 and 3 to a head whose signature was checked.

    ``previous`` is the head countersigned last, None when there is none; ``proof`` shows
    consistency between the two, None when there is no proof from that head.

    Errors: ``Contradiction`` when the site has signed two histories or its clock went back;
    ``DocumentError`` when nothing is proved yet.
    """
    if head.time > now + CLOCK_TOLERANCE:
        raise DocumentError(f"A head of {head.site}'s ledger is ahead of our clock.")
    if previous is None:
        return
    if head.tree_size < previous.tree_size:
        raise Contradiction(
            f"{head.site}'s ledger has {head.tree_size} entries, and had {previous.tree_size}."
        )
    if head.time < previous.time:
        raise Contradiction(f"The clock of {head.site}'s ledger went back.")
    if head.tree_size == previous.tree_size:
        if (head.root_hash, head.chain_hash) != (previous.root_hash, previous.chain_hash):
            raise Contradiction(f"{head.site}'s ledger has two heads of {head.tree_size} entries.")
        return
    if proof is None:
        raise DocumentError(f"A head of {head.site}'s ledger came without the proof it needs.")
    if not merkle.consistency_holds(
        previous.tree_size, previous.root, head.tree_size, head.root, proof
    ):
        raise Contradiction(
            f"{head.site}'s ledger isn't proved to go on from its entry {previous.tree_size - 1}."
        )


def _read(data: bytes) -> tuple[TreeHead, Envelope]:
    if len(data) > MAX_HEAD_BYTES:
        raise DocumentError("A ledger's head is too large.")
    envelope = Envelope.parse(data)
    if envelope.payloadType != HEAD_TYPE:
        raise DocumentError("A ledger's head is of another type.")
    try:
        return TreeHead.model_validate_json(envelope.body), envelope
    except ValidationError:
        raise DocumentError("A ledger's head is malformed.") from None
