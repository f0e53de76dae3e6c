"""A head is countersigned when it goes on from the one before, and never otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import merkle
from contract.envelope import Envelope
from contract.errors import DocumentError, SignatureError, WardgateError
from contract.heads import (
    CLOCK_TOLERANCE,
    HEAD_TYPE,
    MAX_HEAD_BYTES,
    MAX_SIGNATURES,
    WITNESSES,
    Contradiction,
    SignedHead,
    TreeHead,
    check_successor,
    read_head,
    witnesses,
)
from contract.keys import SigningKey
from tests.contract.world import NOW, World

SITE, WITNESS = "kentucky", "minnesota"


@dataclass
class Log:
    """A log's hashes, and heads of it."""

    world: World = field(default_factory=World)
    tree: merkle.Tree = field(default_factory=merkle.Tree)
    hashes: list[bytes] = field(default_factory=list)

    def grow(self, count: int, word: bytes = b"entry") -> Log:
        for _ in range(count):
            self.hashes += self.tree.append(merkle.leaf_hash(word + b"%d" % self.tree.size))
        return self

    def node(self, level: int, number: int) -> bytes:
        return self.hashes[merkle.stored(level, number)]

    def head(self, size: int | None = None, time: datetime = NOW, **changes: Any) -> TreeHead:
        size = self.tree.size if size is None else size
        values: dict[str, Any] = {
            "consortium": self.world.consortium,
            "site": SITE,
            "tree_size": size,
            "root_hash": merkle.root(size, self.node).hex(),
            "chain_hash": f"{size:064x}",
            "time": time,
        }
        return TreeHead(**values | changes)

    def proof(self, first: int, second: int) -> list[bytes]:
        return merkle.consistency_proof(first, second, self.node)


def signed(world: World, head: TreeHead) -> SignedHead:
    return SignedHead.verify(head.sign(world.sites[head.site]), world.roster())


def test_a_head_is_its_sites_and_names_who_countersigned_it() -> None:
    log = Log().grow(5)
    found = signed(log.world, log.head())
    assert (found.head, found.countersigned) == (log.head(), frozenset())
    done = found.countersign(WITNESS, log.world.sites[WITNESS])
    again = SignedHead.verify(done.envelope, log.world.roster())
    assert again == done and again.countersigned == {WITNESS}
    other = found.countersign("new-york", log.world.sites["new-york"])
    assert done.merged(other).countersigned == {WITNESS, "new-york"}
    with pytest.raises(DocumentError, match="differ"):
        done.merged(signed(log.world, log.grow(1).head()))


def test_an_envelope_that_is_full_takes_no_more_countersignatures() -> None:
    world = World(sites={f"site-{n}": SigningKey.generate() for n in range(259)})
    log = Log(world).grow(2)
    head = log.head(site="site-0")
    found = SignedHead.verify(head.sign(world.sites["site-0"]), world.roster())
    for number in range(1, 259):
        alone = SignedHead(head, head.sign(world.sites["site-0"]), frozenset())
        name = f"site-{number}"
        found = found.merged(alone.countersign(name, world.sites[name]))
    assert len(found.countersigned) == MAX_SIGNATURES - 1
    assert SignedHead.verify(found.envelope, world.roster()) == found


def forged(log: Log) -> dict[str, tuple[bytes, type[WardgateError]]]:
    world, head = log.world, log.head()
    own = world.sites[SITE]
    return {
        "by another site": (head.sign(world.sites[WITNESS]), SignatureError),
        "by a stranger": (head.sign(SigningKey.generate()), SignatureError),
        "by its steward": (head.sign(world.stewards[SITE]), SignatureError),
        "by nobody": (Envelope.seal(HEAD_TYPE, head.model_dump_json().encode()).to_bytes(),
                      SignatureError),
        "of another consortium": (log.head(consortium="other").sign(own), DocumentError),
        "of a site that isn't there": (log.head(site="ohio").sign(own), SignatureError),
        "of another type": (
            Envelope.seal("text/plain", head.model_dump_json().encode()).sign(own).to_bytes(),
            DocumentError,
        ),
        "of nothing": (Envelope.seal(HEAD_TYPE, b"{}").sign(own).to_bytes(), DocumentError),
        "too large": (head.sign(own) + b" " * MAX_HEAD_BYTES, DocumentError),
    }  # fmt: skip


