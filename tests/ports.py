"""TCP ports for servers that tests start."""

from __future__ import annotations

import socket

FIRST, LAST = 20_000, 32_000
"""Below those that a kernel gives to whoever connects, so that none is taken in the meantime."""
_held: list[socket.socket] = []
"""Names that no other process of this machine can take while we live."""


def free_port() -> int:
    """Return a TCP port that nobody uses and that no other test, also of another run, is given."""
    for port in range(FIRST, LAST):
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0wardgate-test-port-{port}")
        except OSError:
            name.close()
            continue
        _held.append(name)
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
        return port
    raise AssertionError("no port is free")
