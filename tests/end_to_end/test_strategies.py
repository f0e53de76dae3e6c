"""Every strategy over real daemons, against Flower by itself with the same rows: the same bits."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import pytest

from contract.node_ids import node_id_of
from tests.coordinator.work.training.test_strategies import CLIENT_MODS, OURS, names
from tests.end_to_end.federation import APPS, PROJECT, Federation
from tests.learning.simulation import LocalGrid

ROUNDS = 2


@pytest.fixture(scope="module")
def trained(partly: Federation) -> dict[str, np.ndarray]:
    """The models of one job, in which a strategy comes after another."""
    with partly.connect() as ana:
        result = ana.train(PROJECT, "strategies", {"rounds": ROUNDS}, minimum_sites=3).result()
    assert result.answered == partly.sites
    partly.ledgers_verify()
    return dict(result.arrays.items)


@pytest.fixture(scope="module")
def by_flower(partly: Federation) -> Iterator[object]:
    """Return what trains the same in this process, by Flower alone."""
    sys.path.append(str(APPS / "strategies"))
    try:
        from everyone import client_app, strategies

        def learn(name: str) -> object:
            nodes = {node_id_of(partly.name, site): site for site in partly.sites}
            grid = LocalGrid(dict.fromkeys(nodes, client_app.app))
            for node, site in nodes.items():
                [release] = (partly.home(site) / "releases").iterdir()
                grid.contexts[node].node_config["data-path"] = str(release)
            return strategies.learn(name, grid, ROUNDS)

        yield learn
    finally:
        sys.path.remove(str(APPS / "strategies"))


@pytest.mark.parametrize("name", [*names(), *OURS, *CLIENT_MODS])
def test_a_strategy_gives_over_the_link_the_model_that_flower_gives_by_itself(
    name: str, trained: dict[str, np.ndarray], by_flower: object
) -> None:
    expected = by_flower(name)
    found = {k.partition("/")[2]: a for k, a in trained.items() if k.startswith(f"{name}/")}
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        assert found[key].size > 0
        assert found[key].tobytes() == array.numpy().tobytes(), key
