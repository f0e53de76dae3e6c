"""A federation of three sites that tests share as long as none of them breaks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.federation import Federation

SITES = ("north", "south", "west")


@pytest.fixture(scope="session")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Three sites, two researchers. A test leaves it as it found it: everything up."""
    federation = Federation(tmp_path_factory.mktemp("trio") / "opt", SITES)
    try:
        yield federation.bring_up()
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
