"""DSSE envelopes: signatures over the bytes received, with nothing to canonicalise.

Source: Dead Simple Signing Envelope 1.0 (secure-systems-lab/dsse, protocol.md and envelope.md).
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterable, Mapping
from typing import Annotated, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from contract import keys
from contract.errors import DocumentError, SignatureError

MAX_ENVELOPE_BYTES = 4 * 1024 * 1024
"""An envelope larger than this is refused before it is parsed."""
PARSED = 4
"""Envelopes of which the parsed form is kept: an offer is read by several, one after the other."""
MAX_SIGNATURES = 2048
"""More than a roster has stewards (1,024), each of whom may sign a document."""


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Return what is signed: DSSE's PAE of a type and a body."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


class Signature(BaseModel):
    """One signature: who (key id, 64 hexadecimal digits) and the 64 bytes in base64."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keyid: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    sig: Annotated[str, StringConstraints(max_length=128)]


class Envelope(BaseModel):
    """A payload, its type and its signatures. Parsing checks form only, never trust."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    payload: str
    payloadType: Annotated[str, StringConstraints(max_length=128)]  # noqa: N815 (DSSE's name)
    signatures: Annotated[tuple[Signature, ...], Field(max_length=MAX_SIGNATURES)]

    @model_validator(mode="after")
    def _has_one_signature_a_key(self) -> Self:
        # A false second signature must not be able to take a true one's place when both are kept.
        if len({s.keyid for s in self.signatures}) != len(self.signatures):
            raise ValueError("a key id occurs twice")
        return self

    @classmethod
    def seal(cls, payload_type: str, payload: bytes) -> Envelope:
        """Wrap ``payload`` without any signature."""
        return cls(
            payload=base64.b64encode(payload).decode(), payloadType=payload_type, signatures=()
        )

    @classmethod
    def parse(cls, data: bytes) -> Envelope:
        """Read an envelope from bytes of a stranger; ``DocumentError`` when it is none."""
        if len(data) > MAX_ENVELOPE_BYTES:
            raise DocumentError(f"A signed document is larger than {MAX_ENVELOPE_BYTES} bytes.")
        return _parsed(data)

    def to_bytes(self) -> bytes:
        """Return the envelope as JSON."""
        return self.model_dump_json().encode()

    @functools.cached_property
    def body(self) -> bytes:
        """The payload's bytes."""
        try:
            return keys.from_base64(self.payload)
        except ValueError:
            raise DocumentError("A signed document's payload is not base64.") from None

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the payload: what a document is called, whoever signed it."""
        return hashlib.sha256(self.body).hexdigest()

    def sign(self, key: keys.SigningKey) -> Envelope:
        """Return the envelope with one signature more (or renewed) by ``key``."""
        signature = key.sign(pre_authentication_encoding(self.payloadType, self.body))
        return self.with_signatures(
            [Signature(keyid=key.id, sig=base64.b64encode(signature).decode())]
        )

    def with_signatures(self, signatures: Iterable[Signature]) -> Envelope:
        """Return the envelope with ``signatures`` added, one for each key."""
        merged = {s.keyid: s for s in self.signatures} | {s.keyid: s for s in signatures}
        return self.model_copy(update={"signatures": tuple(merged.values())})

    def signers(self, public_keys: Mapping[str, str]) -> set[str]:
        """Return the ids of those of ``public_keys`` (id to base64 key) that signed validly.

        A key counts once, however often it signed, and only under the id that its own bytes give.
        """
        message = pre_authentication_encoding(self.payloadType, self.body)
        valid: set[str] = set()
        for signature in self.signatures:
            public = public_keys.get(signature.keyid)
            if public is None or keys.key_id(public) != signature.keyid:
                continue
            try:
                raw = keys.from_base64(signature.sig)
            except ValueError:
                continue
            if keys.verify(public, raw, message):
                valid.add(signature.keyid)
        return valid

    def open(self, payload_type: str, public_keys: Mapping[str, str], threshold: int) -> bytes:
        """Return the payload if at least ``threshold`` of ``public_keys`` signed it.

        Errors: ``DocumentError`` for another type, ``SignatureError`` for too few valid signatures.
        """
        return self.opened(payload_type, public_keys, threshold)[1]

    def opened(
        self, payload_type: str, public_keys: Mapping[str, str], threshold: int
    ) -> tuple[set[str], bytes]:
        """Do as ``open`` does; return which of the keys signed, and the payload."""
        if self.payloadType != payload_type:
            raise DocumentError(f"A signed document is not of type {payload_type}.")
        if threshold < 1:
            raise SignatureError("A signature threshold must be at least one.")
        signers = self.signers(public_keys)
        if len(signers) < threshold:
            raise SignatureError(
                f"A signed document carries {len(signers)} valid signatures of the {threshold} it "
                "needs."
            )
        return signers, self.body


@functools.lru_cache(PARSED)
def _parsed(data: bytes) -> Envelope:
    try:
        return Envelope.model_validate_json(data)
    except ValidationError:
        raise DocumentError("A signed document is not a DSSE envelope.") from None
