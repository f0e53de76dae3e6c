"""The ledger's file, open for appending: one fsync for all that wait, and a Merkle tree over it.

Appends of several threads go to the disk together (group commit): whoever gets the file first
writes all that wait in one piece and syncs it once. Nobody's append returns before that.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from contract import merkle
from contract.errors import LedgerError, NotFound, StorageError
from foundation.files import file_mode, private_folder, storage_errors, sync_folder
from node.gate.ledger.entries import (
    FILE,
    GENESIS,
    MAX_LINE_BYTES,
    READ_BYTES,
    Entry,
    Head,
    finish_line,
    format_content,
    parse_line,
)
from node.gate.ledger.heads import kept_positions
from node.gate.ledger.index import DAMAGED, SEGMENT, Checkpoint, Index
from node.gate.ledger.payloads import Payloads

R = TypeVar("R")

MAX_BATCH = 1024
"""Entries that are written in one piece at most."""
PURGED = "payloads-purged"
PURGED_AT_ONCE = 8192
"""Digests in one entry about a purge."""
QUIET = frozenset({"ledger-head", "countersignature"})
"""Notices that are no news: a head that tells of nothing else isn't worth a countersignature."""


@dataclass(frozen=True)
class Standing:
    """How a ledger stands: entries, Merkle root, the last entry's hash.

    ``news`` is the number of entries up to the last that isn't about heads.
    """

    size: int
    root: bytes
    hash: str
    news: int


def _latch() -> threading.Lock:
    latch = threading.Lock()
    latch.acquire()
    return latch


@dataclass(eq=False)
class _Waiting:
    """An entry that wants to be written."""

    content: bytes
    quiet: bool
    sync: bool
    head: Head | None = None
    error: Exception | None = None
    latch: threading.Lock = field(default_factory=_latch)
    """What its thread waits at: until it is written, or is to write for others."""


@dataclass
class _State:
    """The ledger up to an entry: what the next one goes on from."""

    sequence: int
    hash: str
    end: int
    tree: merkle.Tree
    segment: Any
    """SHA-256 of the bytes since the last checkpoint, as far as they are."""
    news: int = 0

    def copy(self) -> _State:
        return _State(
            self.sequence,
            self.hash,
            self.end,
            self.tree.copy(),
            self.segment.copy(),
            self.news,
        )


class _Batch:
    """Lines that go on from a state; ``state`` is what they lead to."""

    def __init__(self, state: _State) -> None:
        self.first = state.sequence + 1
        self.state = state
        self.hashes: list[bytes] = []
        self.ends: list[int] = []
        self.checkpoints: list[tuple[Checkpoint, bytes]] = []

    def add(self, line: bytes, hash_: str, quiet: bool) -> None:
        """Go on by a line without its newline."""
        state = self.state
        state.sequence += 1
        state.hash = hash_
        state.end += len(line) + 1
        state.segment.update(line)
        state.segment.update(b"\n")
        self.hashes += state.tree.append(merkle.leaf_hash(line))
        self.ends.append(state.end)
        if not quiet:
            state.news = state.sequence + 1
        if (state.sequence + 1) % SEGMENT == 0:
            root = state.tree.root()
            at = Checkpoint(state.sequence + 1, state.end, bytes.fromhex(hash_), root)
            self.checkpoints.append((at, state.segment.digest()))
            state.segment = hashlib.sha256()


