"""Receipts: what a site says, under its own key, about one payload that it let out.

A receipt is a DSSE envelope signed with the site's key (the one on the roster, not the one of its
transport certificate), so a coordinator can withhold a receipt but can't make or change one.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from contract.documents import Line, Name, Roster, Sha256
from contract.envelope import Envelope
from contract.errors import DocumentError, SignatureError
from contract.keys import SigningKey

RECEIPT_TYPE = "application/vnd.wardgate.receipt+json"


class Receipt(BaseModel):
    """One payload that left: for which job, from which release, how many bytes, by which rules.

    ``payload`` is the SHA-256 of the payload's bytes (which name the digest of the tensors that go
    with it); ``payload_bytes`` counts both. ``ledger_sequence`` and ``ledger_head`` are the entry
    that was written before the payload was sent. ``noise``: the noise multipliers of the Gaussian
    releases that the payload was charged as, where the site tells.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    consortium: Name
    site: Name
    job: Sha256
    task: Annotated[str, Field(max_length=64)]
    release: Sha256
    payload: Sha256
    payload_bytes: Annotated[int, Field(ge=0)]
    rules: tuple[Line, ...]
    lane: Line = "exact"
    noise: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field((), max_length=8)
    ledger_sequence: Annotated[int, Field(ge=0)]
    ledger_head: Sha256
    time: AwareDatetime

    def sign(self, key: SigningKey) -> bytes:
        """Return the receipt as an envelope signed by the site's key."""
        envelope = Envelope.seal(RECEIPT_TYPE, self.model_dump_json().encode())
        return envelope.sign(key).to_bytes()

    @classmethod
    def verify(cls, data: bytes, roster: Roster) -> Receipt:
        """Return the receipt if the site that it names, as on ``roster``, signed it."""
        # It names whose signature counts, so it is read before it is believed.
        envelope = Envelope.parse(data)
        receipt = cls._read(envelope)
        site = roster.site(receipt.site)
        if site is None:
            raise SignatureError("A receipt names a site that is not on the roster.")
        envelope.open(RECEIPT_TYPE, {site.key_id: site.key}, 1)
        return receipt

    @classmethod
    def _read(cls, envelope: Envelope) -> Receipt:
        try:
            return cls.model_validate_json(envelope.body)
        except ValidationError:
            raise DocumentError("A receipt is malformed.") from None

    @staticmethod
    def head_of(data: bytes) -> tuple[int, bytes]:
        """Return the ledger's head that a receipt names, its signature unchecked."""
        receipt = Receipt._read(Envelope.parse(data))
        return receipt.ledger_sequence, bytes.fromhex(receipt.ledger_head)
