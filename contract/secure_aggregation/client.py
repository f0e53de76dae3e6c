"""A site's half of a secure sum: its steps, each once and in order; anything odd ends it.

Guarantee: over the complete graph, whatever the server and up to ``threshold - 1`` less than all
honest sites do, they learn of an honest site's vector no more than the sum over at least
``minimum`` sites, of which all honest ones that the sum holds are part. Over a sparse graph the
same holds against a server that keeps to the protocol (``graph``).

Assumptions: the participants' keys are those of the stewards' roster; X25519, AES-GCM,
AES-CTR, Ed25519 and SHA-256 hold; the site's random source is good; fewer than
``2 * threshold - sites`` participants work with the server. What the sum itself tells, and what a
site that lies puts in, is not hidden or checked here.

A sixth step is for sums that the sites go on from, of all sites without exception: ``recount``
returns the total from what the sites sent under their signatures, so that the server can't hand out
one of its choice.

Source: Bonawitz et al., Practical secure aggregation for privacy-preserving machine learning, CCS
2017, figure 4 with the steps for active adversaries; Bell et al., CCS 2020, for the sparse graph.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from contract.errors import DocumentError, Refused
from contract.keys import SigningKey, verify
from contract.secure_aggregation import keys
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
from contract.secure_aggregation.sharing import SHARE_BYTES, Randomness, split

_NONCE = bytes(12)  # a channel's key encrypts one message


class Client:
    """One site in one secure sum. A step that raises ends it: the secrets are dropped."""

    def __init__(
        self, terms: Terms, key: SigningKey, randomness: Randomness = secrets.token_bytes
    ) -> None:
        """``key`` is the site's on the roster. ``Refused`` when it isn't a participant's."""
        self.terms = terms
        self._digest = terms.digest
        self._signing = key
        public = key.public
        self._me = next((i for i, p in enumerate(terms.participants) if p.key == public), -1)
        if self._me < 0:
            raise Refused("not-a-participant", "This site is not in the secure sum.")
        self._randomness = randomness
        self._channel = X25519PrivateKey.from_private_bytes(randomness(32))
        self._mask_secret = randomness(32)
        self._mask = X25519PrivateKey.from_private_bytes(self._mask_secret)
        self._seed = randomness(32)
        self._known: dict[int, Advertisement] = {}
        self._sent: dict[int, EncryptedShares] = {}
        self._own: tuple[bytes, bytes] = (b"", b"")
        self._survivors = Survivors(())
        self._masked = b""
        self._step = 0

    def _begin(self, step: int) -> None:
        """Take a step; ``Refused`` when it isn't its turn."""
        if self._step != step:
            self._end()
            raise Refused("out-of-order", "A step of a secure sum came out of its order.")
        self._step = -1

    def _end(self) -> None:
        self._step = -1
        self._mask_secret = self._seed = b""
        self._own = (b"", b"")
        self._sent.clear()

    def _refuse(self, code: str, sentence: str) -> Refused:
        self._end()
        return Refused(code, sentence)

    # ---- 1: keys -------------------------------------------------------------------------------

    def advertise(self) -> Advertisement:
        """Return the site's keys for this sum, signed."""
        self._begin(0)
        unsigned = Advertisement(
            self._me,
            self._channel.public_key().public_bytes_raw(),
            self._mask.public_key().public_bytes_raw(),
            keys.commitment(self._seed, self._digest, self._me),
            b"",
        )
        signature = self._signing.sign(unsigned.signed(self.terms))
        self._step = 1
        own = Advertisement(**{**unsigned.__dict__, "signature": signature})
        self._known[self._me] = own
        return own

    # ---- 2: shares -----------------------------------------------------------------------------

    def share(self, introduction: Introduction) -> list[EncryptedShares]:
        """Return the shares of both secrets, encrypted to each of those it will mask with.

        ``Refused`` when a key isn't signed by its site, one came twice, or there are too few.
        """
        self._begin(1)
        found = {a.sender: a for a in introduction.advertisements}
        if len(found) != len(introduction.advertisements):
            raise self._refuse("keys", "A site's keys came twice.")
        if found.pop(self._me, self._known[self._me]) != self._known[self._me]:
            raise self._refuse("keys", "This site's own keys came back changed.")
        allowed = self._allowed(introduction.graph)
        if not set(found) <= allowed:
            raise self._refuse("keys", "Keys came of a site that this one doesn't mask with.")
        used = {self._known[self._me].channel_key, self._known[self._me].mask_key}
        for sender, advertisement in found.items():
            named = self.terms.participants[sender].key
            if not verify(named, advertisement.signature, advertisement.signed(self.terms)):
                raise self._refuse("keys", "Keys are not signed by the site that they are of.")
            used |= {advertisement.channel_key, advertisement.mask_key}
        if len(used) != 2 * (len(found) + 1):
            raise self._refuse("keys", "Two sites have one key.")
        self._check_number(found)
        self._known |= found
        holders = sorted(found if self.terms.degree else self._known)
        points = [holder + 1 for holder in holders]
        threshold = self.terms.threshold
        mask_shares = split(self._mask_secret, points, threshold, self._randomness)
        seed_shares = split(self._seed, points, threshold, self._randomness)
        out = []
        for holder, mask_share, seed_share in zip(holders, mask_shares, seed_shares, strict=True):
            if holder == self._me:
                self._own = (mask_share, seed_share)
                continue
            key = self._channel_to(self._me, holder)
            said = _bound(self._me, holder)
            sealed = AESGCM(key).encrypt(_NONCE, mask_share + seed_share, said)
            out.append(EncryptedShares(self._me, holder, sealed))
        self._step = 2
        return out

    def _allowed(self, graph: bytes) -> set[int]:
        if self.terms.degree:
            return set(neighbours(self.terms.sites, self.terms.degree, graph)[self._me])
        return set(range(self.terms.sites)) - {self._me}

    def _check_number(self, others: Sequence[int] | dict[int, Advertisement]) -> None:
        """Refuse fewer than the threshold, and over the complete graph than the minimum."""
        present = len(others) + (0 if self.terms.degree else 1)
        wanted = self.terms.threshold if self.terms.degree else self.terms.minimum
        if present < wanted:
            raise self._refuse("too-few-sites", "Too few sites take part in the secure sum.")

    def _channel_to(self, sender: int, receiver: int) -> bytes:
        other = receiver if sender == self._me else sender
        public = self._known[other].channel_key
        return keys.channel_key(self._channel, public, self._digest, sender, receiver)

    # ---- 3: the masked vector ------------------------------------------------------------------

    def mask(self, shares: Sequence[EncryptedShares], vector: Words) -> MaskedVector:
        """Return the vector under the site's own mask and those shared with each sender.

        ``shares`` are those that came for this site. ``vector`` is not changed.
        """
        self._begin(2)
        if vector.dtype.itemsize * 8 != self.terms.word or vector.shape != (self.terms.length,):
            raise self._refuse("vector", "The vector has another form than the terms.")
        received = {s.sender: s for s in shares if s.receiver == self._me}
        if len(received) != len(shares):
            raise self._refuse("shares", "Shares came twice or for another site.")
        if not set(received) <= set(self._known) - {self._me}:
            raise self._refuse("shares", "Shares came of a site whose keys are not known.")
        self._check_number(sorted(received))
        self._sent = received
        words = vector.copy()
        masks = [(self._seed, False)]
        for other in received:
            seed = keys.mask_seed(
                self._mask, self._known[other].mask_key, self._digest, self._me, other
            )
            masks.append((seed, self._me > other))
        add_masks(words, masks)
        self._masked = _digest(words)
        self._step = 3
        return MaskedVector(self._me, words)

    # ---- 4: who survived -----------------------------------------------------------------------

    def confirm(self, survivors: Survivors) -> Confirmation:
        """Sign whose vectors came, once: no other list is ever signed for this sum."""
        self._begin(3)
        members = survivors.members
        if list(members) != sorted(set(members)):
            raise self._refuse("survivors", "The list of survivors is malformed.")
        if self._me not in members or not set(members) <= set(self._sent) | {self._me}:
            raise self._refuse("survivors", "The list of survivors doesn't fit what came before.")
        self._check_number([member for member in members if member != self._me])
        self._survivors = survivors
        self._step = 4
        return Confirmation(self._me, self._signing.sign(survivors.signed(self.terms)))

    # ---- 5: unmasking --------------------------------------------------------------------------

    def unmask(self, confirmations: Sequence[Confirmation] = ()) -> Revealed:
        """Return one share of each other site's secrets, once enough confirmed the same list.

        Over a sparse graph no confirmations are wanted: the server is believed.
        """
        self._begin(4)
        if not self.terms.degree:
            self._check_confirmed(confirmations)
        survivors = set(self._survivors.members)
        revealed_keys: dict[int, bytes] = {}
        seeds: dict[int, bytes] = {}
        if not self.terms.degree:
            seeds[self._me] = self._own[1]
        for other, sealed in self._sent.items():
            try:
                plain = AESGCM(self._channel_to(other, self._me)).decrypt(
                    _NONCE, sealed.ciphertext, _bound(other, self._me)
                )
            except InvalidTag:
                raise self._refuse("shares", "Shares were changed on their way.") from None
            if len(plain) != 2 * SHARE_BYTES:
                raise self._refuse("shares", "Shares have another length.")
            if other in survivors:
                seeds[other] = plain[SHARE_BYTES:]
            else:
                revealed_keys[other] = plain[:SHARE_BYTES]
        me = self._me
        self._end()
        self._step = 5
        return Revealed(me, revealed_keys, seeds)

    def _check_confirmed(self, confirmations: Sequence[Confirmation]) -> None:
        signed = self._survivors.signed(self.terms)
        members = set(self._survivors.members)
        senders = {c.sender for c in confirmations}
        if len(senders) != len(confirmations) or not senders <= members:
            raise self._refuse("survivors", "A confirmation came twice, or of no survivor.")
        if len(senders | {self._me}) < self.terms.threshold:
            raise self._refuse("too-few-sites", "Too few sites confirmed who survived.")
        for confirmation in confirmations:
            key = self.terms.participants[confirmation.sender].key
            if confirmation.sender != self._me and not verify(key, confirmation.signature, signed):
                raise self._refuse("survivors", "Sites were told different lists of survivors.")

    # ---- 6: the total, worked out again --------------------------------------------------------

    def recount(self, vectors: Sequence[MaskedVector], seeds: Sequence[bytes]) -> Words:
        """Return the total of a sum over all its sites; both are in the sites' order.

        Guarantee: it is the sum of what these sites masked, or nothing anybody chose. Each took
        off its own mask by the seed that it committed to under its signature, and the masks that
        sites share go out of the sum of all. A total that is neither is uniformly random, as where
        a site masked with fewer than all, which the terms' minimum forbids. Assumptions: those of
        the module; that each vector is the one its site sent in this sum, which is for the caller
        to check by the site's signature.
        """
        self._begin(5)
        everyone = range(self.terms.sites)
        if (
            self.terms.degree
            or self.terms.minimum != self.terms.sites
            or self._survivors.members != tuple(everyone)
        ):
            raise self._refuse("recount", "Only a sum over all its sites is worked out again.")
        if [v.sender for v in vectors] != list(everyone) or len(seeds) != self.terms.sites:
            raise self._refuse("recount", "A sum comes back without a site, or with one twice.")
        if _digest(vectors[self._me].words) != self._masked:
            raise self._refuse("recount", "This site's own vector came back changed.")
        total = np.zeros(self.terms.length, np.dtype(f"u{self.terms.word // 8}"))
        for vector, seed in zip(vectors, seeds, strict=True):
            known = self._known[vector.sender].commitment
            if keys.commitment(seed, self._digest, vector.sender) != known:
                raise self._refuse("recount", "A mask's seed is not the one its site committed to.")
            check_words(vector.words, self.terms)
            np.add(total, vector.words, out=total)
        add_masks(total, [(seed, True) for seed in seeds])
        return total


def _digest(words: Words) -> bytes:
    return hashlib.sha256(words.tobytes()).digest()


def _bound(sender: int, receiver: int) -> bytes:
    return sender.to_bytes(4, "big") + receiver.to_bytes(4, "big")


def check_words(words: Words, terms: Terms) -> None:
    """Raise ``DocumentError`` unless a vector has the form of the terms."""
    if words.dtype != np.dtype(f"u{terms.word // 8}") or words.shape != (terms.length,):
        raise DocumentError("A masked vector has another form than the terms.")
