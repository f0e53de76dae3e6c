"""Sites countersign one another's ledgers, and a ledger that was turned back is told by them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.documents import Roster
from contract.envelope import Envelope
from contract.heads import SignedHead, read_head
from node.gate.ledger.heads import HeadStore
from researcher import mean
from tests.end_to_end.federation import PROJECT, Federation
from tests.end_to_end.processes import eventually

Make = Callable[..., Federation]
SITES = ("north", "south", "west")
OFTEN = {
    "WARDGATE_NODE_LINK__HEAD_SECONDS": "0.3",
    "WARDGATE_COORDINATOR_JOBS__OFFLINE_GRACE_SECONDS": "5",
}


def newest(one: Federation, site: str) -> SignedHead | None:
    """A site's newest head, checked against the roster that is kept with it."""
    store = HeadStore(one.home(site) / "ledger", one.name)
    envelope = store.newest()
    if envelope is None:
        return None
    roster = Envelope.parse(store.roster())
    return SignedHead.verify(envelope, Roster.read(roster.body))


def countersigned(one: Federation, site: str, more_than: int = 0) -> SignedHead:
    """Wait for a head of a site that all others countersigned."""

    def done() -> SignedHead | None:
        found = newest(one, site)
        if found is None or found.head.tree_size <= more_than:
            return None
        return found if found.countersigned == set(SITES) - {site} else None

    found = eventually(done, f"a head of {site} is countersigned")
    assert found is not None
    return found


@pytest.mark.slow
def test_a_ledger_restored_from_a_backup_is_told_by_the_other_sites_alone(
    federations: Make, tmp_path: Path
) -> None:
    one = federations(*SITES, **OFTEN).bring_up(researchers=("ana",))
    first = {site: countersigned(one, site) for site in SITES}
    one.node("north").stop()
    one.coordinator.stop()
    ledger = one.home("north") / "ledger"
    shutil.copytree(ledger, tmp_path / "ledger")
    shutil.copytree(one.coordinator_home, tmp_path / "coordinator")
    one.coordinator.start()
    one.node("north").start()
    one.wait_for_sites()
    with one.connect() as ana:
        assert ana.statistics(PROJECT, [mean("age")]).answered == SITES
    later = countersigned(one, "north", first["north"].head.tree_size)
    # Whoever countersigned a head keeps it.
    for site in ("south", "west"):
        held = HeadStore(one.home(site) / "ledger", one.name).witnessed("north")
        assert held is not None
        assert read_head(held).tree_size >= later.head.tree_size
    # Now the hospital and the coordinator are both restored, and neither remembers.
    one.node("north").stop()
    one.coordinator.stop()
    shutil.rmtree(ledger)
    shutil.copytree(tmp_path / "ledger", ledger)
    shutil.rmtree(one.coordinator_home)
    shutil.copytree(tmp_path / "coordinator", one.coordinator_home)
    one.coordinator.start()
    one.wait_for_sites("south", "west")
    ended = one.node("north").launch().ended()
    assert ended.code == 12
    assert any("restored from a backup" in line for line in ended.errors)
    with one.connect() as ana:
        assert ana.statistics(PROJECT, [mean("age")]).answered == ("south", "west")
    one.ledgers_verify()
