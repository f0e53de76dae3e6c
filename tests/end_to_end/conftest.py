"""Federations of three sites that tests share as long as none of them breaks them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.federation import Federation
from tests.end_to_end.processes import Server

SITES = ("north", "south", "west")


@pytest.fixture(scope="session")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Three sites under ``open-research``, two researchers. A test leaves it as it found it:
    everything up.
    """
    federation = Federation(tmp_path_factory.mktemp("trio") / "opt", SITES)
    try:
        yield federation.bring_up()
    finally:
        federation.close()


class Partly(Federation):
    """A federation whose last site lets everything out."""

    def add_node_server(self, site: str) -> Server:
        """Start that site by the program that has no gate."""
        server = super().add_node_server(site)
        if site == self.sites[-1]:
            program = str(Path(__file__).with_name("lawless_node.py"))
            server.command = [sys.executable, program, *server.command[1:]]
        return server


@pytest.fixture(scope="session")
def partly(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Three sites under ``open-research``; at the last, west, nothing of what a recipe says is held
    back.
    """
    federation = Partly(tmp_path_factory.mktemp("partly") / "opt", SITES)
    try:
        yield federation.bring_up(researchers=("ana",), apps=("unruly", "strategies"))
    finally:
        federation.close()


@pytest.fixture
def federations(tmp_path: Path) -> Iterator[Callable[..., Federation]]:
    """Make federations that the test may break."""
    made: list[Federation] = []

    def make(*sites: str, name: str = "opt", **settings: str) -> Federation:
        one = Federation(tmp_path / name, sites or ("north", "south"), name)
        one.settings |= settings
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()
