"""The landing: what arrived and is not de-identified yet, encrypted on the way, durable, queued.

An arrival is written to a hidden file, synced, renamed and its name synced; only then is it an
entry, and only then may its sender be told that it is safe. Names hold the time, the way in and a
keyed digest of the SOP Instance UID, nothing that names a patient.

What became of an arrival is remembered as a *receipt* (that digest), so that a storage commitment
can be answered after the entry is gone: an instance is held when it is in the landing or was taken
out of it into vault or quarantine. What was purged is not held.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from contract.errors import UsageError
from foundation.files import SECRET_MODE, private_folder, storage_errors, sync_folder, write_durably
from node.deid.pseudonyms import load_key
from node.home import NodeHome
from node.intake import sealed

SUFFIX = ".landed"
RECEIPTS = "receipts"
DIGEST = 16
RECORD = DIGEST + 8
"""A receipt: the digest and the day's second, big-endian."""
STALE_SECONDS = 60
"""An unfinished file that is older and that no process holds was left by a kill."""

_NAME = re.compile(r"(\d{20})-([a-z0-9.]{1,24})-([0-9a-f]{32}|0)-[0-9a-f]{12}\.landed")
_ORIGIN = re.compile(r"[a-z0-9.]{1,24}")

Clock = Callable[[], datetime]


@dataclass(frozen=True)
class LandingEntry:
    """One arrival that is durable and not done."""

    name: str
    origin: str
    """The way in: ``cstore``, ``stow``, ``pull``, ..."""
    arrived_at: datetime
    size_bytes: int
    receipt: str = ""
    """Keyed digest of the SOP Instance UID, if the sender said it."""


