"""The bearer tokens of STOW-RS: their digests in a file, mode 0600; a token is shown once.

A token has 256 random bits, so that a plain digest of it can't be searched for.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from contract.errors import AlreadyExists, ConfigurationError, NotFound, UsageError
from foundation.files import read_bounded, write_durably

MAX_BYTES = 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Token:
    """One sender's token, without the token."""

    name: str
    sha256: str
    added: str


class Tokens:
    """The file of tokens. It is read anew for each request: a removed token ends at once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self) -> list[Token]:
        """Return every token that is let in."""
        if not self._path.exists():
            return []
        if self._path.stat().st_mode & 0o077:
            raise ConfigurationError(f"{self._path} can be read by others; set its mode to 0600.")
        try:
            rows = json.loads(read_bounded(self._path, MAX_BYTES))["tokens"]
            return [Token(str(r["name"]), str(r["sha256"]), str(r["added"])) for r in rows]
        except (ValueError, KeyError, TypeError):
            raise ConfigurationError(f"{self._path} is no file of tokens.") from None

    def add(self, name: str, now: datetime) -> str:
        """Let a sender in, and return its token; ``AlreadyExists`` when the name is taken."""
        if not _NAME.fullmatch(name):
            raise UsageError("A token's name has letters, digits, dots, dashes; 64 at most.")
        present = self.all()
        if any(token.name == name for token in present):
            raise AlreadyExists(f"There is a token {name!r} already; remove it first.")
        secret = secrets.token_urlsafe(32)
        self._write([*present, Token(name, _digest(secret), now.isoformat(timespec="seconds"))])
        return secret

    def remove(self, name: str) -> None:
        """Let a sender in no more; ``NotFound`` when there is none of that name."""
        present = self.all()
        left = [token for token in present if token.name != name]
        if len(left) == len(present):
            raise NotFound(f"There is no token {name!r}.")
        self._write(left)

    def who(self, authorization: str) -> str | None:
        """Return whose bearer token an Authorization header carries (RFC 6750), or None."""
        scheme, _, secret = authorization.partition(" ")
        digest = _digest(secret.strip())
        found = None
        for token in self.all():
            if hmac.compare_digest(token.sha256, digest):
                found = token.name
        return found if scheme.lower() == "bearer" else None

    def _write(self, tokens: list[Token]) -> None:
        rows = [{"name": t.name, "sha256": t.sha256, "added": t.added} for t in tokens]
        write_durably(self._path, json.dumps({"tokens": rows}, indent=1).encode() + b"\n")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
