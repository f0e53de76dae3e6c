"""Whoever has the node's user rewrites its record: edits, cuts, forks, restores, sets clocks."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from contract import merkle
from contract import wire_pb2 as wire
from contract.errors import LedgerError
from contract.heads import TreeHead, read_head
from node.gate.ledger import Ledger, examine, verification
from node.link import heads as link_heads
from node.link.heads import HeadExchange
from tests.node.link.sites import NORTH, SOUTH, Carrier, Site, empty_catalogue, three_sites

ATTACKS = (
    (
        "An entry that is edited",
        "Schneier and Kelsey 1999, Secure Audit Logs to Support Computer Forensics",
        "each entry names the hash of the one before",
        "test_an_edited_entry_breaks_the_chain",
    ),
    (
        "A record cut at its end",
        "Ma and Tsudik 2009, A New Approach to Secure Logging (truncation)",
        "signed heads that the ledger must hold",
        "test_a_ledger_that_is_cut_lacks_its_own_head",
    ),
    (
        "A second history for the same witness",
        "Crosby and Wallach 2009, Efficient Data Structures for Tamper-Evident Logging",
        "a head is countersigned only with a proof that it goes on from the one before",
        "test_a_second_history_gets_no_countersignature",
    ),
    (
        "A ledger restored from a backup",
        "Matetic et al. 2017, ROTE: Rollback Protection for Trusted Execution",
        "other sites tell a node the newest head of its own ledger",
        "test_a_restored_ledger_is_told_what_it_has_forgotten",
    ),
    (
        "A clock that is set back",
        "Haber and Stornetta 1991, How to Time-Stamp a Digital Document",
        "a head that is earlier than the one before gets no countersignature",
        "test_a_backdated_history_gets_no_countersignature",
    ),
)


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Carrier]:
    """Three hospitals; north's record has something that its attacker wants gone."""
    with three_sites(tmp_path, empty_catalogue(tmp_path / "template")) as carrier:
        carrier[NORTH].work(4)
        yield carrier


def lines(site: Site) -> list[bytes]:
    return (site.home.ledger / "ledger.jsonl").read_bytes().splitlines()


def put(site: Site, found: list[bytes]) -> None:
    (site.home.ledger / "ledger.jsonl").write_bytes(b"".join(line + b"\n" for line in found))


def rewritten(found: list[bytes], at: int) -> list[bytes]:
    """Change one entry, and make every later one follow."""
    kept, previous = found[:at], hashlib.sha256(found[at - 1]).hexdigest()
    for number, line in enumerate(found[at:], at):
        value = json.loads(line)
        value["previous"] = previous
        if number == at:
            value["body"] = {"number": "nothing to see"}
        kept.append(json.dumps(value, separators=(",", ":")).encode())
        previous = hashlib.sha256(kept[-1]).hexdigest()
    return kept


def signed_by_attacker(site: Site, time: datetime) -> TreeHead:
    """A head that whoever has the site's key signs of its ledger as it is now."""
    standing = site.gate.ledger.standing()
    return TreeHead(
        consortium=site.world.consortium,
        site=site.name,
        tree_size=standing.size,
        root_hash=standing.root.hex(),
        chain_hash=standing.hash,
        time=time,
    )


def countersigned(carrier: Carrier, head: TreeHead, first: int) -> bool:
    """Offer a head with the best proof there is; say whether south countersigned it."""
    north, south = carrier[NORTH], carrier[SOUTH]
    path = north.gate.ledger.consistency_proof(first, head.tree_size)
    offer = wire.HeadOffer(
        envelope=head.sign(north.world.sites[NORTH]),
        proofs=[wire.ConsistencyProof(first=first, path=path)],
    )
    south.pass_time()
    answer = south.exchange.countersign(offer)
    assert answer is not None
    (envelope,) = answer.message.countersigned.envelopes
    return read_head(envelope) == head


