"""All that a server of a secure sum saw, and what can be worked out of it.

Each masked vector is ``x_i + b_i + sum of +- s_ij`` over those whose shares the site was given. A
site's seed ``b_i`` and key, and with the key each ``s_ij``, are known from enough shares, or of a
site that works with the server. A combination of vectors tells of the ``x_i`` only where every
unknown mask cancels: no vector under an unknown seed is in it, and two under an unknown ``s_ij`` of
both are in it alike. So what is learned are the sums over the connected parts of that graph.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from contract.secure_aggregation import Client, keys
from contract.secure_aggregation.masking import Words, add_mask
from contract.secure_aggregation.messages import EncryptedShares, MaskedVector, Revealed
from contract.secure_aggregation.sharing import SHARE_BYTES, Combiner
from tests.contract.secure_aggregation.simulation import Run


@dataclass
class Transcript:
    """What came of the sites of a run, some of which work with the server."""

    run: Run
    corrupt: Collection[int] = ()
    words: dict[int, Words] = field(default_factory=dict)
    """The masked vectors."""
    given: dict[int, set[int]] = field(default_factory=dict)
    """By site: whose shares it was given when it masked."""
    shares: dict[tuple[str, int], dict[int, bytes]] = field(default_factory=dict)
    """By kind of secret and owner: the shares, by their points."""
    secrets: dict[tuple[str, int], bytes] = field(init=False)
    """The truth, which a site forgets at the sum's end."""

    def __post_init__(self) -> None:
        self.secrets = {}
        for site, client in enumerate(self.run.clients):
            self.secrets["key", site] = client._mask_secret
            self.secrets["seed", site] = client._seed

    # ---- what is seen --------------------------------------------------------------------------

    def masked(self, message: MaskedVector, given: Iterable[EncryptedShares]) -> None:
        """Note a masked vector, and what its site was told before."""
        site = message.sender
        self.words[site] = message.words.copy()
        self.given[site] = {share.sender for share in given}

    def shared(self, messages: Iterable[EncryptedShares]) -> None:
        """Note shares: those for a site that works with the server can be read."""
        for message in messages:
            if message.receiver in self.corrupt:
                self._read(self.run.clients[message.receiver], message)

    def _read(self, client: Client, message: EncryptedShares) -> None:
        said = message.sender.to_bytes(4, "big") + message.receiver.to_bytes(4, "big")
        try:
            key = client._channel_to(message.sender, message.receiver)
            plain = AESGCM(key).decrypt(bytes(12), message.ciphertext, said)
        except (InvalidTag, KeyError):
            return
        self._add("key", message.sender, message.receiver, plain[:SHARE_BYTES])
        self._add("seed", message.sender, message.receiver, plain[SHARE_BYTES:])

    def revealed(self, message: Revealed) -> None:
        """Note the shares that a site gave at the end."""
        for owner, share in message.keys.items():
            self._add("key", owner, message.sender, share)
        for owner, share in message.seeds.items():
            self._add("seed", owner, message.sender, share)

    def _add(self, kind: str, owner: int, holder: int, share: bytes) -> None:
        self.shares.setdefault((kind, owner), {})[holder + 1] = share

    # ---- what can be worked out ----------------------------------------------------------------

    def is_known(self, kind: str, owner: int) -> bool:
        """Say whether the server has a secret, which its shares then really give."""
        if owner in self.corrupt:
            return True
        shares = self.shares.get((kind, owner), {})
        points = sorted(shares)[: self.run.world.terms.threshold]
        if len(points) < self.run.world.terms.threshold:
            return False
        assert Combiner(points).combine(shares) == self.secrets[kind, owner]
        return True

    def learned(self) -> list[set[int]]:
        """Return the sets of honest sites whose sums are determined, and no smaller ones."""
        honest = {site for site in self.words if site not in self.corrupt}
        hidden = {site for site in honest if not self.is_known("seed", site)}
        near: dict[int, set[int]] = {site: set() for site in honest}
        for site in honest:
            for other in self.given[site]:
                if self.is_known("key", site) or self.is_known("key", other):
                    continue
                if other in honest and site in self.given[other]:
                    near[site].add(other)
                    near[other].add(site)
                else:
                    hidden.add(site)
        found = []
        while honest:
            part, border = set[int](), {next(iter(honest))}
            while border:
                part |= border
                border = {other for site in border for other in near[site]} - part
            honest -= part
            if not part & hidden:
                found.append(part)
        return found

    def sum_over(self, part: Iterable[int]) -> Words:
        """Work a learned sum out, with no secret that isn't known."""
        terms, clients = self.run.world.terms, self.run.clients
        members = set(part)
        total = self.run.world.vectors[0] * 0
        for site in members:
            words = self.words[site].copy()
            add_mask(words, self.secrets["seed", site], subtract=True)
            for other in self.given[site]:
                if self.is_known("key", site) or self.is_known("key", other):
                    public = clients[other]._known[other].mask_key
                    seed = keys.mask_seed(clients[site]._mask, public, terms.digest, site, other)
                    add_mask(words, seed, subtract=site <= other)
            total += words
        return total
