"""Proof that one entry is in the ledger, in a file that anybody can check without the ledger.

A bundle is a JSON object: the entry's line, its number, the inclusion proof to a signed head, the
head with its countersignatures, and the roster that names the keys. Whoever checks it must know the
roster's digest from somewhere else: a bundle with a roster of its maker's own proves nothing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from contract import merkle
from contract.documents import ROSTER_TYPE, Roster, Sha256
from contract.envelope import Envelope
from contract.errors import DocumentError, LedgerError, NotFound
from contract.heads import SignedHead, read_head
from contract.receipts import Receipt
from node.gate.ledger.book import Ledger
from node.gate.ledger.heads import HeadStore

FORMAT = "wardgate-ledger-proof-1"
MAX_BUNDLE_BYTES = 8 * 1024 * 1024


class Bundle(BaseModel):
    """A proof for one entry, as it is written to a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Annotated[str, StringConstraints(pattern=f"^{FORMAT}$")] = FORMAT
    entry: str
    sequence: Annotated[int, Field(ge=0)]
    inclusion: Annotated[tuple[Sha256, ...], Field(max_length=merkle.MAX_PATH)]
    head: Envelope
    roster: Envelope

    def to_bytes(self) -> bytes:
        """Return the bundle as JSON."""
        return json.dumps(self.model_dump(), indent=1).encode() + b"\n"


@dataclass(frozen=True)
class Proved:
    """What a bundle proves. ``roster_digest`` is by what its roster must be known."""

    entry: dict[str, Any]
    hash: str
    head: SignedHead
    roster: Roster
    roster_digest: str

    def check_receipt(self, data: bytes) -> None:
        """Raise ``LedgerError`` unless a receipt of this site names just this entry."""
        receipt = Receipt.verify(data, self.roster)
        named = receipt.site, receipt.ledger_sequence, receipt.ledger_head
        if named != (self.head.head.site, self.entry["sequence"], self.hash):
            raise LedgerError(f"The receipt is of entry {receipt.ledger_sequence}, another one.")


def head_over(store: HeadStore, sequence: int) -> bytes:
    """Return the head that proves most for an entry: of those over it, the newest countersigned.

    ``NotFound`` when no head was signed since the entry.
    """
    over = [envelope for envelope in store.own() if read_head(envelope).tree_size > sequence]
    if not over:
        raise NotFound(f"No head was signed since entry {sequence}.")
    signed = [envelope for envelope in over if len(Envelope.parse(envelope).signatures) > 1]
    return (signed or over)[-1]


def prove(ledger: Ledger, store: HeadStore, sequence: int) -> Bundle:
    """Return the proof for an entry. ``NotFound`` as for ``head_over`` and ``Ledger.entry``."""
    ledger.entry(sequence)
    envelope = head_over(store, sequence)
    size = read_head(envelope).tree_size
    path = ledger.inclusion_proof(sequence, size)
    return Bundle(
        entry=ledger.line(sequence).decode(),
        sequence=sequence,
        inclusion=tuple(step.hex() for step in path),
        head=Envelope.parse(envelope),
        roster=Envelope.parse(store.roster()),
    )


def check(data: bytes) -> Proved:
    """Check a bundle's signatures and path. Errors: ``DocumentError``, ``SignatureError``,
    ``LedgerError`` when the path doesn't lead to the head."""
    try:
        bundle = Bundle.model_validate_json(data)
    except ValidationError:
        raise DocumentError("The file is not a proof of a ledger's entry.") from None
    roster = Roster.read(bundle.roster.body)
    bundle.roster.open(ROSTER_TYPE, roster.steward_keys, roster.threshold)
    signed = SignedHead.verify(bundle.head.to_bytes(), roster)
    leaf = merkle.leaf_hash(bundle.entry.encode())
    path = [bytes.fromhex(step) for step in bundle.inclusion]
    head = signed.head
    if not merkle.inclusion_holds(leaf, bundle.sequence, head.tree_size, path, head.root):
        raise LedgerError("The proof does not lead from the entry to the signed head.")
    try:
        entry = json.loads(bundle.entry)
        sequence = entry["sequence"]
    except (ValueError, KeyError, TypeError):
        raise LedgerError("The proved entry is not readable.") from None
    if sequence != bundle.sequence:
        raise LedgerError("The proved entry says another number than its place.")
    hash_ = hashlib.sha256(bundle.entry.encode()).hexdigest()
    return Proved(entry, hash_, signed, roster, bundle.roster.digest)
