"""Sites countersign each other's heads through a carrier, and notice whoever shows two histories.

Gates, ledgers and exchanges are the real ones; what lies between them is a list, so that a test can
lose, delay, repeat and change what is carried.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from contract import wire_pb2 as wire
from contract.envelope import Envelope
from contract.errors import LedgerError
from contract.heads import SignedHead, read_head, witnesses
from contract.keys import SigningKey
from node.gate.ledger import verify
from node.gate.ledger.heads import KEPT_HEADS
from tests.contract.world import YEAR, World
from tests.node.link.sites import (
    NORTH,
    SOUTH,
    WEST,
    Carrier,
    empty_catalogue,
    sites_of,
    three_sites,
)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return empty_catalogue(tmp_path_factory.mktemp("template"))


@pytest.fixture
def three(tmp_path: Path, empty: Path) -> Iterator[Carrier]:
    """Three hospitals of one consortium."""
    with three_sites(tmp_path, empty) as carrier:
        yield carrier


def test_a_head_is_countersigned_by_the_others_and_kept_by_its_owner(three: Carrier) -> None:
    north = three[NORTH]
    north.work()
    three.carry(NORTH)
    newest = north.newest()
    assert newest.countersigned == {SOUTH, WEST}
    assert newest.head.tree_size == 3
    assert newest.head.root_hash == north.gate.ledger.root(3).hex()
    # A new one follows whatever happens, with a proof from the one before.
    for length in range(1, 4):
        north.work(length)
        three.carry(NORTH)
        assert north.newest().countersigned == {SOUTH, WEST}
        assert north.newest().head.tree_size > newest.head.tree_size
    verify(north.home.ledger)
    assert not three[SOUTH].kinds("head-contradicted")


def test_of_many_sites_only_the_witnesses_countersign_whoever_is_asked(
    tmp_path: Path, empty: Path
) -> None:
    names = [f"site-{i:02}" for i in range(30)]
    world = World(
        sites={name: SigningKey.generate() for name in names},
        stewards={name: SigningKey.generate() for name in names},
    )
    named = sorted(witnesses(world.roster(), "site-00"))
    stranger = min(set(world.sites) - {*named, "site-00"})
    with sites_of(world, ["site-00", *named, stranger], tmp_path, empty) as sites:
        carrier = Carrier(sites)
        sites["site-00"].work()
        carrier.carry("site-00")
        assert sites["site-00"].newest().countersigned == set(named)
        assert sites[stranger].size() == 0
        # They all have, so nothing is offered over the next link.
        sites["site-00"].open()
        assert sites["site-00"].exchange.offer() is None


def test_what_left_about_heads_is_on_the_ledger_and_calls_for_no_other_head(
    three: Carrier,
) -> None:
    for name in three.sites:
        three[name].work()
    for _ in range(4):
        for name in three.sites:
            three.carry(name)
    for site in three.sites.values():
        what = [e.body["what"] for e in site.kinds("notice")]
        assert sorted(what) == ["countersignature", "countersignature", "ledger-head"]
        assert site.newest().countersigned == set(three.sites) - {site.name}
        for entry in site.kinds("notice"):
            data = site.gate.ledger.payload(entry.body["payload"])
            assert wire.FromNode.FromString(data).WhichOneof("body") in ("head", "countersigned")


def test_an_answer_that_was_lost_is_made_up_for_by_a_proof_from_further_back(
    three: Carrier,
) -> None:
    north = three[NORTH]
    north.work()
    three.carry(NORTH)
    for _ in range(3):
        north.work()
        three.lost = {SOUTH}
        three.carry(NORTH)
    assert north.newest().countersigned == {WEST}
    three.lost = set()
    north.work()
    three.carry(NORTH)  # south holds a head from which north sent no proof, and says which
    three.carry(NORTH)
    assert north.newest().countersigned == {SOUTH, WEST}
    # After a restart the owner still knows from where each must be proved.
    north.open().work()
    three.carry(NORTH)
    assert north.newest().countersigned == {SOUTH, WEST}


def test_a_witness_that_restarts_goes_on_from_what_it_countersigned(three: Carrier) -> None:
    three[NORTH].work()
    three.carry(NORTH)
    three[SOUTH].open()
    three[NORTH].work()
    three.carry(NORTH)
    held = three[SOUTH].store.witnessed(NORTH)
    assert held is not None
    assert read_head(held) == three[NORTH].newest().head


def test_a_fork_is_refused_written_down_and_stops_its_owner(three: Carrier) -> None:
    north = three[NORTH]
    north.work()
    three.carry(NORTH)
    shutil.copytree(north.home.ledger, north.home.root / "backup")
    north.work()
    three.carry(NORTH)
    known = north.newest()
    # The backup is put back, and grows beyond the ledger that was lost.
    shutil.rmtree(north.home.ledger)
    (north.home.root / "backup").rename(north.home.ledger)
    north.open().work(20)
    with pytest.raises(LedgerError, match="restored from a backup"):
        three.carry(NORTH)
    held = three[SOUTH].store.witnessed(NORTH)
    assert held is not None
    assert read_head(held) == known.head
    # One that goes on all the same, and makes the proof that south needs, gets no further.
    size = north.size()
    head = north.newest().head.model_copy(
        update={
            "tree_size": size,
            "root_hash": north.gate.ledger.root(size).hex(),
            "time": north.now,
        }
    )
    first = known.head.tree_size
    path = north.gate.ledger.consistency_proof(first, size)
    offer = wire.HeadOffer(
        envelope=head.sign(north.world.sites[NORTH]),
        proofs=[wire.ConsistencyProof(first=first, path=path)],
    )
    for _ in range(3):
        three[SOUTH].pass_time()
        answer = three[SOUTH].exchange.countersign(offer)
        assert answer is not None
        assert list(answer.message.countersigned.envelopes) == [held]
    (entry,) = three[SOUTH].kinds("head-contradicted")
    assert entry.body["site"] == NORTH
    other = SignedHead.verify(entry.body["envelope"].encode(), north.world.roster())
    assert other.head.tree_size > known.head.tree_size
    # The two signed heads that contradict each other are evidence against whoever holds the key.


def test_a_restored_backup_is_told_by_anybody_who_kept_the_head(three: Carrier) -> None:
    north = three[NORTH]
    north.work()
    backup = north.home.root / "backup"
    shutil.copytree(north.home.ledger, backup)
    north.work()
    three.carry(NORTH)
    kept = north.newest()
    shutil.rmtree(north.home.ledger)
    backup.rename(north.home.ledger)
    north.open()
    # What the others hold for it is enough; and so is its own signature alone.
    held = three[SOUTH].exchange.held()
    assert held is not None
    with pytest.raises(LedgerError, match="restored from a backup"):
        north.exchange.countersigned(held.message.countersigned)
    with pytest.raises(LedgerError, match="restored from a backup"):
        north.exchange.check(kept.envelope)
    north.work(100)
    with pytest.raises(LedgerError, match="restored from a backup"):
        north.exchange.check(kept.envelope)


def test_nobody_else_can_stop_a_node_by_a_head(three: Carrier) -> None:
    north = three[NORTH]
    north.work()
    three.carry(NORTH)
    head = north.newest().head
    longer = head.model_copy(update={"tree_size": 10_000, "root_hash": "ab" * 32})
    other = longer.model_copy(update={"consortium": "other"})
    envelopes = [
        b"",
        b"nonsense",
        longer.sign(north.world.sites[SOUTH]),
        longer.sign(north.world.coordinator),
        longer.sign(north.world.stewards[NORTH]),
        other.sign(north.world.sites[NORTH]),
        Envelope.parse(longer.sign(north.world.sites[SOUTH])).to_bytes(),
    ]
    for envelope in envelopes:
        north.exchange.check(envelope)
        north.exchange.countersigned(wire.Countersignatures(envelopes=[envelope]))
    assert north.newest().countersigned == {SOUTH, WEST}


def test_a_carrier_can_make_no_countersignature(three: Carrier) -> None:
    north = three[NORTH]
    north.work()
    sealed = north.exchange.offer()
    assert sealed is not None
    envelope = Envelope.parse(sealed.message.head.envelope)
    made = envelope.sign(north.world.coordinator).sign(north.world.stewards[SOUTH])
    north.exchange.countersigned(wire.Countersignatures(envelopes=[made.to_bytes()]))
    assert north.newest().countersigned == frozenset()


def test_a_changed_repeated_or_foreign_offer_gets_no_new_countersignature(
    three: Carrier,
) -> None:
    north, south = three[NORTH], three[SOUTH]
    north.work()
    first = north.exchange.offer()
    assert first is not None
    three.carry(NORTH, first)
    before = south.size()
    offer = first.message.head
    assert south.exchange.countersign(offer) is None, "too soon after the last"
    north.work(5)
    three.lost = {SOUTH, WEST}
    three.carry(NORTH)
    known = south.store.witnessed(NORTH)
    assert known is not None
    for site in three.sites.values():
        site.pass_time()
    # An older head again: south says which newer one it countersigned.
    again = south.exchange.countersign(offer)
    assert again is not None
    assert list(again.message.countersigned.envelopes) == [known]
    head = read_head(known)
    for changes in ({"tree_size": 99}, {"root_hash": "0" * 64}, {"site": WEST}):
        south.pass_time()
        changed = head.model_copy(update=changes)
        envelope = changed.sign(north.world.sites[SOUTH])
        assert south.exchange.countersign(wire.HeadOffer(envelope=envelope)) is None
    assert south.size() == before + 3  # a countersignature, a contradiction, an answer to it


def test_under_an_expired_roster_nothing_is_offered_or_countersigned(three: Carrier) -> None:
    north = three[NORTH]
    north.work()
    offer = north.exchange.offer()
    assert offer is not None
    for site in three.sites.values():
        site.now += 2 * YEAR
    north.work()
    assert north.exchange.offer() is None
    assert three[SOUTH].exchange.countersign(offer.message.head) is None


def test_a_clock_that_went_back_signs_no_head_until_it_has_caught_up(three: Carrier) -> None:
    north = three[NORTH]
    north.work()
    three.carry(NORTH)
    time = north.now
    north.now -= timedelta(days=30)
    north.work()
    assert north.exchange.offer() is None
    north.now = time + timedelta(seconds=1)
    assert north.exchange.offer() is not None


def test_few_heads_are_kept_and_one_for_each_day_before(three: Carrier) -> None:
    north = three[NORTH]
    for _ in range(6):
        for _ in range(4):
            north.work(1)
            three.carry(NORTH)
        for site in three.sites.values():
            site.now += timedelta(days=1)
    kept = [read_head(envelope) for envelope in north.store.own()]
    assert len(kept) == KEPT_HEADS + 4
    assert len({head.time.date() for head in kept}) == 6
    sizes = [head.tree_size for head in kept]
    assert sizes == sorted(sizes)
    north.open()
