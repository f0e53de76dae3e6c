"""Who is connected: one live stream for each site, and when each was last there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from contract import wire_pb2 as wire
from foundation.transport import Peer

MAX_QUEUED_MESSAGES = 1024


@dataclass(eq=False)
class Session:
    """One node's live stream. ``send`` queues a message; ``close`` ends the stream."""

    peer: Peer
    queue: asyncio.Queue[wire.ToNode | None] = field(
        default_factory=lambda: asyncio.Queue(MAX_QUEUED_MESSAGES)
    )
    heard_at: float = field(default_factory=time.monotonic)

    @property
    def site(self) -> str:
        """The site's name."""
        return self.peer.name

    def send(self, message: wire.ToNode) -> None:
        """Queue a message; a node that doesn't read its stream is cut off."""
        try:
            self.queue.put_nowait(message)
        except asyncio.QueueFull:
            self.close()

    def close(self) -> None:
        """End the stream once what is queued before is sent (or at once when the queue is full)."""
        if self.queue.full():
            self.queue.get_nowait()
        self.queue.put_nowait(None)


@dataclass
class Sessions:
    """All live sessions, and the moment (monotonic seconds) at which each site went away."""

    changed: Callable[[str, bool], None] = lambda site, online: None
    live: dict[str, Session] = field(default_factory=dict)
    gone_at: dict[str, float] = field(default_factory=dict)
    started_at: float = field(default_factory=time.monotonic)

    def add(self, session: Session) -> None:
        """Register a session; an older one of the same site is closed."""
        old = self.live.get(session.site)
        if old is not None:
            old.close()
        self.live[session.site] = session
        self.changed(session.site, True)

    def remove(self, session: Session) -> None:
        """Forget a session, unless a newer one took its place."""
        if self.live.get(session.site) is session:
            del self.live[session.site]
            self.gone_at[session.site] = time.monotonic()
            self.changed(session.site, False)

    def online(self, site: str) -> bool:
        """Say whether the site has a live stream."""
        return site in self.live

    def offline_seconds(self, site: str) -> float:
        """Return for how long the site has been away, 0 when it is there.

        A site that wasn't seen since the coordinator started counts from then.
        """
        if site in self.live:
            return 0.0
        return time.monotonic() - self.gone_at.get(site, self.started_at)

    def send(self, site: str, message: wire.ToNode) -> bool:
        """Send to a site if it is there; say whether it was."""
        session = self.live.get(site)
        if session is None:
            return False
        session.send(message)
        return True

    def broadcast(self, message: wire.ToNode) -> None:
        """Send to every live session."""
        for session in list(self.live.values()):
            session.send(message)
