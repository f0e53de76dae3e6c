"""One node that these attacks share; an attack leaves it as it found it: up, and linked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.link.siege import Siege


@pytest.fixture(scope="package")
def siege(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    made = Siege(tmp_path_factory.mktemp("siege"))
    try:
        yield made.start()
    finally:
        made.close()
