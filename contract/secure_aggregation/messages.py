"""The terms of a secure sum and its messages: values, and no more.

Sites go by their place in ``Terms.participants``, from 0.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from contract.errors import DocumentError
from contract.secure_aggregation.masking import Words

SESSION_BYTES = 32


@dataclass(frozen=True)
class Participant:
    """A site that may be in the sum: its name and Ed25519 key, both from the stewards' roster."""

    name: str
    key: str


@dataclass(frozen=True)
class Terms:
    """What all must agree on before a secure sum begins; every signature and key is bound to it.

    ``session`` is 32 bytes that belong to one sum only (a digest of job, round and roster);
    ``minimum`` the fewest sites whose sum may be learned; ``word`` the bits of a word;
    ``threshold`` how many shares give a secret away. ``degree`` 0 is the complete graph, which
    holds against a server that lies if ``threshold`` is above two thirds of the sites.
    """

    session: bytes
    participants: tuple[Participant, ...]
    minimum: int
    length: int
    word: int
    threshold: int
    degree: int = 0

    def __post_init__(self) -> None:
        sites = len(self.participants)
        names = {p.name for p in self.participants}
        if len(names) != sites or len({p.key for p in self.participants}) != sites:
            raise DocumentError("A site takes part twice in a secure sum.")
        if list(self.participants) != sorted(self.participants, key=lambda p: p.name):
            raise DocumentError("The sites of a secure sum must be in the order of their names.")
        if len(self.session) != SESSION_BYTES or self.word not in (16, 32, 64) or self.length < 1:
            raise DocumentError("The terms of a secure sum are malformed.")
        if not self.degree and not 2 * sites < 3 * self.threshold <= 3 * sites:
            raise DocumentError("A secure sum's threshold must be above two thirds of its sites.")
        if self.degree and not 1 <= self.threshold <= self.degree < sites:
            raise DocumentError("A sparse secure sum's threshold must be within its degree.")
        if not max(2, 0 if self.degree else self.threshold) <= self.minimum <= sites:
            raise DocumentError("A secure sum needs more sites than its minimum, at least two.")

    @property
    def sites(self) -> int:
        """How many sites may take part."""
        return len(self.participants)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the terms."""
        said = {
            "session": self.session.hex(),
            "participants": [[p.name, p.key] for p in self.participants],
            "minimum": self.minimum,
            "length": self.length,
            "word": self.word,
            "threshold": self.threshold,
            "degree": self.degree,
        }
        return hashlib.sha256(json.dumps(said, separators=(",", ":")).encode()).digest()


def smallest_threshold(sites: int) -> int:
    """Return the smallest threshold above two thirds. With three sites nobody may drop out."""
    return 2 * sites // 3 + 1


@dataclass(frozen=True)
class Advertisement:
    """Step 1, from a site: two X25519 keys and a commitment to its own mask's seed, signed."""

    sender: int
    channel_key: bytes
    mask_key: bytes
    commitment: bytes
    signature: bytes = field(repr=False)

    def signed(self, terms: Terms) -> bytes:
        """Return the bytes that the site signs."""
        keys = self.channel_key + self.mask_key + self.commitment
        return b"wardgate secure sum keys\0" + terms.digest + self.sender.to_bytes(4, "big") + keys


@dataclass(frozen=True)
class Introduction:
    """Step 1, to a site: the keys of those it masks with. ``graph`` is the sparse graph's seed."""

    advertisements: tuple[Advertisement, ...]
    graph: bytes = b""


@dataclass(frozen=True)
class EncryptedShares:
    """Step 2, from a site by way of the server to another: one share of each of its secrets."""

    sender: int
    receiver: int
    ciphertext: bytes = field(repr=False)


@dataclass(frozen=True)
class MaskedVector:
    """Step 3, from a site: its vector under all its masks."""

    sender: int
    words: Words = field(repr=False)


@dataclass(frozen=True)
class Survivors:
    """Step 3, to a site: whose vectors came; over a sparse graph, of its neighbours and itself."""

    members: tuple[int, ...]

    def signed(self, terms: Terms) -> bytes:
        """Return the bytes that a site signs."""
        places = b"".join(member.to_bytes(4, "big") for member in self.members)
        return b"wardgate secure sum survivors\0" + terms.digest + places


@dataclass(frozen=True)
class Confirmation:
    """Step 4, from a site to all: its signature over whose vectors came."""

    sender: int
    signature: bytes = field(repr=False)


@dataclass(frozen=True)
class Revealed:
    """Step 5, from a site: of each other one share, never both: its mask key's, or its seed's.

    ``keys`` are shares of the mask keys of those that dropped out; ``seeds`` of the own masks'
    seeds of those whose vectors came.
    """

    sender: int
    keys: Mapping[int, bytes] = field(repr=False)
    seeds: Mapping[int, bytes] = field(repr=False)
