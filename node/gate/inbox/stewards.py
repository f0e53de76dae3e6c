"""Who decides here: the hospital's own steward, and those whom that steward registered. No I/O.

The first steward's key is the one that the node joined with, whose id is the consortium's anchor.
Another steward counts while a statement that the first one signed is there and not taken back.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from contract.documents import Name, PublicKey
from contract.envelope import Envelope
from contract.errors import DocumentError, SignatureError
from contract.keys import SigningKey, key_id

STEWARD_TYPE = "application/vnd.wardgate.steward+json"


class Registration(BaseModel):
    """One more steward of this node, ``by`` the first one's key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    key: PublicKey
    by: PublicKey
    time: AwareDatetime

    @classmethod
    def verify(cls, data: bytes, first: Iterable[str]) -> Registration:
        """Return the registration if a first steward, of these key ids, signed it."""
        envelope = Envelope.parse(data)
        try:
            registration = cls.model_validate_json(envelope.body)
        except ValidationError:
            raise DocumentError("A steward's registration is malformed.") from None
        signer = key_id(registration.by)
        if signer not in set(first):
            raise SignatureError("A steward's registration is not by this node's first steward.")
        envelope.open(STEWARD_TYPE, {signer: registration.by}, 1)
        return registration


def register(key: SigningKey, name: str, public: str, now: datetime) -> bytes:
    """Return a registration of ``public`` as ``name``, signed by the first steward's ``key``."""
    document = Registration(name=name, key=public, by=key.public, time=now)
    return Envelope.seal(STEWARD_TYPE, document.model_dump_json().encode()).sign(key).to_bytes()


def allowed_keys(first: str, registrations: Iterable[bytes]) -> frozenset[str]:
    """Return the ids of the keys that decide: the first steward's and those it registered."""
    keys = {first}
    for data in registrations:
        try:
            keys.add(key_id(Registration.verify(data, [first]).key))
        except (DocumentError, SignatureError):
            continue
    return frozenset(keys)
