"""What a run has done so far, so that one that was killed goes on.

``OUT/.run.jsonl`` has a line for each finished file: its keyed digest of place, size and time of
change, and its row. It exists only while a run is under way, and names no source. What lies in OUT
without a line was unfinished and is deleted before going on.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from contract.errors import DataError, UsageError
from node.deid.export.forks import Row
from node.deid.export.tree import Tree
from node.deid.pseudonyms import Pseudonyms

NAME = ".run.jsonl"


class Journal:
    """The journal of one run. ``close`` before ``remove``."""

    def __init__(self, target: Path, tree: Tree, pseudonyms: Pseudonyms, settings: str) -> None:
        self._path = target / NAME
        self._tree = tree
        self._pseudonyms = pseudonyms
        self._first = pseudonyms.source(b"run", settings.encode())
        self._file: IO[str] | None = None

    def start(self, done: list[Row]) -> None:
        """Begin anew, with what an earlier run has done."""
        first = json.dumps({"run": self._first}) + "\n"
        self._replace(itertools.chain([first], map(self._line, done)))

    def _replace(self, lines: Iterable[str]) -> None:
        unfinished = self._path.with_name(NAME + ".new")
        with unfinished.open("w") as file:
            file.writelines(lines)
        unfinished.chmod(0o600)
        unfinished.replace(self._path)
        self._file = self._path.open("a")

    def add(self, row: Row) -> None:
        """Note a finished file; it survives the end of this process, not a power cut."""
        assert self._file is not None
        self._file.write(self._line(row))
        self._file.flush()

    def forget(self, files: set[str]) -> None:
        """Forget files of these names: who goes on after a kill makes them anew."""
        assert self._file is not None
        self._file.close()
        first, *lines = self._path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if json.loads(line).get("file") not in files]
        self._replace([first, *kept])

    def remove(self) -> None:
        """End the run."""
        if self._file is not None:
            self._file.close()
        self._path.unlink(missing_ok=True)

    def done(self, target: Path) -> list[Row]:
        """Return the rows of files that an earlier run finished and that haven't changed since.

        ``UsageError`` when it had another key, profile or lists, or when there was none.
        """
        rows = list(self._rows())
        by_source = {row.pop("source"): row for row in rows}
        found = []
        for position in range(1, len(self._tree) + 1):
            row = by_source.get(self._source(position))
            if row is None or row["outcome"] == "worker-died":
                continue
            if "file" in row:
                try:
                    size = (target / row["file"]).stat().st_size
                except OSError:
                    continue
                if size != row.get("bytes", size):
                    continue
            found.append(row | {"position": position})
        return found

    def _rows(self) -> Iterator[Row]:
        try:
            lines = self._path.read_text().splitlines()
        except FileNotFoundError:
            raise UsageError("OUT has no unfinished run to resume; name a new folder.") from None
        if not lines or json.loads(lines[0]).get("run") != self._first:
            raise UsageError(
                "The unfinished run had another key, profile or lists; give it the same again."
            )
        for number, line in enumerate(lines[1:], 2):
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                if number != len(lines):
                    raise DataError("The journal of the unfinished run is damaged.") from None

    def _line(self, row: Row) -> str:
        return json.dumps(row | {"source": self._source(row["position"])}) + "\n"

    def _source(self, position: int) -> str:
        try:
            status = os.lstat(self._tree.path(position))
            facts = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:
            facts = ""
        name = os.fsencode(self._tree.name(position))
        return self._pseudonyms.source(b"row", name, facts.encode())
