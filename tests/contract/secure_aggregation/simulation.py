"""Sites and a server in one process, with the places where a server could lie left open."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from contract.keys import SigningKey
from contract.secure_aggregation import Client, Participant, Server, Terms
from contract.secure_aggregation.masking import Words
from contract.secure_aggregation.messages import Confirmation, Revealed, smallest_threshold


@dataclass
class World:
    """``sites`` sites with keys that everyone knows, and the vectors that they would sum."""

    sites: int
    length: int = 50
    word: int = 32
    degree: int = 0
    threshold: int = 0
    session: bytes = b"s" * 32
    keys: list[SigningKey] = field(init=False)
    vectors: list[Words] = field(init=False)

    def __post_init__(self) -> None:
        self.keys = [SigningKey.generate() for _ in range(self.sites)]
        generator = np.random.default_rng(self.sites)
        kind = np.dtype(f"u{self.word // 8}")
        self.vectors = [
            generator.integers(0, 1000, self.length).astype(kind) for _ in range(self.sites)
        ]

    @property
    def terms(self) -> Terms:
        threshold = self.threshold or smallest_threshold(self.sites)
        return Terms(
            session=self.session,
            participants=tuple(
                Participant(f"site-{i:03}", key.public) for i, key in enumerate(self.keys)
            ),
            minimum=max(2, threshold),
            length=self.length,
            word=self.word,
            threshold=threshold,
            degree=self.degree,
        )

    def clients(self, kind: type[Client] = Client) -> list[Client]:
        return [kind(self.terms, key) for key in self.keys]

    def sum_of(self, sites: Collection[int]) -> Words:
        return np.sum([self.vectors[i] for i in sites], axis=0, dtype=self.vectors[0].dtype)


@dataclass
class Run:
    """An honest run, in which sites drop out before the step that ``lost`` names."""

    world: World
    lost: Mapping[int, Collection[int]] = field(default_factory=dict)
    """Step to the sites that don't take it: 1 keys, 2 shares, 3 vector, 4 confirmation, 5 end."""
    clients: list[Client] = field(init=False)
    server: Server = field(init=False)
    revealed: list[Revealed] = field(default_factory=list)
    confirmations: list[Confirmation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clients = self.world.clients()
        self.server = Server(self.world.terms)

    def still(self, step: int) -> list[int]:
        gone = {site for at, sites in self.lost.items() if at <= step for site in sites}
        return [site for site in range(self.world.sites) if site not in gone]

    def to_vectors(self) -> None:
        """Take the steps up to the masked vectors."""
        for site in self.still(1):
            self.server.advertised(self.clients[site].advertise())
        told = self.server.introductions()
        for site in self.still(2):
            self.server.shared(site, self.clients[site].share(told[site]))
        deliveries = self.server.deliveries()
        for site in self.still(3):
            vector = self.world.vectors[site]
            self.server.masked(self.clients[site].mask(deliveries[site], vector))

    def finish(self) -> Words:
        """Take all steps; return the sum."""
        self.to_vectors()
        survivors = self.server.survivors()
        for site in self.still(4):
            self.server.confirmed(self.clients[site].confirm(survivors[site]))
        confirmations = self.server.confirmations()
        for site in self.still(5):
            said = self.clients[site].unmask(confirmations)
            self.revealed.append(said)
            self.server.revealed(said)
        return self.server.total()


def seeded(seed: str) -> random.Random:
    """Return chance that a test can repeat."""
    return random.Random(hashlib.sha256(seed.encode()).digest())


def both_shared(revealed: Sequence[Revealed]) -> set[int]:
    """Return whose key and seed were both given a share of, by anybody."""
    keys = {owner for said in revealed for owner in said.keys}
    return keys & {owner for said in revealed for owner in said.seeds}
