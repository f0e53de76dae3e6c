"""The gate that is attacked: a real one, over a real catalogue and ledger."""

from tests.node.gate.conftest import hospital, new_catalogue

__all__ = ["hospital", "new_catalogue"]
