"""The SuperNode's own process: Flower's loop on one side, a pipe to the daemon on the other.

It holds no key but the site's for transport, and sees no data: what it sends came sealed from the
daemon.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
from pathlib import Path

from foundation import lifeline
from foundation.frames import FrameError, Pipe, pack
from foundation.transport import TransportIdentity

MAX_LOG_BYTES = 16 * 2**20
"""The SuperLink chooses much of what is logged."""
START, ASKED, ANSWER, NOTHING = b"B", b"Q", b"A", b"N"


def main(parent: int, incoming: int, outgoing: int) -> None:
    """Serve until the daemon ends or the SuperLink turns us away."""
    lifeline.tie(parent)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_LOG_BYTES, MAX_LOG_BYTES))
    pipe = Pipe(incoming, outgoing)
    start = json.loads(pipe.receive(0).message)
    from foundation.superlink import check_version

    check_version()
    from node.work.superlink import flower

    lock = threading.Lock()
    most = int(start["max_bytes"])

    def ask(run: flower.RunSeen, message: bytes, tensors: bytes) -> flower.Answer | None:
        about = json.dumps({"bundle": run.bundle, "config": dict(run.config)}).encode()
        try:
            with lock:
                pipe.send(ASKED, pack([about, message]), [tensors])
                frame = pipe.receive(2 * most + 2**20)
        except FrameError:
            os._exit(0)  # the daemon is gone, or ends us
        if frame.kind != ANSWER:
            return None
        return flower.Answer(frame.message, frame.body)

    flower.run(
        start["address"],
        TransportIdentity(Path(start["identity"])),
        ask,
        poll_seconds=float(start["poll_seconds"]),
        max_bytes=most,
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
