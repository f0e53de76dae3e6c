"""The coordinator's half of a secure sum: it relays, adds up, and takes the masks off the total.

It keeps one vector, to which each masked one is added as it comes. Nothing it does is trusted by
the sites; it checks what they send only to say who broke the sum.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from functools import partial

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from contract.errors import DocumentError, Refused
from contract.keys import verify
from contract.secure_aggregation import keys
from contract.secure_aggregation.client import check_words
from contract.secure_aggregation.graph import neighbours
from contract.secure_aggregation.masking import Words, add_masks
from contract.secure_aggregation.messages import (
    Advertisement,
    Confirmation,
    EncryptedShares,
    Introduction,
    MaskedVector,
    Revealed,
    Survivors,
    Terms,
)
from contract.secure_aggregation.sharing import Randomness
from contract.secure_aggregation.unmasking import RevealedShares


class Server:
    """One secure sum, seen from the middle. ``Refused`` when too few sites are left."""

    def __init__(self, terms: Terms, randomness: Randomness = secrets.token_bytes) -> None:
        self.terms = terms
        self._digest = terms.digest
        self._graph = randomness(32) if terms.degree else b""
        self._near = neighbours(terms.sites, terms.degree, self._graph)
        self._advertised: dict[int, Advertisement] = {}
        self._shared: dict[int, dict[int, EncryptedShares]] = {}
        self._confirmed: dict[int, Confirmation] = {}
        self._vectors: set[int] = set()
        self._total: Words = np.zeros(terms.length, np.dtype(f"u{terms.word // 8}"))
        self._revealed = RevealedShares(terms.threshold, [p.name for p in terms.participants])

    # ---- 1: keys -------------------------------------------------------------------------------

    def advertised(self, message: Advertisement) -> None:
        """Take a site's keys."""
        key = self._participant(message.sender)
        if not verify(key, message.signature, message.signed(self.terms)):
            raise DocumentError("A site's keys are not signed by it.")
        held = {k for a in self._advertised.values() for k in (a.channel_key, a.mask_key)}
        new = {message.channel_key, message.mask_key}
        if len(new) != 2 or new & held:
            raise DocumentError("Two sites have one key.")  # the others would all stop at it
        for public in new:
            keys.agree(X25519PrivateKey.generate(), public, b"", b"")
        self._advertised[message.sender] = message

    def introductions(self) -> dict[int, Introduction]:
        """Return what each site is told of the others' keys."""
        self._check(len(self._advertised))
        everyone = tuple(self._advertised[site] for site in sorted(self._advertised))
        if not self.terms.degree:
            return dict.fromkeys(self._advertised, Introduction(everyone))
        return {
            site: Introduction(
                tuple(self._advertised[o] for o in self._near[site] if o in self._advertised),
                self._graph,
            )
            for site in self._advertised
        }

    # ---- 2: shares -----------------------------------------------------------------------------

    def shared(self, sender: int, messages: Iterable[EncryptedShares]) -> None:
        """Take the shares that a site sends to others."""
        sent = {m.receiver: m for m in messages}
        allowed = {o for o in self._near[sender] if o in self._advertised}
        if sender not in self._advertised or set(sent) != allowed:
            raise DocumentError("A site didn't send its shares to those it masks with.")
        if any(m.sender != sender for m in sent.values()):
            raise DocumentError("A site sent another's shares.")
        self._shared[sender] = sent

    def deliveries(self) -> dict[int, list[EncryptedShares]]:
        """Return the shares for each site that sent its own."""
        self._check(len(self._shared))
        return {
            site: [self._shared[o][site] for o in self._near[site] if o in self._shared]
            for site in self._shared
        }

    # ---- 3: masked vectors ---------------------------------------------------------------------

    def masked(self, message: MaskedVector) -> None:
        """Add a masked vector to the total."""
        if message.sender not in self._shared or message.sender in self._vectors:
            raise DocumentError("A masked vector came twice, or of a site that shared nothing.")
        check_words(message.words, self.terms)
        np.add(self._total, message.words, out=self._total)
        self._vectors.add(message.sender)

    def survivors(self) -> dict[int, Survivors]:
        """Return, for each site whose vector came, whose came."""
        self._check(len(self._vectors))
        whole = Survivors(tuple(sorted(self._vectors)))
        if not self.terms.degree:
            return dict.fromkeys(self._vectors, whole)
        return {
            site: Survivors(tuple(sorted({site, *self._near[site]} & self._vectors)))
            for site in self._vectors
        }

    # ---- 4: confirmations ----------------------------------------------------------------------

    def confirmed(self, message: Confirmation) -> None:
        """Take a site's confirmation of who survived."""
        signed = Survivors(tuple(sorted(self._vectors))).signed(self.terms)
        if message.sender not in self._vectors or not (
            self.terms.degree
            or verify(self._participant(message.sender), message.signature, signed)
        ):
            raise DocumentError("A confirmation is not of a survivor, or of another list.")
        self._confirmed[message.sender] = message

    def confirmations(self) -> list[Confirmation]:
        """Return what every site that confirmed is told; none over a sparse graph."""
        self._check(len(self._confirmed))
        if self.terms.degree:
            return []
        return [self._confirmed[site] for site in sorted(self._confirmed)]

    # ---- 5: unmasking --------------------------------------------------------------------------

    def revealed(self, message: Revealed) -> None:
        """Take a site's shares of the others' secrets."""
        dropped = set(self._shared) - self._vectors
        if message.sender not in self._vectors:
            raise DocumentError("Shares came of a site that is no survivor.")
        if not set(message.keys) <= dropped or not set(message.seeds) <= self._vectors:
            raise DocumentError("A site sent shares that were not asked for.")
        for owner, share in (*message.keys.items(), *message.seeds.items()):
            self._revealed.add(message.sender, owner, share)

    def total(self) -> Words:
        """Return the sum of the survivors' vectors.

        ``Refused`` when shares are missing, ``DocumentError`` when they fit nothing that was
        signed: it says of whom.
        """
        masks = [(seed, True) for seed in self.seeds()]
        for gone in sorted(set(self._shared) - self._vectors):
            private = self._revealed.secret(gone, partial(self._is_key_of, gone))
            key = X25519PrivateKey.from_private_bytes(private)
            for survivor in self._near[gone]:
                if survivor in self._vectors:
                    public = self._advertised[survivor].mask_key
                    seed = keys.mask_seed(key, public, self._digest, survivor, gone)
                    masks.append((seed, survivor < gone))
        add_masks(self._total, masks)
        return self._total

    def seeds(self) -> list[bytes]:
        """Return the seeds of the survivors' own masks, in their order. Raises as ``total``."""
        return [
            self._revealed.secret(survivor, partial(self._is_seed_of, survivor))
            for survivor in sorted(self._vectors)
        ]

    def wrong_shares(self) -> list[tuple[str, str]]:
        """Return who sent a wrong share, and of whose secret: one of the two broke the protocol."""
        names = [p.name for p in self.terms.participants]
        return sorted((names[sender], names[owner]) for sender, owner in self._revealed.wrong)

    # ---- checks --------------------------------------------------------------------------------

    def _is_seed_of(self, owner: int, seed: bytes) -> bool:
        known = self._advertised[owner].commitment
        return keys.commitment(seed, self._digest, owner) == known

    def _is_key_of(self, owner: int, private: bytes) -> bool:
        return keys.public_of(private) == self._advertised[owner].mask_key

    def _participant(self, place: int) -> str:
        if not 0 <= place < self.terms.sites:
            raise DocumentError("A message is of no participant.")
        return self.terms.participants[place].key

    def _check(self, present: int) -> None:
        if present < self.terms.minimum:
            raise Refused("too-few-sites", "Too few sites are left in the secure sum.")
