"""Room on the coordinator's disk for a round's replies, which stay until the job ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from contract import wire_pb2 as wire

LOOK_SECONDS = 5.0


def replies_bytes(tasks: Sequence[wire.Task]) -> int:
    """Return about what the replies to these tasks take: of a model as much as the model."""
    return sum(
        task.tensors.size for task in tasks if task.message_type.partition(".")[0] == "train"
    )


def megabytes(size: int) -> str:
    """Return a size as people read it."""
    return f"{size / 1e9:.1f} GB" if size >= 10**9 else f"{size / 1e6:.0f} MB"


class Room:
    """Waits for space. What a round takes is told once, and every wait."""

    def __init__(
        self,
        folder: Path,
        keep_free_bytes: int,
        free_bytes: Callable[[Path], int],
        tell: Callable[[str], None],
        copies: int = 1,
    ) -> None:
        """``copies``: how often a reply lies there for a while."""
        self._copies = copies
        self._folder = folder
        self._keep = keep_free_bytes
        self._free = free_bytes
        self._tell = tell
        self._told = False
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """End every wait, now and later."""
        self._cancelled.set()

    def make(self, tasks: Sequence[wire.Task]) -> bool:
        """Return once there is room for the replies to these tasks; False when cancelled."""
        needed = replies_bytes(tasks) * self._copies
        if not needed:
            return True
        if not self._told:
            self._told = True
            free = self._free(self._folder)
            rounds = max(0, free - self._keep) // needed
            self._tell(
                f"each round keeps {megabytes(needed)} on the coordinator's disk until the job "
                f"ends; {megabytes(free)} are free there, enough for {rounds} rounds"
            )
        waits = False
        while (free := self._free(self._folder)) - needed < self._keep:
            if not waits:
                waits = True
                self._tell(
                    f"waits: the coordinator's disk has {megabytes(free)} left, and the round's "
                    f"replies need {megabytes(needed)} beside the {megabytes(self._keep)} that "
                    "stay free"
                )
            if self._cancelled.wait(LOOK_SECONDS):
                return False
        return not self._cancelled.is_set()