@pytest.mark.parametrize("how", forged(Log().grow(1)))
def test_a_forged_head_is_not_believed(how: str) -> None:
    log = Log().grow(5)
    envelope, error = forged(log)[how]
    with pytest.raises(error):
        SignedHead.verify(envelope, log.world.roster())


def test_a_false_countersignature_counts_for_nothing() -> None:
    log = Log().grow(5)
    head = log.head()
    stranger = SigningKey.generate()
    envelope = Envelope.parse(head.sign(log.world.sites[SITE])).sign(stranger)
    other = Envelope.parse(log.head(time=NOW + timedelta(1)).sign(log.world.sites[WITNESS]))
    stolen = envelope.with_signatures(other.signatures)
    found = SignedHead.verify(stolen.to_bytes(), log.world.roster())
    assert found.countersigned == frozenset()
    assert len(Envelope.parse(found.envelope).signatures) == 1


@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 3600))
def test_whatever_goes_on_from_the_head_before_is_accepted(
    first: int, more: int, seconds: int
) -> None:
    log = Log().grow(first + more)
    before = log.head(first)
    head = log.head(time=NOW + timedelta(seconds=seconds))
    now = NOW + timedelta(seconds=seconds)
    check_successor(before, head, log.proof(first, first + more), now)
    check_successor(None, head, None, now)


CONTRADICTIONS: dict[str, Callable[[Log], tuple[TreeHead, TreeHead, list[bytes]]]] = {
    "cut": lambda log: (log.head(20), log.head(15), []),
    "forked at the same length": lambda log: (
        log.head(20),
        Log(log.world).grow(5).grow(15, b"other").head(),
        [],
    ),
    "forked and longer": lambda log: (
        log.head(20),
        Log(log.world).grow(10).grow(20, b"other").head(),
        Log(log.world).grow(10).grow(20, b"other").proof(20, 30),
    ),
    "another chain under one root": lambda log: (
        log.head(20),
        log.head(20, chain_hash="0" * 64),
        [],
    ),
    "a proof of something else": lambda log: (log.head(20), log.head(30), log.proof(19, 30)),
    "the clock set back": lambda log: (
        log.head(20),
        log.head(30, time=NOW - timedelta(seconds=1)),
        log.proof(20, 30),
    ),
}


@pytest.mark.parametrize("how", CONTRADICTIONS)
def test_a_second_history_is_a_contradiction(how: str) -> None:
    before, head, proof = CONTRADICTIONS[how](Log().grow(30))
    with pytest.raises(Contradiction):
        check_successor(before, head, proof, NOW)


def test_what_isnt_proved_or_is_ahead_of_time_waits() -> None:
    log = Log().grow(30)
    with pytest.raises(DocumentError, match="without the proof") as waits:
        check_successor(log.head(20), log.head(30), None, NOW)
    assert not isinstance(waits.value, Contradiction)
    early = log.head(time=NOW + CLOCK_TOLERANCE + timedelta(seconds=1))
    for before in (None, log.head(20)):
        with pytest.raises(DocumentError, match="ahead of our clock") as waits:
            check_successor(before, early, log.proof(20, 30), NOW)
        assert not isinstance(waits.value, Contradiction)


@given(st.binary(max_size=200))
def test_no_bytes_of_a_stranger_raise_anything_but_a_document_error(data: bytes) -> None:
    with pytest.raises(DocumentError):
        read_head(data)


def crowd(number: int) -> World:
    return World(sites={f"site-{i:03}": SigningKey.generate() for i in range(number)})


def test_in_a_small_consortium_every_other_site_is_a_witness() -> None:
    roster = crowd(WITNESSES + 1).roster()
    for site in roster.sites:
        assert witnesses(roster, site.name) == {s.name for s in roster.sites} - {site.name}


def test_witnesses_of_hundreds_are_few_spread_evenly_and_stay_when_others_come() -> None:
    world = crowd(200)
    roster = world.roster()
    drawn = {s.name: witnesses(roster, s.name) for s in roster.sites}
    assert all(len(found) == WITNESSES and name not in found for name, found in drawn.items())
    load = Counter(name for found in drawn.values() for name in found)
    assert set(load) == set(drawn)
    assert max(load.values()) < 3 * WITNESSES
    world.sites["one-more"] = SigningKey.generate()
    later = world.roster(version=2)
    moved = [len(drawn[name] - witnesses(later, name)) for name in drawn]
    assert max(moved) <= 1
    assert 0 < sum(moved) < 3 * WITNESSES
