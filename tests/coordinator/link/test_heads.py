"""Heads are carried from their site to the others and back, kept, and made by nobody here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from contract import wire_pb2 as wire
from contract.envelope import Envelope
from contract.heads import SignedHead, TreeHead, witnesses
from contract.keys import SigningKey
from coordinator.database import HEAD, MIGRATIONS
from coordinator.link.heads import HeadRelay
from coordinator.link.sessions import Session, Sessions
from coordinator.registry.documents import DocumentShelf
from foundation.database import open_database
from foundation.transport import Peer, Role
from tests.contract.world import NOW, YEAR, World

NORTH, SOUTH, WEST = "kentucky", "minnesota", "new-york"


@dataclass
class Relay:
    """A relay with a session for each site that is online."""

    engine: Engine
    world: World = field(default_factory=World)
    sessions: Sessions = field(default_factory=Sessions)

    def __post_init__(self) -> None:
        self.shelf = DocumentShelf(self.engine)
        self.now = NOW
        self.publish(version=1)
        self.relay = self.reopened()

    def publish(self, version: int) -> None:
        proposed = Envelope.parse(self.world.signed_roster(by=(), version=version))
        self.shelf.propose("roster", self.world.consortium, version, proposed, NOW)
        self.shelf.sign(self.world.signed_roster(version=version), NOW)

    def reopened(self) -> HeadRelay:
        """A relay that knows only what was written."""
        return HeadRelay(
            self.world.consortium, self.engine, self.shelf, self.sessions, lambda: self.now
        )

    def online(self, site: str) -> None:
        session = Session(Peer(Role.SITE, site, "1", NOW + YEAR))
        self.sessions.add(session)
        self.relay.arrived(session)

    def heard(self, site: str) -> list[wire.ToNode]:
        """What a site was sent since the last time."""
        queue, found = self.sessions.live[site].queue, []
        while not queue.empty():
            message = queue.get_nowait()
            assert message is not None
            found.append(message)
        return found

    def head(self, size: int, site: str = NORTH) -> bytes:
        head = TreeHead(
            consortium=self.world.consortium,
            site=site,
            tree_size=size,
            root_hash=f"{size:064x}",
            chain_hash="0" * 64,
            time=NOW,
        )
        return head.sign(self.world.sites[site])

    def countersigned(self, size: int, by: str) -> bytes:
        envelope = Envelope.parse(self.head(size))
        return envelope.sign(self.world.sites[by]).to_bytes()

    def newest(self) -> SignedHead:
        return SignedHead.verify(self.relay.newest(NORTH), self.world.roster())


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    engine = open_database(tmp_path / "coordinator.db", "", MIGRATIONS, HEAD)
    yield Relay(engine)
    engine.dispose()


def test_an_offer_goes_to_all_others_and_to_those_that_come_later(relay: Relay) -> None:
    relay.online(NORTH)
    relay.online(SOUTH)
    proof = wire.ConsistencyProof(first=3, path=[b"p" * 32])
    offer = wire.HeadOffer(envelope=relay.head(5), proofs=[proof])
    relay.relay.offered(NORTH, offer)
    relay.online(WEST)
    assert relay.heard(NORTH) == []
    for site in (SOUTH, WEST):
        assert relay.heard(site) == [wire.ToNode(head=offer)]
    assert relay.relay.newest(NORTH) == relay.head(5)
    assert relay.relay.newest(SOUTH) == b""


def test_of_many_sites_only_the_witnesses_are_told(tmp_path: Path) -> None:
    sites = {f"site-{i:03}": SigningKey.generate() for i in range(40)}
    engine = open_database(tmp_path / "coordinator.db", "", MIGRATIONS, HEAD)
    relay = Relay(engine, World(sites=sites))
    named = witnesses(relay.world.roster(), "site-000")
    early, late = list(sites)[:20], list(sites)[20:]
    for site in early:
        relay.online(site)
    offer = wire.HeadOffer(envelope=relay.head(5, "site-000"))
    relay.relay.offered("site-000", offer)
    for site in late:
        relay.online(site)
    assert {site for site in sites if relay.heard(site) == [wire.ToNode(head=offer)]} == named
    engine.dispose()


def test_countersignatures_are_put_together_told_and_kept(relay: Relay) -> None:
    relay.online(NORTH)
    relay.relay.offered(NORTH, wire.HeadOffer(envelope=relay.head(5)))
    for site in (SOUTH, WEST):
        envelope = relay.countersigned(5, site)
        relay.relay.countersigned(site, wire.Countersignatures(envelopes=[envelope]))
    older = relay.countersigned(3, SOUTH)
    relay.relay.countersigned(SOUTH, wire.Countersignatures(envelopes=[older]))
    assert relay.heard(NORTH) == []
    relay.relay.flush()
    (message,) = relay.heard(NORTH)
    both, other = message.countersigned.envelopes
    roster = relay.world.roster()
    assert SignedHead.verify(both, roster).countersigned == {SOUTH, WEST}
    assert other == older
    relay.relay.flush()
    assert relay.heard(NORTH) == []
    assert relay.newest().countersigned == {SOUTH, WEST}
    assert relay.newest().head.tree_size == 5
    assert relay.reopened().newest(NORTH) == relay.relay.newest(NORTH) == both


def test_heads_that_cant_be_written_are_told_once_they_are(relay: Relay) -> None:
    relay.online(NORTH)
    relay.relay.offered(NORTH, wire.HeadOffer(envelope=relay.head(5)))
    envelope = relay.countersigned(5, SOUTH)
    relay.relay.countersigned(SOUTH, wire.Countersignatures(envelopes=[envelope]))
    with relay.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE heads RENAME TO away")
    with pytest.raises(DBAPIError):
        relay.relay.flush()
    assert relay.heard(NORTH) == []
    with relay.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO heads")
    relay.relay.flush()
    assert len(relay.heard(NORTH)) == 1
    assert relay.reopened().newest(NORTH) == envelope


def test_a_head_of_a_key_that_the_roster_replaced_gives_way(relay: Relay) -> None:
    relay.online(SOUTH)
    relay.relay.offered(NORTH, wire.HeadOffer(envelope=relay.head(9)))
    assert relay.newest().head.tree_size == 9
    relay.world.sites[NORTH] = SigningKey.generate()
    relay.publish(version=2)
    relay.relay.offered(NORTH, wire.HeadOffer(envelope=relay.head(2)))
    assert relay.newest().head.tree_size == 2
    relay.relay.flush()
    assert relay.reopened().newest(NORTH) == relay.head(2)


def test_a_newer_head_takes_the_place_and_an_older_one_does_not(relay: Relay) -> None:
    relay.online(NORTH)
    for size, newest in ((5, 5), (9, 9), (7, 9)):
        relay.relay.offered(NORTH, wire.HeadOffer(envelope=relay.head(size)))
        assert relay.newest().head.tree_size == newest
    # What a witness still holds tells a coordinator that lost its memory, and the site itself.
    older = relay.countersigned(7, SOUTH)
    relay.relay.countersigned(SOUTH, wire.Countersignatures(envelopes=[older]))
    assert relay.newest().head.tree_size == 9
    relay.relay.flush()
    assert len(relay.heard(NORTH)) == 1
    newer = relay.countersigned(12, SOUTH)
    relay.relay.countersigned(SOUTH, wire.Countersignatures(envelopes=[newer]))
    assert relay.newest().head.tree_size == 12
    assert relay.newest().countersigned == {SOUTH}


def test_what_is_not_signed_by_whom_it_names_is_not_carried(relay: Relay) -> None:
    relay.online(NORTH)
    relay.online(WEST)
    stranger = Envelope.parse(relay.head(5)).model_copy(update={"signatures": ()})
    relay.relay.offered(SOUTH, wire.HeadOffer(envelope=relay.head(5)))
    relay.relay.offered(NORTH, wire.HeadOffer(envelope=stranger.to_bytes()))
    relay.relay.offered(NORTH, wire.HeadOffer(envelope=b"nonsense"))
    foreign = [
        relay.head(5),
        relay.countersigned(5, WEST),
        stranger.sign(relay.world.sites[SOUTH]).to_bytes(),
        b"",
    ]
    relay.relay.countersigned(SOUTH, wire.Countersignatures(envelopes=foreign))
    relay.relay.flush()
    assert relay.heard(NORTH) == relay.heard(WEST) == []
    assert relay.relay.newest(NORTH) == b""
    relay.now += 2 * YEAR
    relay.relay.offered(NORTH, wire.HeadOffer(envelope=relay.head(5)))
    assert relay.heard(WEST) == []
    relay.now = NOW + timedelta(hours=1)
    relay.relay.offered(NORTH, wire.HeadOffer(envelope=relay.head(5)))
    assert len(relay.heard(WEST)) == 1


@pytest.mark.parametrize("life", [timedelta(hours=1), YEAR / 2])
def test_a_project_that_is_over_costs_no_message_anything(relay: Relay, life: timedelta) -> None:
    signed = relay.world.signed_project(expires_at=NOW + life)
    proposed = Envelope.parse(relay.world.signed_project(by=(), expires_at=NOW + life))
    relay.shelf.propose("project", "birth", 1, proposed, NOW)
    relay.shelf.sign(signed, NOW)
    relay.now = NOW + timedelta(hours=2)
    relay.relay.offered(NORTH, wire.HeadOffer(envelope=relay.head(5)))
    known = relay.relay._roster
    relay.relay.offered(NORTH, wire.HeadOffer(envelope=relay.head(6)))
    assert relay.relay._roster is known is not None
    trusted = relay.shelf.trusted(relay.world.consortium, relay.now)
    assert relay.shelf.trusted(relay.world.consortium, relay.now) is trusted
    assert list(trusted.projects) == (["birth"] if life > timedelta(hours=2) else [])


def test_an_error_ends_no_telling_of_heads(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = [RuntimeError("anything"), DBAPIError(None, None, Exception())]
    told = asyncio.Event()

    def flush() -> None:
        if errors:
            raise errors.pop()
        told.set()

    async def wait() -> None:
        running = asyncio.create_task(relay.relay.run())
        await asyncio.wait_for(told.wait(), 60)
        running.cancel()

    monkeypatch.setattr("coordinator.link.heads.FLUSH_SECONDS", 0.001)
    monkeypatch.setattr(relay.relay, "flush", flush)
    asyncio.run(wait())
