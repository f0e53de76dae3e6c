"""The gate that is attacked: a real one, over a real catalogue and ledger."""

import pytest

from node.gate.updates.noise import KEY_BYTES
from tests.node.gate.conftest import Hospital, hospital, new_catalogue

__all__ = ["hospital", "new_catalogue"]


@pytest.fixture(autouse=True)
def drawn_alike(hospital: Hospital) -> None:
    """Let noise be drawn alike in each run, so that no test has bad luck."""
    hospital.home.noise_key.touch(mode=0o600)
    hospital.home.noise_key.write_bytes(bytes(range(KEY_BYTES)))
