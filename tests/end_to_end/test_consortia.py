"""One node in two consortia, and a ledger that was turned back."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from contract import wire_pb2 as wire
from node.gate.ledger import read_entries, verify
from researcher import mean
from tests.end_to_end.federation import PROJECT, Federation
from tests.end_to_end.processes import eventually
from tests.end_to_end.test_link import ESTABLISHED, remote, sockets
from tests.examples import examples

Make = Callable[..., Federation]


def test_a_node_in_two_consortia_answers_both_with_one_ledger(federations: Make) -> None:
    first = federations("north", "south", name="opt").bring_up(minimum=1)
    second = federations("north", name="heart")
    second.homes["north"] = first.home("north")
    second.add_node_server("north")
    first.node("north").stop()
    second.serve_nodes = lambda: None  # type: ignore[method-assign]
    second.bring_up(researchers=("ana",), minimum=1)
    first.node("north").start()
    first.wait_for_sites()
    second.wait_for_sites()

    def two_connections() -> bool:
        return [state for state, _ in sockets(first.node("north").pid)] == [ESTABLISHED] * 2

    eventually(two_connections, "north has one connection for each consortium")
    peers = {peer[-5:] for _, peer in sockets(first.node("north").pid)}
    assert peers == {remote(first.address), remote(second.address)}
    with first.connect() as ana:
        one = ana.statistics(PROJECT, [mean("age")])
    with second.connect() as other:
        two = other.statistics(PROJECT, [mean("age")])
    assert one.answered == ("north", "south")
    assert two.answered == ("north",)
    entries = list(read_entries(first.home("north") / "ledger"))
    told = {e.body["consortium"] for e in entries if e.kind == "answer"}
    assert told == {"opt", "heart"}
    verify(first.home("north") / "ledger")
    # What one consortium asked isn't to be had in the other, by whoever asks.
    first.as_researcher("ana", "job", two.job).fails(14, "no such job")
    second.as_researcher("ana", "job", one.job).fails(14, "no such job")
    # What the second sees of the node tells nothing of the first.
    said = [
        wire.FromNode.FromString(
            (first.home("north") / "ledger" / "payloads" / str(e.body["payload"])).read_bytes()
        )
        for e in entries
        if e.kind == "notice" and e.body["consortium"] == "heart"
    ]
    assert not any(one.job in str(message) for message in said)
    projects = [r.projects for m in said for r in m.releases.releases]
    assert projects[-1] == [PROJECT]
    # A coordinator that goes away takes nothing from the other.
    second.coordinator.kill()
    with first.connect() as ana:
        assert ana.statistics(PROJECT, [mean("age")]).answered == ("north", "south")


@pytest.mark.slow
def test_a_ledger_that_was_restored_from_a_backup_stops_the_node_for_good(
    federations: Make,
) -> None:
    one = federations("north").bring_up(researchers=("ana",), minimum=1)
    ledger = one.home("north") / "ledger"
    with one.connect() as ana:
        ana.statistics(PROJECT, [mean("age")])
        one.node("north").stop()
        shutil.copytree(ledger, one.root / "backup")
        one.node("north").start()
        one.wait_for_sites()
        ana.statistics(PROJECT, [mean("age")])
    one.node("north").stop()
    newest = one.root / "newest"
    ledger.rename(newest)
    shutil.copytree(one.root / "backup", ledger)
    lost = len(list(read_entries(newest))) - len(list(read_entries(ledger)))
    # Each attempt writes to the restored ledger. That must not make it as long, and as good, as
    # the lost one.
    for _ in range(examples(2, lost + 2)):
        ended = one.node("north").launch().ended()
        assert ended.code == 12
        assert any("restored from a backup" in line for line in ended.errors), ended.errors
    shutil.rmtree(ledger)
    newest.rename(ledger)
    one.node("north").start()
    one.wait_for_sites()
    with one.connect() as ana:
        assert ana.statistics(PROJECT, [mean("age")]).answered == ("north",)


@pytest.mark.slow
def test_an_offline_site_is_named_in_the_answer(federations: Make) -> None:
    one = federations("north", "south", WARDGATE_COORDINATOR_JOBS__OFFLINE_GRACE_SECONDS="0.5")
    one.bring_up(researchers=("ana",), minimum=1)
    one.node("south").kill()
    done = one.as_researcher("ana", "statistics", "-p", PROJECT, "--mean", "age")
    assert (done.code, done.errors) == (0, []), done.errors
    assert "south is not in the answer (The site did not answer.)" in done.out
    asked = ("statistics", "-p", PROJECT, "--mean", "age", "--minimum-sites", "2")
    one.as_researcher("ana", *asked).fails(16, "south")