@contextmanager
def remembering(witness: Site) -> Iterator[None]:
    """Put back afterwards what a witness remembers of the others."""
    folder = witness.home.ledger / "heads"
    before = witness.home.root / "before"
    shutil.copytree(folder, before)
    yield
    shutil.rmtree(folder)
    before.rename(folder)


def test_an_edited_entry_breaks_the_chain(three: Carrier, monkeypatch: pytest.MonkeyPatch) -> None:
    north = three[NORTH]
    found = lines(north)
    put(north, [found[0], found[1].replace(b'"number":1', b'"number":7'), *found[2:]])

    def unchained(line: bytes, _expected: int, _previous: str) -> Any:
        return json.loads(line)

    with monkeypatch.context() as off:
        off.setattr(verification, "read_line", unchained)
        assert examine(north.home.ledger).entries == 4

    with pytest.raises(LedgerError, match="chain breaks at entry 2"):
        examine(north.home.ledger)


def test_a_ledger_that_is_cut_lacks_its_own_head(three: Carrier) -> None:
    north = three[NORTH]
    three.carry(NORTH)
    cut = north.home.root / "cut"
    shutil.copytree(north.home.ledger, cut)
    (cut / "ledger.jsonl").write_bytes(b"".join(line + b"\n" for line in lines(north)[:2]))

    shutil.copytree(cut, north.home.root / "off")
    shutil.rmtree(north.home.root / "off" / "heads")
    assert examine(north.home.root / "off").entries == 2
    Ledger(north.home.root / "off").close()

    with pytest.raises(LedgerError, match="its own signed head of 4 entries"):
        examine(cut)
    with pytest.raises(LedgerError, match="its own signed head of 4 entries"):
        Ledger(cut)


def test_a_second_history_gets_no_countersignature(
    three: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    north = three[NORTH]
    three.carry(NORTH)
    first = north.newest().head.tree_size
    put(north, rewritten(lines(north), 2))
    for folder in ("heads", "index"):  # the attacker cleans up behind them
        shutil.rmtree(north.home.ledger / folder)
    north.open().work(3)
    head = signed_by_attacker(north, north.now)

    with monkeypatch.context() as off, remembering(three[SOUTH]):
        off.setattr(merkle, "consistency_holds", lambda *_: True)
        assert countersigned(three, head, first)

    assert not countersigned(three, head, first)
    assert three[SOUTH].kinds("head-contradicted")


def test_a_restored_ledger_is_told_what_it_has_forgotten(
    three: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    north = three[NORTH]
    backup = north.home.root / "backup"
    shutil.copytree(north.home.ledger, backup)
    north.work()  # what is to be forgotten, for example a spent budget
    three.carry(NORTH)
    shutil.rmtree(north.home.ledger)
    backup.rename(north.home.ledger)
    north.open()
    held = three[SOUTH].exchange.held()
    assert held is not None

    with monkeypatch.context() as off:
        off.setattr(HeadExchange, "check", lambda *_: None)
        north.exchange.countersigned(held.message.countersigned)
        north.work()  # and the node goes on as if nothing had been

    with pytest.raises(LedgerError, match="restored from a backup"):
        north.exchange.countersigned(held.message.countersigned)


def test_a_backdated_history_gets_no_countersignature(
    three: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    north = three[NORTH]
    three.carry(NORTH)
    first = north.newest().head.tree_size
    north.now -= timedelta(days=90)
    north.work()  # as if it had been before an approval was withdrawn
    head = signed_by_attacker(north, north.now)
    real = link_heads.check_successor

    def timeless(previous: TreeHead | None, *others: Any) -> None:
        begin = datetime.min.replace(tzinfo=UTC)
        real(previous.model_copy(update={"time": begin}) if previous else None, *others)

    with monkeypatch.context() as off, remembering(three[SOUTH]):
        off.setattr(link_heads, "check_successor", timeless)
        assert countersigned(three, head, first)

    assert not countersigned(three, head, first)
