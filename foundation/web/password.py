"""The console's one password: a salted scrypt hash in a file that only its owner reads.

Guarantee: the file alone gives the password away only to someone who can afford scrypt with
N = 2^16, r = 8, p = 2 (64 MiB a guess; OWASP Password Storage Cheat Sheet) for each guess.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sys
import threading
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import typer
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contract.errors import ConfigurationError, NotFound, UsageError
from foundation.files import read_bounded, write_durably

MINIMUM_LENGTH = 12
MAXIMUM_LENGTH = 1024
_MAX_FILE_BYTES = 4096
_COST, _BLOCK, _LANES = 2**16, 8, 2
_one_at_a_time = threading.Lock()  # 64 MiB each: logins queue rather than exhaust the memory


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    scheme: Literal["scrypt"]
    n: int = Field(ge=2**14, le=2**20)
    r: int = Field(ge=1, le=32)
    p: int = Field(ge=1, le=16)
    salt: str = Field(pattern=r"^[0-9a-f]{32}$")
    hash: str = Field(pattern=r"^[0-9a-f]{64}$")

    def derive(self, password: str) -> bytes:
        # One text can be written in several ways; keyboards differ in which they produce.
        text = unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
        with _one_at_a_time:
            return hashlib.scrypt(
                text,
                salt=bytes.fromhex(self.salt),
                n=self.n,
                r=self.r,
                p=self.p,
                maxmem=256 * self.n * self.r,
                dklen=32,
            )


@dataclass(frozen=True)
class PasswordFile:
    """The password kept at ``path``. It is read at each use, so that a change holds at once."""

    path: Path

    def set(self, password: str) -> None:
        """Keep a new password; ``UsageError`` when it is too short or too long."""
        if len(password) < MINIMUM_LENGTH:
            raise UsageError(f"The password needs at least {MINIMUM_LENGTH} characters.")
        if len(password) > MAXIMUM_LENGTH:
            raise UsageError(f"The password may have at most {MAXIMUM_LENGTH} characters.")
        salted = _Record(
            scheme="scrypt", n=_COST, r=_BLOCK, p=_LANES, salt=secrets.token_hex(16), hash="0" * 64
        )
        record = salted.model_copy(update={"hash": salted.derive(password).hex()})
        write_durably(self.path, record.model_dump_json().encode() + b"\n", 0o600)

    def require(self, how: str) -> None:
        """Raise ``ConfigurationError`` unless a password is set; ``how`` is the command for it."""
        if not self.path.exists():
            raise ConfigurationError(f"No password is set for the console; set one with '{how}'.")
        self._read()

    def verify(self, password: str) -> bool:
        """Say whether ``password`` is the one. Takes a tenth of a second or more, on purpose."""
        if not password or len(password) > MAXIMUM_LENGTH:
            return False
        try:
            record = self._read()
        except NotFound:
            return False
        return hmac.compare_digest(record.derive(password), bytes.fromhex(record.hash))

    def mark(self) -> str:
        """Return a mark of the password in force; sessions of an earlier one are not valid."""
        try:
            return self._read().salt
        except NotFound:
            return ""

    def _read(self) -> _Record:
        try:
            return _Record.model_validate_json(read_bounded(self.path, _MAX_FILE_BYTES))
        except ValidationError:
            raise ConfigurationError(
                f"{self.path} is not a console's password file; set the password again."
            ) from None


def ask_password(*, from_stdin: bool) -> str:
    """Return a new password: asked for twice, or the first line of standard input."""
    if from_stdin:
        return sys.stdin.readline(MAXIMUM_LENGTH + 2).rstrip("\r\n")
    return str(typer.prompt("New password", hide_input=True, confirmation_prompt=True))