class Landing:
    """The landing folder of one node; any number of processes may use it at once."""

    def __init__(self, home: NodeHome, clock: Clock = lambda: datetime.now(UTC)) -> None:
        self._folder = private_folder(home.landing)
        self._key = load_key(home.landing_key, create=True)
        self._digest_key = hmac.digest(self._key, b"wardgate landing receipt", "sha256")
        self._clock = clock
        self._sync = _GroupSync(self._folder)

    @property
    def folder(self) -> Path:
        """Where it is, to measure its disk."""
        return self._folder

    def writer(self, origin: str, sop_instance_uid: str = "") -> LandingWriter:
        """Return a context in which one arrival is written; left uncommitted, it leaves nothing."""
        if not _ORIGIN.fullmatch(origin):
            raise UsageError("An origin is 1 to 24 small letters, digits and dots.")
        receipt = self.receipt(sop_instance_uid) if sop_instance_uid else ""
        return LandingWriter(self, origin, receipt)

    def receipt(self, sop_instance_uid: str) -> str:
        """Return the keyed digest by which an instance is known here."""
        return hmac.digest(self._digest_key, sop_instance_uid.encode(), "sha256")[:DIGEST].hex()

    def entries(self) -> Iterator[LandingEntry]:
        """Yield what is durable and not done, oldest first."""
        for name in sorted(self._names()):
            with suppress(FileNotFoundError):
                yield self._entry(name)

    def count(self) -> int:
        """Return how many entries wait."""
        with os.scandir(self._folder) as found:
            return sum(i.name.endswith(SUFFIX) and not i.name.startswith(".") for i in found)

    def chunks(self, entry: LandingEntry) -> Iterator[bytes]:
        """Yield the arrival's bytes in pieces; ``DataError`` if the file was changed."""
        with (self._folder / entry.name).open("rb") as file:
            yield from sealed.unsealed(file, self._key, entry.name.encode())

    def read(self, entry: LandingEntry) -> bytes:
        """Return the arrival's bytes, whole."""
        return b"".join(self.chunks(entry))

    def done(self, entry: LandingEntry) -> None:
        """Delete an entry whose instance is safe in vault or quarantine; keep its receipt."""
        with storage_errors(self._folder):
            if entry.receipt:
                self._remember(bytes.fromhex(entry.receipt))
            (self._folder / entry.name).unlink(missing_ok=True)

    def held(self, sop_instance_uids: Iterable[str]) -> set[str]:
        """Return which of these instances are safe here: waiting, or taken out of the landing."""
        wanted = {uid: self.receipt(uid) for uid in sop_instance_uids}
        # Names first: an entry gets its receipt before it leaves.
        waiting = {match[3] for name in self._names() if (match := _NAME.fullmatch(name))}
        records = self._receipts()
        return {
            uid
            for uid, receipt in wanted.items()
            if receipt in waiting or _recorded(records, bytes.fromhex(receipt))
        }

    def purge(
        self,
        now: datetime,
        older_than: timedelta,
        receipts_older_than: timedelta = timedelta(days=30),
    ) -> int:
        """Delete entries that arrived before ``now - older_than``; return how many.

        Deletes what killed writers left too, and receipts that are too old to be asked for.
        """
        purged = 0
        with storage_errors(self._folder):
            for entry in self.entries():
                if entry.arrived_at < now - older_than:
                    (self._folder / entry.name).unlink(missing_ok=True)
                    purged += 1
            for path in self._folder.glob(".*" + SUFFIX):
                _remove_if_left(path)
            self._forget(now - receipts_older_than)
            sync_folder(self._folder)
        return purged

    def _names(self) -> Iterator[str]:
        with os.scandir(self._folder) as found:
            for item in found:
                if _NAME.fullmatch(item.name):
                    yield item.name

    def _entry(self, name: str) -> LandingEntry:
        match = _NAME.fullmatch(name)
        assert match is not None
        return LandingEntry(
            name=name,
            origin=match[2],
            arrived_at=_time(int(match[1])),
            size_bytes=sealed.plain_bytes((self._folder / name).stat().st_size),
            receipt="" if match[3] == "0" else match[3],
        )

    def _remember(self, digest: bytes) -> None:
        record = digest + int(self._clock().timestamp()).to_bytes(8, "big")
        with self._locked_receipts() as descriptor:
            whole = os.fstat(descriptor).st_size // RECORD * RECORD
            os.truncate(descriptor, whole)  # a kill may have left half a record
            os.write(descriptor, record)
            os.fdatasync(descriptor)

    @contextmanager
    def _locked_receipts(self) -> Iterator[int]:
        path = self._folder / RECEIPTS
        while True:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, SECRET_MODE)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                # A purge may have put a shorter file in its place meanwhile.
                if os.fstat(descriptor).st_ino == path.stat().st_ino:
                    yield descriptor
                    return
            finally:
                os.close(descriptor)

    def _receipts(self) -> bytes:
        try:
            return (self._folder / RECEIPTS).read_bytes()
        except FileNotFoundError:
            return b""

    def _forget(self, before: datetime) -> None:
        oldest = int(before.timestamp())
        with self._locked_receipts():
            data = self._receipts()
            kept = b"".join(
                record
                for at in range(0, len(data) // RECORD * RECORD, RECORD)
                if int.from_bytes((record := data[at : at + RECORD])[DIGEST:], "big") >= oldest
            )
            if len(kept) < len(data):
                write_durably(self._folder / RECEIPTS, kept)


class LandingWriter:
    """One arrival while it is written."""

    def __init__(self, landing: Landing, origin: str, receipt: str) -> None:
        self._landing = landing
        at = int(landing._clock().timestamp() * 1_000_000) * 1000
        self._name = f"{at:020d}-{origin}-{receipt or '0'}-{secrets.token_hex(6)}{SUFFIX}"
        self._temporary = landing.folder / f".{self._name}"
        self._size = 0
        self._committed = False

    def __enter__(self) -> Self:
        with storage_errors(self._landing.folder):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            self._file = os.fdopen(os.open(self._temporary, flags, SECRET_MODE), "wb")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._sealer = sealed.Sealer(self._file, self._landing._key, self._name.encode())
        return self

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take more of the arrival's bytes; ``StorageError`` when there is no room for them."""
        self._size += len(data)
        with storage_errors(self._landing.folder):
            self._sealer.write(data)

    def commit(self) -> LandingEntry:
        """Make the arrival durable. After return it survives ``kill -9`` and a power cut."""
        with storage_errors(self._landing.folder):
            self._sealer.finish()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._temporary.replace(self._landing.folder / self._name)
            self._committed = True
            self._landing._sync()
        match = _NAME.fullmatch(self._name)
        assert match is not None
        return LandingEntry(
            self._name,
            match[2],
            _time(int(match[1])),
            self._size,
            "" if match[3] == "0" else match[3],
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What a full disk kept from being flushed is thrown away with the file.
        with suppress(OSError):
            self._file.close()
        if not self._committed:
            self._temporary.unlink(missing_ok=True)


class _GroupSync:
    """Syncs a folder; of threads that ask at once, one does it for all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._turn = threading.Condition()
        self._asked = 0
        self._done = 0
        self._running = False

    def __call__(self) -> None:
        with self._turn:
            self._asked += 1
            mine = self._asked
            while self._running and self._done < mine:
                self._turn.wait()
            if self._done >= mine:
                return
            self._running = True
            covered = self._asked
        try:
            sync_folder(self._folder)
        except BaseException:
            with self._turn:
                self._running = False
                self._turn.notify_all()
            raise
        with self._turn:
            self._running = False
            self._done = covered
            self._turn.notify_all()


def _time(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC)


def _recorded(records: bytes, digest: bytes) -> bool:
    at = records.find(digest)
    while at >= 0 and at % RECORD:
        at = records.find(digest, at + 1)
    return at >= 0


def _remove_if_left(path: Path) -> None:
    with suppress(FileNotFoundError):
        if time.time() - path.stat().st_mtime < STALE_SECONDS:
            return
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            path.unlink(missing_ok=True)
