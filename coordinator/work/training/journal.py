"""The journal of a run: every answer that a ServerApp was given, so that it can be given again.

A ServerApp is restarted from its beginning, with the same seeds. It then asks the same questions
in the same order, and as long as the journal lasts it gets the same answers; every message that it
sends must be the one that it sent then. So it arrives, bit for bit, where it was.

The file: one JSON object a line, appended, never changed; the first names the job. A line that a
crash cut short is dropped. ``sync`` makes what was written durable: before a message goes out,
since nothing else lets an answer be seen from outside.

    {"journal": 1, "job": "3b1f..."}
    {"nodes": ["a", "b"]}
    {"task": "000001", "site": "a", "digest": "9c2e..."}
    {"answers": {"000001": "", "000002": "timeout"}}
    {"round": 1, "text": "train"}

``answers`` holds a code for each task: empty when its reply is in ``replies/TASK``.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

from contract.errors import DocumentError
from foundation.files import SECRET_MODE, read_bounded, storage_errors, sync_folder

MAX_JOURNAL_BYTES = 2**30
Entry = dict[str, Any]


class Diverged(DocumentError):
    """A ServerApp did something else than it did before a restart."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"The ServerApp can't be resumed: it is not deterministic ({what} differs from the "
            "run before the restart)."
        )


class Journal:
    """One run's journal. ``recall`` what was answered while there is something, then ``append``."""

    def __init__(self, path: Path, job: str) -> None:
        head = {"journal": 1, "job": job}
        self._path = path
        self.entries: list[Entry] = []
        self._next = 0
        whole = 0
        if path.exists():
            data = read_bounded(path, MAX_JOURNAL_BYTES)
            whole = data.rfind(b"\n") + 1
            self.entries = _parse(data[:whole])
            if self.entries and self.entries.pop(0) != head:
                raise DocumentError(f"{path} is the journal of another job.")
        with storage_errors(path):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._file = os.fdopen(os.open(path, flags, SECRET_MODE), "r+b", 0)
            self._file.truncate(whole)
            self._file.seek(whole)
        if not whole:
            self._write(head)
            self.sync()
            sync_folder(path.parent)

    @property
    def replaying(self) -> bool:
        """Whether there are answers that were not yet given again."""
        return self._next < len(self.entries)

    def rewind(self) -> None:
        """Begin again: the ServerApp was restarted."""
        self._next = 0

    def ahead(self) -> Entry:
        """Return the entry that ``recall`` would, while there is one."""
        return self.entries[self._next]

    def recall(self, kind: str) -> Entry | None:
        """Return the next entry, which must be of this kind; None when the journal is at its end.

        Raises ``Diverged`` when another question came next at that time.
        """
        if not self.replaying:
            return None
        entry = self.entries[self._next]
        if kind not in entry:
            raise Diverged("the order of its questions")
        self._next += 1
        return entry

    def append(self, entry: Entry) -> None:
        """Write a new answer; it is durable after the next ``sync``."""
        self._write(entry)
        self.entries.append(entry)
        self._next = len(self.entries)

    def sync(self) -> None:
        """Return once everything that was written survives a power cut."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, entry: Entry) -> None:
        with storage_errors(self._path):
            data = json.dumps(entry).encode() + b"\n"
            if self._file.write(data) != len(data):
                raise OSError(errno.ENOSPC, "short write")


def _parse(data: bytes) -> list[Entry]:
    entries: list[Entry] = []
    for line in data.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            raise DocumentError("A run's journal is damaged; the run can't be resumed.")
        entries.append(entry)
    return entries
