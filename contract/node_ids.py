"""A site's node id for Flower, without what a process of a recipe has no need of."""

from __future__ import annotations

import hashlib


def node_id_of(consortium: str, site: str) -> int:
    """Return a site's node id, the same on both sides: 63 bits of a hash, never 1."""
    digest = hashlib.sha256(f"{consortium}/{site}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1 | 2
