"""A node's dp lane and account on a disk, as attackers meet them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node.catalog.store import Catalog
from node.home import NodeHome
from tests.node.gate.dp.conftest import Lane, some_columns

NewLane = Callable[[str], Lane]


@pytest.fixture(scope="session")
def empty_catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty catalogue's file, migrated once for all tests."""
    home = NodeHome(tmp_path_factory.mktemp("template")).create()
    Catalog.open(home).close()
    return home.database


@pytest.fixture
def new_lane(tmp_path: Path, empty_catalogue: Path) -> Iterator[NewLane]:
    """Make a node by name, each with a disk of its own and the same 2,000 subjects."""
    made: list[Lane] = []

    def make(name: str) -> Lane:
        home = NodeHome(tmp_path / name).create()
        shutil.copy(empty_catalogue, home.database)
        made.append(Lane(home, some_columns(2000)))
        return made[-1]

    yield make
    for lane in made:
        lane.close()
