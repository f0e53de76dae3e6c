"""Pseudonyms, UIDs and date offsets: keyed functions, so that only this node can make them.

Each is HMAC-SHA-256 (RFC 2104) under a key of its own that is derived from the node's secret and
the purpose, by HMAC-SHA-256 too. The secret is in a file, or in a PKCS#11 token that derives and
never shows it; the same secret gives the same pseudonyms either way. Without it, nobody can find
out a subject by trying all hospital numbers; with it, tables and images of one subject get the same
pseudonym and keep their intervals. No table of them exists.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path

from contract.errors import StorageError
from foundation.files import read_bounded, sync_folder, write_durably

KEY_BYTES = 32
_PURPOSE = b"wardgate pseudonyms 1: "
_PURPOSES = (b"subject", b"uid", b"date offset", b"source")
FEWEST_DAYS, MOST_DAYS = 366, 1095
STANDARD_ROOT = "1.2.840.10008"
"""DICOM's own UIDs (SOP classes, transfer syntaxes, well-known instances): PS3.6 Annex A."""


class Pseudonyms:
    """The keyed functions of one node. Its ``repr`` shows nothing of the key."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise StorageError(f"The pseudonym key is not {KEY_BYTES} bytes; restore it.")
        self._derive(lambda text: hmac.digest(key, text, "sha256"))

    @classmethod
    def of_token(cls, sign: Callable[[bytes], bytes]) -> Pseudonyms:
        """Return the functions of a secret that only ``sign`` (HMAC-SHA-256) can use.

        It is called once for each purpose; the keys derived are held in this process.
        """
        made = cls.__new__(cls)
        made._derive(sign)
        return made

    def _derive(self, sign: Callable[[bytes], bytes]) -> None:
        keys = {purpose: sign(_PURPOSE + purpose) for purpose in _PURPOSES}
        self._subject = keys[b"subject"]
        self._uid = keys[b"uid"]
        self._days = keys[b"date offset"]
        self._source = keys[b"source"]

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits that tell one secret from another, and nothing of either."""
        return self.source(b"fingerprint")[:8]

    def subject(self, identifier: str) -> str:
        """Return the pseudonym (128 bits, 32 hexadecimal digits) of a hospital's identifier.

        Blanks around it and Unicode's ways to write one letter (NFC) make no difference, because
        DICOM pads values and tables don't (PS3.5 section 6.2).
        """
        clean = unicodedata.normalize("NFC", identifier.strip(" \0\t\r\n"))
        return hmac.digest(self._subject, b"i" + clean.encode(), "sha256")[:16].hex()

    def unnamed_subject(self, study_uid: str) -> str:
        """Return the pseudonym of a subject that is known by one study only."""
        return hmac.digest(self._subject, b"s" + study_uid.encode(), "sha256")[:16].hex()

    def uid(self, uid: str) -> str:
        """Return the UID that replaces ``uid``: 2.25 and 128 bits (PS3.5 section B.2).

        One UID has one replacement, in every file and reference. DICOM's own are returned as
        they are.
        """
        if is_standard_uid(uid):
            return uid
        value = int.from_bytes(hmac.digest(self._uid, uid.encode(), "sha256")[:16], "big")
        return f"2.25.{value}"

    def days(self, pseudonym: str) -> int:
        """Return by how many days the dates of this subject move into the past.

        From ``FEWEST_DAYS``, so that no year stays, to ``MOST_DAYS``.
        """
        digest = hmac.digest(self._days, pseudonym.encode(), "sha256")
        return int.from_bytes(digest[:8], "big") % (MOST_DAYS - FEWEST_DAYS + 1) + FEWEST_DAYS

    def source(self, *parts: bytes) -> str:
        """Return the keyed digest by which something that was taken in is known again.

        Each part counts with its length, so that no two lists of parts have one digest.
        """
        state = hmac.new(self._source, b"parts", "sha256")
        for part in parts:
            state.update(len(part).to_bytes(8, "big"))
            state.update(part)
        return state.hexdigest()

    def source_of(self, pieces: Iterable[bytes]) -> str:
        """Return the keyed digest of a file that comes piece by piece."""
        state = hmac.new(self._source, b"file:", "sha256")
        for piece in pieces:
            state.update(piece)
        return state.hexdigest()


def is_standard_uid(uid: str) -> bool:
    """Say whether DICOM itself assigned ``uid``."""
    return uid == STANDARD_ROOT or uid.startswith(STANDARD_ROOT + ".")


def load_key(path: Path, *, create: bool) -> bytes:
    """Return the 32 secret bytes kept at ``path``; make them (mode 0600) if ``create`` allows it.

    ``NotFound`` without it, ``StorageError`` when it isn't 32 bytes or others can read it.
    """
    if create and not path.exists():
        _make_key(path)
    key = read_bounded(path, 4096)
    if len(key) != KEY_BYTES:
        raise StorageError(f"{path} is not a key of {KEY_BYTES} bytes; restore it from a backup.")
    if path.stat().st_mode & 0o077:
        raise StorageError(f"{path} can be read by others; set its mode to 0600.")
    return key


def _make_key(path: Path) -> None:
    # Linked, not renamed: of two processes that both make a key, one must win for good.
    ours = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    write_durably(ours, secrets.token_bytes(KEY_BYTES))
    try:
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(ours)
    finally:
        ours.unlink()
    sync_folder(path.parent)
