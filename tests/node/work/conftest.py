"""A node's work behind a real gate."""

from tests.node.gate.conftest import hospital, new_catalogue

__all__ = ["hospital", "new_catalogue"]
