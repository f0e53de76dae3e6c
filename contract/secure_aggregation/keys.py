"""Keys of a secure sum: X25519 agreements, derived with their terms, purpose and direction."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash

from contract.errors import DocumentError

KEY_BYTES = 32


def public_of(private: bytes) -> bytes:
    """Return the public key of 32 private bytes (RFC 7748)."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agree(private: X25519PrivateKey, public: bytes, terms: bytes, purpose: bytes) -> bytes:
    """Return 32 bytes that the holders of both keys know (RFC 7748; NIST SP 800-56C, one step)."""
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise DocumentError("A key of a secure sum is of low order.") from None
    return ConcatKDFHash(hashes.SHA256(), KEY_BYTES, terms + purpose).derive(shared)


def mask_seed(private: X25519PrivateKey, public: bytes, terms: bytes, one: int, two: int) -> bytes:
    """Return the seed of the mask that two sites share."""
    pair = min(one, two).to_bytes(4, "big") + max(one, two).to_bytes(4, "big")
    return agree(private, public, terms, b"mask" + pair)


def channel_key(
    private: X25519PrivateKey, public: bytes, terms: bytes, sender: int, receiver: int
) -> bytes:
    """Return the key under which ``sender`` encrypts to ``receiver``, once."""
    direction = sender.to_bytes(4, "big") + receiver.to_bytes(4, "big")
    return agree(private, public, terms, b"channel" + direction)


def commitment(seed: bytes, terms: bytes, sender: int) -> bytes:
    """Return a commitment to a seed of 32 random bytes."""
    return hashlib.sha256(b"seed" + terms + sender.to_bytes(4, "big") + seed).digest()
