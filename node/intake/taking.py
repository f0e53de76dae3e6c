"""One file taken in: read, made safe and written, or put in quarantine.

This runs in the workers. It writes nothing to the catalogue: it returns a small row.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from contract.errors import ConfigurationError, DataError, StorageError
from node.deid.elements import Buffer
from node.deid.engine import Deidentifier
from node.deid.profile import Profile, ProfileSettings
from node.deid.reading import Unsafe
from node.home import NodeHome
from node.intake.items import Item, Setup, Taken
from node.intake.journal import identity
from node.intake.landing import Landing, LandingEntry
from node.intake.looking import Looked, Looker
from node.intake.making import Given, Maker
from node.intake.quarantine import Quarantine
from node.intake.secret import node_pseudonyms
from node.intake.walk import open_file
from node.intake.whole import further_files, further_pieces

KEY_CHECK = b"key check"
MAX_FILE_BYTES = 1 << 40
MAPPED_BYTES = 64 * 2**20
"""Larger files are mapped into memory, not read."""
_CHUNK = 1 << 20


@dataclass
class _Content:
    data: Buffer
    path: Path | None
    further: tuple[Path, ...] = ()
    """Of a MIRAX slide."""
    size_bytes: int = 0
    descriptor: int | None = None
    """The open file that ``data`` is mapped from."""

    def pieces(self) -> Iterator[bytes]:
        """Yield all bytes."""
        if self.descriptor is None:
            yield bytes(self.data)
        else:
            # Read, not mapped: what is mapped counts as this process's memory.
            for start in range(0, len(self.data), _CHUNK):
                yield os.pread(self.descriptor, _CHUNK, start)
        yield from further_pieces(self.further)


class Taker:
    """Takes files in, one after the other."""

    def __init__(self, setup: Setup, deidentifier: Deidentifier) -> None:
        self._pseudonyms = deidentifier.pseudonyms
        self._maker = Maker(setup, deidentifier)
        options = deidentifier.profile.settings.options
        self._looker = Looker(options, self._pseudonyms, self._beginning)
        self._home = NodeHome(setup.home)
        self._quarantine = None if setup.staging is None else Quarantine(self._home)
        self._landing: Landing | None = None

    def take(self, item: Item, now: datetime) -> Taken:
        """Take one file in. Whatever is wrong with it, only disk and configuration raise."""
        try:
            with self._opened(item) as content:
                source = self._pseudonyms.source_of(content.pieces())
                try:
                    taken = self._made(content, item, source, now)
                except Unsafe as unsafe:
                    taken = self._quarantined(content, source, unsafe.reason, self._owner(item))
                return _counted(taken, content, item)
        except OSError:
            return self._unreadable(item)

    def look(self, items: Sequence[Item]) -> Looked:
        """Return what files say of their patients."""
        return self._looker.look(items)

    def quarantine(self, item: Item, reason: str) -> Taken:
        """Put a file in quarantine without a look at what is in it."""
        try:
            with self._opened(item) as content:
                source = self._pseudonyms.source_of(content.pieces())
                taken = self._quarantined(content, source, reason, self._owner(item))
                return _counted(taken, content, item)
        except OSError:
            return self._unreadable(item)

    def _unreadable(self, item: Item) -> Taken:
        # It has no bytes to be known by; its place stands for it.
        place = item.place if item.entry is None else item.entry.name
        source = self._pseudonyms.source(b"path", os.fsencode(place))
        return Taken(source, "quarantined", "unreadable-file", steady=False)

    @contextmanager
    def _opened(self, item: Item) -> Iterator[_Content]:
        if item.entry is not None:
            data = self._landed(item.entry)
            yield _Content(data, None, size_bytes=len(data))
            return
        path = Path(item.place)
        descriptor = open_file(path)
        try:
            status = os.fstat(descriptor)
            if item.found is not None and status.st_ino != item.found[0]:
                # A folder on the way may be a link by now, out of the tree that was walked.
                raise OSError("another file by now")
            size = status.st_size
            further = further_files(path)
            total = size + sum(one.stat().st_size for one in further)
            if size <= MAPPED_BYTES:
                with os.fdopen(descriptor, "rb", closefd=False) as file:
                    yield _Content(file.read(), path, further, total)
                return
            mapped = mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
            try:
                yield _Content(memoryview(mapped), path, further, total, descriptor)
            finally:
                # What is still referred to, after an error, is unmapped when it isn't any more.
                with suppress(BufferError):
                    mapped.close()
        finally:
            os.close(descriptor)

    def _landed(self, entry: LandingEntry) -> bytes:
        try:
            return self._opened_landing().read(entry)
        except DataError as error:
            raise OSError(str(error)) from None

    def _beginning(self, entry: LandingEntry) -> bytes:
        return next(self._opened_landing().chunks(entry))

    def _opened_landing(self) -> Landing:
        if self._landing is None:
            self._landing = Landing(self._home)
        return self._landing

    def _made(self, content: _Content, item: Item, source: str, now: datetime) -> Taken:
        try:
            if content.size_bytes > MAX_FILE_BYTES:
                raise Unsafe("too-large")
            return self._maker.make(
                Given(
                    content.data,
                    content.descriptor,
                    content.path,
                    item.listed,
                    item.known,
                    source,
                    now,
                )
            )
        except (Unsafe, OSError, MemoryError, StorageError, ConfigurationError):
            raise
        except Exception:
            if os.environ.get("WARDGATE_TRACEBACK") == "1":
                raise
            # A fault of ours or of a library on one file: the file is kept, the rest goes on.
            raise Unsafe("internal-error") from None

    def _owner(self, item: Item) -> str:
        return "" if item.listed is None else self._pseudonyms.subject(item.listed.patient)

    def _quarantined(self, content: _Content, source: str, reason: str, subject: str) -> Taken:
        if self._quarantine is not None and not self._quarantine.path(source).exists():
            self._quarantine.put(source, content.pieces())
        return Taken(source, "quarantined", reason, subject)


_takers: dict[str, Taker] = {}
_given: list[Deidentifier] = []


def give(deidentifier: Deidentifier) -> None:
    """Let this worker use a de-identifier that its parent made; others make their own."""
    _given[:] = [deidentifier]


def take_items(setup: Setup, items: Sequence[Item], now: datetime) -> list[Taken]:
    """Take files in; what a worker of any kind calls."""
    taker = _taker(setup)
    return [taker.take(item, now) for item in items]


def look_at(setup: Setup, items: Sequence[Item]) -> Looked:
    """Look at files before any of them is taken in."""
    return _taker(setup).look(items)


def _taker(setup: Setup) -> Taker:
    taker = _takers.get(setup.token)
    if taker is None:
        _takers.clear()
        deidentifier = _given[0] if _given else _deidentifier(setup)
        taker = _takers[setup.token] = Taker(setup, deidentifier)
    return taker


def _deidentifier(setup: Setup) -> Deidentifier:
    home = NodeHome(setup.home)
    if not home.root.is_dir():
        raise ConfigurationError("A worker doesn't see the node's folder; mount it at one place.")
    pseudonyms = node_pseudonyms(home, setup.key, create=False)
    if pseudonyms.source(KEY_CHECK) != setup.key_check:
        raise ConfigurationError("A worker has another pseudonym key than the node.")
    if setup.staging is not None and not setup.staging.is_dir():
        raise ConfigurationError("A worker doesn't see the node's vault; mount it at one place.")
    profile = Profile(ProfileSettings.model_validate_json(setup.profile))
    return Deidentifier(profile, pseudonyms, setup.lists)


def _counted(taken: Taken, content: _Content, item: Item) -> Taken:
    return replace(taken, bytes_read=content.size_bytes, steady=_is_steady(item))


def _is_steady(item: Item) -> bool:
    if item.found is None:
        return True
    try:
        return identity(Path(item.place).lstat()) == item.found
    except OSError:
        return False
