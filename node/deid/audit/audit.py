"""A search of everything written, file by file, for what identifies its patients."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node.deid.audit.identifiers import Identifiers
from node.deid.audit.search import Search
from node.deid.export.forks import Row, work_through
from node.deid.export.source import Unreadable, opened
from node.deid.export.tree import Tree, scan
from node.deid.profile import Options
from node.deid.pseudonyms import Pseudonyms
from node.deid.reading import Unsafe
from node.home import NodeHome

Observe = Callable[[str, int, int], None]


@dataclass
class Audit:
    """What was found."""

    searched: int = 0
    leaks: list[Row] = field(default_factory=list)
    """file (below what was searched), place, category."""
    unsearched: int = 0
    """Files that could not be read; an audit with one of them proves nothing of it."""

    def report(self) -> dict[str, Any]:
        """Return the result for JSON; it holds no value that was found."""
        return {
            "searched": self.searched,
            "unsearched": self.unsearched,
            "leaks_by_category": dict(sorted(Counter(r["category"] for r in self.leaks).items())),
            "leaks": self.leaks,
        }


def add_tree(
    found: Identifiers, source: Path, options: Options, pseudonyms: Pseudonyms | None
) -> None:
    """Add the identifiers of the originals below ``source``."""
    tree = scan(source)
    for position in range(1, len(tree) + 1):
        if position in tree.others:
            continue
        try:
            with opened(tree.path(position)) as file:
                found.add_original(memoryview(file.data), options, pseudonyms)
        except (Unreadable, Unsafe):
            continue


def add_node(
    found: Identifiers, home: NodeHome, options: Options, pseudonyms: Pseudonyms | None
) -> None:
    """Add the identifiers of the originals in a node's landing folder and quarantine."""
    for data in _held(home):
        found.add_original(data, options, pseudonyms)


def _held(home: NodeHome) -> Iterator[bytes]:
    from node.intake.landing import Landing
    from node.intake.quarantine import Quarantine

    if home.quarantine.is_dir() and home.quarantine_key.exists():
        quarantine = Quarantine(home)
        for held in quarantine.held():
            yield b"".join(quarantine.open(held.source_digest))
    if home.landing.is_dir() and home.landing_key.exists():
        landing = Landing(home)
        for entry in landing.entries():
            yield landing.read(entry)


def audit(
    places: list[Path],
    identifiers: Identifiers,
    *,
    pixels: bool = False,
    workers: int = 0,
    observe: Observe = lambda step, done, count: None,
) -> Audit:
    """Search every file below ``places``."""
    result = Audit()
    search = Search(identifiers, pixels)
    for place in places:
        tree = scan(place)
        count = len(tree)
        using = workers or min(len(os.sched_getaffinity(0)), 1 + count // 16)
        one = _One(tree, search)
        rows = work_through(range(1, count + 1), one, workers=using, died=_died)
        for done, row in enumerate(rows, 1):
            result.leaks += row.get("leaks", [])
            result.unsearched += row["unsearched"]
            result.searched += 1 - row["unsearched"]
            observe("searched", done, count)
    result.leaks.sort(key=lambda row: (row["file"], row["place"], row["category"]))
    return result


@dataclass(frozen=True)
class _One:
    tree: Tree
    search: Search

    def __call__(self, position: int, worker: str) -> Row:
        path = self.tree.path(position)
        name = self.tree.name(position)
        if position in self.tree.others:
            return {"unsearched": 1}
        try:
            with opened(path) as source:
                leaks = self.search.file(memoryview(source.data), name)
        except (Unreadable, Unsafe, MemoryError):
            return {"unsearched": 1}
        rows = [{"file": name, "place": leak.place, "category": leak.category} for leak in leaks]
        return {"unsearched": 0, "leaks": rows}


def _died(position: int) -> Row:
    return {"unsearched": 1}
