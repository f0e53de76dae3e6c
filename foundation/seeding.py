"""Random generators seeded before foreign code is imported, so that it runs alike every time."""

from __future__ import annotations

import hashlib
import random

import numpy as np

from foundation.importing import when_imported


def seed_everything(seed: int) -> None:
    """Seed ``random`` and NumPy now, and PyTorch as soon as somebody imports it."""
    seed %= 2**32
    random.seed(seed)
    np.random.seed(seed)
    when_imported("torch", "seed", lambda torch: torch.manual_seed(seed))


def seed_of(*parts: object) -> int:
    """Return a seed that is the same for the same parts, and unrelated for any others."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")