class Ledger:
    """The ledger of a node, open for appending by many threads; processes take turns."""

    def __init__(self, folder: Path) -> None:
        """Open (or begin) the ledger in ``folder``; ``LedgerError`` when it was changed or cut.

        What was checked at a checkpoint is compared by its bytes; later entries are read one by
        one. The ledger must hold every head that was signed for it and is kept beside it.
        """
        self._folder = private_folder(folder)
        self._path = folder / FILE
        self._payloads = Payloads(folder / "payloads")
        self._queue: deque[_Waiting] = deque()
        self._mutex = threading.Lock()
        """Guards the queue, and whether somebody leads."""
        self._led = False
        self._commit = threading.Lock()
        """Held by whoever reads on or writes."""
        self._in_doubt = False
        self._unsynced = True
        """Whether the file holds an entry that this process doesn't know to be durable."""
        self._state = _State(-1, GENESIS, 0, merkle.Tree(), hashlib.sha256())
        with storage_errors(self._path):
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._file = os.open(self._path, flags, file_mode(folder))
            sync_folder(folder)
        self._index = Index(folder / "index")
        try:
            with self._commit:
                self._locked(self._begin)
                self._sync()
            self._check_kept_heads()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the files."""
        os.close(self._file)
        self._index.close()

    @property
    def folder(self) -> Path:
        """Where the ledger is."""
        return self._folder

    # ---- appending -----------------------------------------------------------------------------

    def append(
        self, kind: str, body: Mapping[str, Any], time: datetime, *, sync: bool = True
    ) -> Head:
        """Write one entry durably and return its head.

        It is written in one piece with the entries of other threads that wait; either all of them
        are on the disk or none is. Without ``sync`` it outlives the process's end at any moment,
        but a power cut only once a later entry is synced, or ``sync`` was called.
        """
        quiet = kind == "notice" and body.get("what") in QUIET
        waiting = _Waiting(format_content(time, kind, body), quiet, sync)
        with self._mutex:
            self._queue.append(waiting)
            leads, self._led = not self._led, True
        if not leads:
            waiting.latch.acquire()
        if waiting.head is None and waiting.error is None:
            self._lead()
        if waiting.error is not None:
            raise waiting.error
        assert waiting.head is not None
        return waiting.head

    def sync(self) -> None:
        """Make every entry durable that was appended before."""
        with self._commit:
            self._sync()

    def _sync(self) -> None:
        """Sync what is written and isn't. If that fails, it can't be taken back any more."""
        if not self._unsynced:
            return
        try:
            with storage_errors(self._path):
                os.fsync(self._file)
        except BaseException:
            self._in_doubt = True
            raise
        self._unsynced = False

    def _lead(self) -> None:
        """Write what waits, let its threads go, and let one that came meanwhile lead next.

        Whoever calls this waits itself, so that there is always somebody to write for.
        """
        batch: list[_Waiting] = []
        try:
            with self._commit:
                with self._mutex:
                    batch = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_BATCH))]
                self._write(batch)
        finally:
            for waiting in batch:
                waiting.latch.release()
            with self._mutex:
                if self._queue:
                    self._queue[0].latch.release()
                else:
                    self._led = False

    def _write(self, batch: list[_Waiting]) -> None:
        try:
            self._locked(lambda: self._append(batch))
        except Exception as error:
            for waiting in batch:
                waiting.head, waiting.error = None, error
        except BaseException:
            for waiting in batch:
                waiting.head = None
                waiting.error = LedgerError("Writing the ledger was interrupted.")
            raise

    def _append(self, entries: list[_Waiting]) -> None:
        self._catch_up()
        batch = _Batch(self._state.copy())
        data = bytearray()
        heads = []
        for waiting in entries:
            sequence, previous = batch.state.sequence + 1, batch.state.hash
            line = finish_line(sequence, waiting.content, previous)
            batch.add(line, hashlib.sha256(line).hexdigest(), waiting.quiet)
            data += line
            data += b"\n"
            heads.append(Head(sequence, batch.state.hash))
        # What is derived goes first: a disk that is full then stops the entry, not only its index.
        self._index.write(batch.first, batch.hashes, batch.ends)
        sync = any(waiting.sync for waiting in entries)
        with storage_errors(self._path):
            try:
                written = os.write(self._file, data)
                if written != len(data):
                    raise OSError(errno.ENOSPC, "short write")
            except BaseException:
                self._take_back()
                raise
            if sync:
                try:
                    os.fsync(self._file)
                except BaseException:
                    self._in_doubt = self._unsynced  # what was acted on may be lost
                    self._take_back()
                    raise
        self._state, self._unsynced = batch.state, not sync
        for waiting, head in zip(entries, heads, strict=True):
            waiting.head = head
        self._checkpoint(batch)

    def _take_back(self) -> None:
        """Cut what was half-written: it isn't acted on, so it must not stay."""
        try:
            os.ftruncate(self._file, self._state.end)
        except OSError:
            self._in_doubt = True

    def _checkpoint(self, batch: _Batch) -> None:
        if batch.checkpoints:
            self._sync()  # a checkpoint says that what is before it is there
        try:
            for at, digest in batch.checkpoints:
                self._index.add_checkpoint(at, digest)
        except (OSError, StorageError):
            # The entries are durable; the next start makes up for a checkpoint that is missing.
            return

    def _locked(self, action: Callable[[], R]) -> R:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            return action()
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    # ---- reading on ----------------------------------------------------------------------------

    def _begin(self) -> None:
        at = self._index.checked(self._file)
        tree = merkle.Tree.of(at.size, self._index.node)
        hash_ = at.hash.hex() if at.size else GENESIS
        self._state = _State(at.size - 1, hash_, at.end, tree, hashlib.sha256(), at.size)
        self._catch_up()

    def _catch_up(self) -> None:
        """Read what other processes appended; drop a half-written last line."""
        if self._in_doubt:
            raise LedgerError("The ledger's file is in doubt after an error; start again.")
        here = os.fstat(self._file)
        try:
            there = self._path.stat()
        except FileNotFoundError:
            there = None
        if there is None or (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
            raise LedgerError("The ledger's file was replaced while it was open.")
        if here.st_size < self._state.end:
            raise LedgerError("The ledger was cut while it was open.")
        if here.st_size == self._state.end:
            return
        with self._path.open("rb", buffering=READ_BYTES) as file:
            file.seek(self._state.end)
            while self._read_on(file):
                pass

    def _read_on(self, file: Any) -> bool:
        """Take up to a segment of lines in; say whether there may be more."""
        batch = _Batch(self._state.copy())
        for _ in range(SEGMENT):
            line = file.readline(MAX_LINE_BYTES + 2)
            if not line.endswith(b"\n"):
                if len(line) > MAX_LINE_BYTES:
                    raise LedgerError(f"The ledger's entry {batch.state.sequence + 1} is too long.")
                break
            state = batch.state
            entry = parse_line(line[:-1], state.sequence + 1, state.hash)
            batch.add(line[:-1], entry.hash, _is_quiet(entry))
        else:
            line = b""
            self._take(batch)
            return True
        self._take(batch)
        if line:
            os.ftruncate(self._file, self._state.end)
        return False

    def _take(self, batch: _Batch) -> None:
        self._index.write(batch.first, batch.hashes, batch.ends)
        self._state = batch.state
        self._checkpoint(batch)

    def _check_kept_heads(self) -> None:
        for at in kept_positions(self._folder / "heads"):
            if not self.holds_tree(at.tree_size, at.root):
                raise LedgerError(
                    f"The ledger doesn't go on from its own signed head of {at.tree_size} entries: "
                    "it was cut, changed or restored from a backup."
                )

    # ---- asking --------------------------------------------------------------------------------

    @property
    def head(self) -> Head:
        """The newest entry that this process knows of."""
        state = self._state
        return Head(state.sequence, state.hash)

    def standing(self) -> Standing:
        """Return how the ledger stands now, other processes' entries included. It is durable."""
        with self._commit:
            self._locked(self._catch_up)
            self._sync()
            state = self._state
            return Standing(state.sequence + 1, state.tree.root(), state.hash, state.news)

    def entry(self, sequence: int) -> Entry:
        """Return one entry; ``NotFound`` when there is none of this number."""
        if not 0 <= sequence <= self._state.sequence:
            raise NotFound(f"The ledger has no entry {sequence}.")
        line = self.line(sequence)
        previous = hashlib.sha256(self.line(sequence - 1)).hexdigest() if sequence else GENESIS
        return parse_line(line, sequence, previous)

    def line(self, sequence: int) -> bytes:
        """Return one entry's line, as its leaf in the tree has it."""
        begin, end = self._index.place(sequence)
        line = os.pread(self._file, end - begin, begin)[:-1]
        if merkle.leaf_hash(line) != self._index.node(0, sequence):
            raise LedgerError(f"The ledger's entry {sequence} was changed.")
        return line

    def entries(self) -> Iterator[Entry]:
        """Yield the entries that this process knows of, oldest first."""
        last, previous = self._state.sequence, GENESIS
        for sequence in range(last + 1):
            entry = parse_line(self.line(sequence), sequence, previous)
            previous = entry.hash
            yield entry

    def holds(self, sequence: int, hash_: str) -> bool:
        """Say whether the ledger holds this head of an earlier time."""
        if sequence < 0:
            return True
        if sequence > self._state.sequence:
            return False
        return hashlib.sha256(self.line(sequence)).hexdigest() == hash_

    def holds_tree(self, size: int, root: bytes) -> bool:
        """Say whether the ledger goes on from a tree of this size and root."""
        return 0 <= size <= self._state.sequence + 1 and self.root(size) == root

    def root(self, size: int) -> bytes:
        """Return the Merkle root of the first ``size`` entries."""
        return merkle.root(size, self._index.node)

    def inclusion_proof(self, sequence: int, size: int) -> list[bytes]:
        """Return the proof that an entry is in the tree of the first ``size`` entries."""
        path = merkle.inclusion_proof(sequence, size, self._index.node)
        leaf = merkle.leaf_hash(self.line(sequence))
        if not merkle.inclusion_holds(leaf, sequence, size, path, self.root(size)):
            raise LedgerError(DAMAGED)
        return path

    def consistency_proof(self, first: int, second: int) -> list[bytes]:
        """Return the proof that the tree of ``second`` entries begins with that of ``first``."""
        path = merkle.consistency_proof(first, second, self._index.node)
        roots = self.root(first), self.root(second)
        if not merkle.consistency_holds(first, roots[0], second, roots[1], path):
            raise LedgerError(DAMAGED)
        return path

    # ---- payloads ------------------------------------------------------------------------------

    def keep_payload(self, data: bytes) -> str:
        """Keep a payload's bytes under their SHA-256, so that it can be replayed; return it."""
        return self._payloads.keep(data)

    def payload(self, digest: str) -> bytes:
        """Return a kept payload; ``LedgerError`` when its bytes changed."""
        return self._payloads.get(digest)

    def purgeable(self, older_than: datetime) -> list[str]:
        """Return the kept payloads that left last before ``older_than``."""
        return self._payloads.older_than(older_than)

    def purge(self, older_than: datetime, now: datetime) -> int:
        """Delete the payloads that left last before ``older_than``; return how many.

        The ledger says so first, so that their absence can be told from a removal.
        """
        digests = self.purgeable(older_than)
        for start in range(0, len(digests), PURGED_AT_ONCE):
            some = digests[start : start + PURGED_AT_ONCE]
            self.append(PURGED, {"older_than": older_than.isoformat(), "payloads": some}, now)
            self._payloads.remove(some, older_than)
        return len(digests)


def _is_quiet(entry: Entry) -> bool:
    return entry.kind == "notice" and entry.body.get("what") in QUIET
