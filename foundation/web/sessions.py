"""Who is logged in, and who has guessed too often. Both in memory: a restart logs everybody out.

Times are seconds of a clock that never goes back. Both classes may be used from any thread.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import deque
from dataclasses import dataclass, replace

MAX_SESSIONS = 256
MAX_PEERS = 4096


@dataclass(frozen=True)
class Session:
    """One login. ``csrf`` goes into each of its forms; ``password`` marks the one it was by."""

    csrf: str
    password: str
    begun: float
    used: float


class Sessions:
    """The logins that are valid now. Tokens are kept hashed, as a password would be."""

    def __init__(self, life_seconds: float, idle_seconds: float) -> None:
        self._life = life_seconds
        self._idle = idle_seconds
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def begin(self, password: str, now: float) -> str:
        """Begin a session and return its token. The oldest goes when there are too many."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._drop_old(now)
            while len(self._sessions) >= MAX_SESSIONS:
                self._sessions.pop(next(iter(self._sessions)))
            self._sessions[_key(token)] = Session(secrets.token_urlsafe(32), password, now, now)
        return token

    def find(self, token: str, password: str, now: float) -> Session | None:
        """Return the session of a token, noting its use, or None if it is over or never was."""
        with self._lock:
            self._drop_old(now)
            found = self._sessions.get(_key(token))
            if found is None or found.password != password:
                return None
            self._sessions[_key(token)] = replace(found, used=now)
        return found

    def end(self, token: str) -> None:
        """End a session; one that isn't there is fine."""
        with self._lock:
            self._sessions.pop(_key(token), None)

    def _drop_old(self, now: float) -> None:
        for key, session in list(self._sessions.items()):
            if now - session.begun >= self._life or now - session.used >= self._idle:
                del self._sessions[key]


class Throttle:
    """At most ``attempts`` failures in ``seconds`` for each peer."""

    def __init__(self, attempts: int = 5, seconds: float = 60.0) -> None:
        self._attempts = attempts
        self._seconds = seconds
        self._failures: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def attempt(self, peer: str, now: float) -> float:
        """Count an attempt and return 0, or return for how many seconds ``peer`` must wait."""
        with self._lock:
            failures = self._failures.pop(peer, deque())
            while failures and now - failures[0] >= self._seconds:
                failures.popleft()
            while len(self._failures) >= MAX_PEERS:
                self._failures.pop(next(iter(self._failures)))
            self._failures[peer] = failures  # the one that tried last is forgotten last
            if len(failures) >= self._attempts:
                return self._seconds - (now - failures[0])
            failures.append(now)
            return 0.0

    def succeeded(self, peer: str) -> None:
        """Forget a peer's failures."""
        with self._lock:
            self._failures.pop(peer, None)


def _key(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
