"""Ed25519 signing keys and the names they go by.

A key's id is the lower-case hexadecimal SHA-256 of its 32 raw public bytes (RFC 8032), so that a
steward can compare it over the telephone with what a screen shows.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from contract.errors import SignatureError


@functools.lru_cache(maxsize=8192)  # of a roster's hundreds of keys, with each signature
def key_id(public_key: str) -> str:
    """Return the id of a public key given as base64 of its 32 raw bytes."""
    return hashlib.sha256(public_bytes(public_key)).hexdigest()


def public_bytes(public_key: str) -> bytes:
    """Return the 32 raw bytes of a base64 public key; ``SignatureError`` when it is none."""
    try:
        raw = from_base64(public_key)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise SignatureError("A public key is not 32 bytes of base64.")
    return raw


def from_base64(text: str) -> bytes:
    """Return the bytes of ``text``; ``ValueError`` unless it is the one base64 form of them.

    RFC 4648, 3.5: a decoder may pass over spare bits, and then several texts stand for one value.
    """
    raw = base64.b64decode(text, validate=True)
    if base64.b64encode(raw).decode() != text:
        raise ValueError("not the canonical form")
    return raw


def verify(public_key: str, signature: bytes, message: bytes) -> bool:
    """Say whether ``signature`` (64 bytes) over ``message`` is by ``public_key`` (RFC 8032)."""
    try:
        Ed25519PublicKey.from_public_bytes(public_bytes(public_key)).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@dataclass(frozen=True, repr=False)
class SigningKey:
    """A private Ed25519 key. Its ``repr`` shows the key id only."""

    private: Ed25519PrivateKey

    def __repr__(self) -> str:
        return f"SigningKey({self.id[:16]})"

    @classmethod
    def generate(cls) -> SigningKey:
        """Make a new key from the operating system's random source."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes) -> SigningKey:
        """Read an unencrypted PKCS#8 PEM; ``SignatureError`` when it holds no Ed25519 key."""
        try:
            private = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError):
            raise SignatureError("A key file holds no readable PKCS#8 private key.") from None
        if not isinstance(private, Ed25519PrivateKey):
            raise SignatureError("A key file holds a key that is not Ed25519.")
        return cls(private)

    def to_pem(self) -> bytes:
        """Return the key as unencrypted PKCS#8 PEM, to be kept in a file of mode 0600."""
        return self.private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    @property
    def public(self) -> str:
        """The public key as base64 of its 32 raw bytes."""
        raw = self.private.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )
        return base64.b64encode(raw).decode()

    @property
    def id(self) -> str:
        """The id of the public key: 64 hexadecimal digits."""
        return key_id(self.public)

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over ``message``."""
        return self.private.sign(message)
