"""What a ServerApp asks its coordinator: whether it waits for sites."""

from __future__ import annotations

from pathlib import Path

from contract import wire_pb2 as wire
from coordinator.work.training.exchange import WAITING_ASKS, Exchange

SITES = ["birch", "cedar"]


def test_an_app_that_only_asks_who_is_there_waits_until_it_sends_something(tmp_path: Path) -> None:
    exchange = Exchange(tmp_path, "0" * 64, SITES)
    exchange.sites_changed({"birch"})
    for _ in range(WAITING_ASKS + 1):
        assert not exchange.waits_for_sites()
        assert exchange.nodes() == ["birch"]
    assert exchange.waits_for_sites()
    exchange.push([("birch", wire.Task(task="000001"))])
    assert not exchange.waits_for_sites()


def test_an_app_that_is_started_again_does_not_wait_for_what_it_asked_before(
    tmp_path: Path,
) -> None:
    exchange = Exchange(tmp_path, "0" * 64, SITES)
    for _ in range(WAITING_ASKS + 1):
        exchange.nodes()
    exchange.restart()
    for _ in range(WAITING_ASKS + 1):
        assert exchange.nodes() == []
    assert not exchange.waits_for_sites()
