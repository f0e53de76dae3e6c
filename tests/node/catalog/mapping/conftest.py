"""A mapping applied to tables and observations in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from node.catalog.mapping.evaluation import Mapped
from tests.node.catalog.mapping.making import Apply, MemorySources, map_variables


@pytest.fixture
def sources(tmp_path: Path) -> MemorySources:
    return MemorySources(tmp_path)


@pytest.fixture
def apply(sources: MemorySources) -> Apply:
    def run(variables: list[dict[str, Any]], expressions: dict[str, Any], **keys: Any) -> Mapped:
        return map_variables(sources, variables, expressions, **keys)

    return run
