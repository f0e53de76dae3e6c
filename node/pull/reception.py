"""The receiving end of one series: what is expected, what came, and how fast it may come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from contract.errors import StorageError
from node.pull.archive import Arrival, is_uid
from node.pull.throttle import Throttle


@dataclass(frozen=True)
class Storage:
    """Where instances go, and what is there already."""

    arrival: Callable[[str], Arrival]
    held: Callable[[Iterable[str]], set[str]]
    """Which of these instances are here."""
    room: Callable[[], bool] = lambda: True


class Reception:
    """Takes the instances of one series into the landing. See ``archive.Receiver``.

    With ``wanted`` None (the archive doesn't list them) every instance that isn't here is.
    """

    def __init__(
        self,
        wanted: Iterable[str] | None,
        *,
        storage: Storage,
        throttle: Throttle,
        largest_bytes: int,
        stopping: Callable[[], bool],
        observe: Callable[[int, int], None],
    ) -> None:
        self._wanted = None if wanted is None else frozenset(wanted)
        self._storage = storage
        self._throttle = throttle
        self._largest_bytes = largest_bytes
        self._stopping = stopping
        self._observe = observe
        self._lock = threading.Lock()
        self._came: set[str] = set()
        self._refused: set[str] = set()
        self._held: set[str] = set()

    @property
    def came(self) -> frozenset[str]:
        """The instances that are durable."""
        with self._lock:
            return frozenset(self._came)

    @property
    def held(self) -> frozenset[str]:
        """The instances that the archive sent though they are here; only without a list."""
        with self._lock:
            return frozenset(self._held)

    @property
    def refused(self) -> frozenset[str]:
        """The instances that are too large."""
        with self._lock:
            return frozenset(self._refused)

    @property
    def largest_bytes(self) -> int:
        """What an instance may have at most."""
        return self._largest_bytes

    def expects(self, sop_instance_uid: str) -> bool:
        """Say whether this instance was asked for and hasn't come yet."""
        with self._lock:
            known = self._came, self._refused, self._held
            if any(sop_instance_uid in uids for uids in known):
                return False
        if self._wanted is not None:
            return sop_instance_uid in self._wanted
        if not is_uid(sop_instance_uid):
            return False
        held = self._storage.held([sop_instance_uid])
        with self._lock:
            self._held |= held
        return not held

    def arrival(self, sop_instance_uid: str) -> Arrival:
        """Return the context in which this instance is written; ``StorageError`` without room."""
        if not self._storage.room():
            raise StorageError("The landing's disk is nearly full; resume the pull later.")
        return self._storage.arrival(sop_instance_uid)

    def arrived(self, sop_instance_uid: str, size_bytes: int) -> None:
        """Take note that it is durable, and wait while instances come too fast."""
        with self._lock:
            self._came.add(sop_instance_uid)
        self._observe(1, size_bytes)
        self._throttle.instance()

    def received(self, size_bytes: int) -> None:
        """Account for bytes as they are read, and wait while they come too fast."""
        self._throttle.received(size_bytes)

    def too_large(self, sop_instance_uid: str) -> None:
        """Take note that an instance has more than it may."""
        with self._lock:
            self._refused.add(sop_instance_uid)

    def stopping(self) -> bool:
        """Say whether to break off."""
        return self._stopping()
