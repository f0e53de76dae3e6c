"""Training over a stock Flower SuperLink: the same model, the same gate, no stranger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.federation import PROJECT, Federation, free_port

SITES = ("north", "south", "west")


def over_superlink(root: Path, *sites: str) -> Federation:
    """Describe a federation whose sites have a SuperNode each."""
    port = free_port()
    federation = Federation(root / "opt", sites)
    federation.settings |= {
        "WARDGATE_COORDINATOR_SUPERLINK__ENABLED": "true",
        "WARDGATE_COORDINATOR_SUPERLINK__HOST": "127.0.0.1",
        "WARDGATE_COORDINATOR_SUPERLINK__PORT": str(port),
        "WARDGATE_NODE_SUPERNODE__SUPERLINKS": f"opt=127.0.0.1:{port}",
        "WARDGATE_NODE_SUPERNODE__POLL_SECONDS": "0.1",
    }
    return federation


def allow_superlink(federation: Federation) -> None:
    """Let every site's policy have it."""
    for site in federation.sites:
        policy = federation.home(site) / "policy.toml"
        policy.write_text(policy.read_text().replace("[training]", "[training]\nsuperlink = true"))


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    federation = over_superlink(tmp_path_factory.mktemp("superlink"), *SITES)
    try:
        federation.bring_up(researchers=("ana",))
        allow_superlink(federation)
        yield federation
    finally:
        federation.close()


def test_the_same_seed_gives_the_same_model_on_both_engines(linked: Federation) -> None:
    with linked.connect() as ana:
        plain = ana.train(PROJECT, "steps", {"rounds": 2}, seed=7, minimum_sites=3).result()
        carried = ana.train(
            PROJECT, "steps", {"rounds": 2}, seed=7, minimum_sites=3, engine="superlink"
        ).result()
    assert carried.answered == plain.answered == SITES
    for name, array in plain.arrays.items.items():
        assert np.array_equal(carried.arrays.items[name], array)
    linked.ledgers_verify()
