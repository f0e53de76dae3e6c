"""A folder that is watched: its files are taken in when nobody writes to them any more.

The folder is looked at again and again, because a network share tells nobody of a change that
another machine made. A file is ready when its inode, size and times have stayed the same for a
while and no process of this machine that we may look at has it open for writing; so a file that is
renamed into place is ready after one such while, and one that is being copied is not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Literal

from node.intake.items import Item
from node.intake.journal import ASK, Identity, identity
from node.intake.manifest import Manifest
from node.intake.register import IntakeReport, Settled
from node.intake.run import Intake, files_of
from node.intake.walk import walk

Then = Literal["keep", "delete"]

MOST_WAITING = 100_000
"""Files that are waited for at once; others are seen when these are done."""
_KEPT = frozenset({"accepted", "duplicate", "draft", "dropped"})
_State = tuple[Identity | None, bytes]
"""A file as it was, and its line of the manifest."""
_WRITES = os.O_WRONLY | os.O_RDWR


class Settling:
    """Says which files have stayed the same for long enough. Pure: times come in."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._seen: dict[str, tuple[Identity, float]] = {}

    def ready(self, items: Iterable[Item], now: float) -> Iterator[Item]:
        """Yield those of all files there that are ready; ``now`` is in seconds, monotonic."""
        before, self._seen = self._seen, {}
        for item in items:
            if item.found is None:
                continue
            last = before.get(item.place)
            if last is None or last[0] != item.found:
                last = item.found, now
            if len(self._seen) < MOST_WAITING:
                self._seen[item.place] = last
            if now - last[1] >= self._seconds:
                yield item

    def forget(self, place: str) -> None:
        """Wait for a file anew."""
        self._seen.pop(place, None)


class Watch:
    """Takes in what is ready in a folder, look by look. A context.

    ``intake`` makes the intake, given whom to tell of each file that is settled and whether to
    keep a journal. With ``then`` "delete", a file goes when the vault has it; what is in quarantine
    stays in the folder.
    """

    def __init__(
        self,
        folder: Path,
        intake: Callable[[Callable[[Settled], None], bool], Intake],
        *,
        settle_seconds: float,
        then: Then = "keep",
        manifest: Callable[[], Manifest] = lambda: Manifest({}),
    ) -> None:
        self._folder = folder
        self._then = then
        self._manifest = manifest
        self._settling = Settling(settle_seconds)
        self._waiting = False
        self._done: dict[str, _State] = {}
        """What is done and not in the journal."""
        # Who deletes has to know what became of a file; the journal says only that it is done.
        self._intake = intake(self._settled, then == "keep")

    @property
    def report(self) -> IntakeReport:
        """What became of the files so far."""
        return self._intake.report

    def __enter__(self) -> Watch:
        self._intake.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._intake.__exit__(*error)  # type: ignore[arg-type]

    @property
    def waiting(self) -> bool:
        """Whether the last look saw files that are not done."""
        return self._waiting

    def look(self, now: float) -> None:
        """Look at the folder once, and take in what is ready; ``now`` is in seconds, monotonic."""
        before, self._done = self._done, {}
        self._waiting = False
        ready = self._settling.ready(self._new(before), now)
        while group := list(islice(ready, ASK)):
            self._intake.take(self._intake.informed(_not_busy(group)))
        self._intake.finish()

    def _new(self, before: Mapping[str, _State]) -> Iterator[Item]:
        """Yield what is there and not done."""
        manifest = self._manifest()
        found = walk([self._folder])
        while group := list(islice(found, ASK)):
            for item in self._intake.not_done(files_of(group, manifest), manifest):
                if before.get(item.place) == _state(item):
                    self._done[item.place] = before[item.place]
                else:
                    self._waiting = True
                    yield item

    def _settled(self, settled: Settled) -> None:
        item = settled.item
        if not settled.steady or item.found is None:
            self._settling.forget(item.place)
            return
        if self._then == "delete" and settled.outcome in _KEPT:
            with suppress(OSError):
                path = Path(item.place)
                if identity(path.lstat()) == item.found:
                    path.unlink()
                    return
        self._done[item.place] = _state(item)


def _state(item: Item) -> _State:
    return item.found, b"" if item.listed is None else item.listed.digest()


def _not_busy(items: Sequence[Item]) -> list[Item]:
    files: dict[str, tuple[int, int]] = {}
    for item in items:
        with suppress(OSError):
            status = Path(item.place).lstat()
            files[item.place] = status.st_dev, status.st_ino
    busy = open_for_writing(set(files.values()))
    return [item for item in items if item.place in files and files[item.place] not in busy]


def open_for_writing(files: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """Return those of the files (device, inode) that a process has open for writing.

    What other users' processes have open can be seen by root only.
    """
    busy: set[tuple[int, int]] = set()
    for process in Path("/proc").iterdir() if files else ():
        if not process.name.isdigit():
            continue
        with suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with suppress(OSError, ValueError):
                    status = descriptor.stat()
                    file = status.st_dev, status.st_ino
                    if file in files and _writes(process / "fdinfo" / descriptor.name):
                        busy.add(file)
    return busy


def _writes(info: Path) -> bool:
    for line in info.read_text().splitlines():
        if line.startswith("flags:"):
            return bool(int(line.split()[1], 8) & _WRITES)
    return False
