"""Hospitals in one process that countersign heads, with their real gates and ledgers."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from contract import wire_pb2 as wire
from contract.heads import SignedHead
from contract.trust import TrustedDocuments
from node.catalog.store import Catalog
from node.gate.gate import Gate, Membership, Sealed
from node.gate.ledger import Ledger, read_entries
from node.gate.ledger.heads import HeadStore
from node.gate.policy import Policy
from node.home import NodeHome
from node.link.heads import HeadExchange
from tests.contract.world import NOW, World

NORTH, SOUTH, WEST = "kentucky", "minnesota", "new-york"


@dataclass
class Site:
    """One hospital with a ledger."""

    name: str
    world: World
    home: NodeHome
    catalog: Catalog
    now: datetime = NOW
    seconds: float = 0.0
    trusted: TrustedDocuments = field(init=False)

    def __post_init__(self) -> None:
        self.trusted = self.world.view(self.name)
        self.trusted.update_roster(self.world.signed_roster(), NOW)
        self.open()

    def open(self) -> Site:
        """Begin as after a restart."""
        if hasattr(self, "gate"):
            self.gate.ledger.close()
        self.gate = Gate(self.catalog, Ledger(self.home.ledger), Policy, lambda: self.now)
        member = Membership(
            self.world.consortium, self.name, "", self.world.sites[self.name], self.trusted
        )
        self.exchange = HeadExchange(self.gate, member, lambda: self.seconds, 1.0)
        self.exchange.linked()
        return self

    @property
    def store(self) -> HeadStore:
        return HeadStore(self.home.ledger, self.world.consortium)

    def work(self, count: int = 3) -> None:
        """Let something happen that is worth a head."""
        for number in range(count):
            self.gate.ledger.append("admitted", {"number": number}, self.now)

    def pass_time(self, seconds: float = 10.0) -> None:
        self.seconds += seconds
        self.now += timedelta(seconds=seconds)

    def size(self) -> int:
        return self.gate.ledger.standing().size

    def kinds(self, kind: str) -> list[Any]:
        return [e for e in read_entries(self.home.ledger) if e.kind == kind]

    def newest(self) -> SignedHead:
        kept = self.store.newest()
        assert kept is not None
        return SignedHead.verify(kept, self.world.roster())


@dataclass
class Carrier:
    """What a coordinator does with heads; ``lost`` are those whose answers never arrive."""

    sites: dict[str, Site]
    lost: set[str] = field(default_factory=set)

    def __getitem__(self, name: str) -> Site:
        return self.sites[name]

    def carry(self, name: str, sealed: Sealed | None = None) -> None:
        """Carry a site's offer to all others, and their answers back."""
        for site in self.sites.values():
            site.pass_time()
        sealed = sealed or self[name].exchange.offer()
        if sealed is None:
            return
        offer = wire.HeadOffer.FromString(sealed.message.head.SerializeToString())
        for witness in self.sites.values():
            if witness.name != name:
                answer = witness.exchange.countersign(offer)
                if answer is not None and witness.name not in self.lost:
                    self[name].exchange.countersigned(answer.message.countersigned)


def empty_catalogue(root: Path) -> Path:
    """Return the file of an empty catalogue."""
    home = NodeHome(root).create()
    Catalog.open(home).close()
    return home.database


@contextmanager
def sites_of(
    world: World, names: Iterable[str], root: Path, empty: Path
) -> Iterator[dict[str, Site]]:
    """Give hospitals of one consortium."""
    sites = {}
    for name in names:
        home = NodeHome(root / name).create()
        shutil.copy(empty, home.database)
        sites[name] = Site(name, world, home, Catalog.open(home))
    try:
        yield sites
    finally:
        for site in sites.values():
            site.gate.ledger.close()
            site.catalog.close()


@contextmanager
def three_sites(root: Path, empty: Path) -> Iterator[Carrier]:
    """Give three hospitals of one consortium."""
    with sites_of(World(), (NORTH, SOUTH, WEST), root, empty) as sites:
        yield Carrier(sites)
