"""De-identified copies of folder trees: two passes over the files, one outcome for each.

The first pass finds what is known of each patient, the second writes. What two files contend for is
decided by their position, so that the result is the same with any number of workers.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract.errors import AlreadyExists, StorageError, UsageError
from foundation.files import private_folder
from node.deid.engine import Deidentifier
from node.deid.export.forks import Row, work_through
from node.deid.export.journal import NAME, Journal
from node.deid.export.output import PART, remove_parts
from node.deid.export.patients import Patients, gather_patients
from node.deid.export.settling import contested, settle
from node.deid.export.tree import Tree, scan
from node.deid.export.work import CONTESTED, DUPLICATE, WRITTEN, Work, died

REPORT = "report.json"
FEW = 64
"""Up to so many files one worker is quicker than several, unless pixels are read."""
Observe = Callable[[str, int, int], None]
"""Sees the pass (read, written), the files it has done, and of how many."""


@dataclass
class Export:
    """What became of a tree."""

    tree: Tree
    rows: list[Row] = field(default_factory=list)
    """By position: position, outcome, and of what was written its file below the target."""
    actions: Counter[str] = field(default_factory=Counter)

    @property
    def outcomes(self) -> dict[str, int]:
        """Files by outcome."""
        return dict(sorted(Counter(row["outcome"] for row in self.rows).items()))

    @property
    def left_out(self) -> int:
        """Files of which nothing was written, and which are no copies of others."""
        return sum(row["outcome"] not in (WRITTEN, DUPLICATE, "part-of-slide") for row in self.rows)

    def report(self, deidentifier: Deidentifier) -> dict[str, Any]:
        """Return the report, for JSON. It names no source."""
        return {
            "profile": deidentifier.profile.settings.model_dump(mode="json"),
            "outcomes": self.outcomes,
            "actions": dict(sorted(self.actions.items())),
            "files": self.rows,
        }


def export(
    source: Path,
    target: Path,
    deidentifier: Deidentifier,
    *,
    workers: int = 0,
    resume: bool = False,
    dry_run: bool = False,
    observe: Observe = lambda step, done, count: None,
) -> Export:
    """Write a copy of the tree below ``source`` to ``target``, and a report of it.

    ``workers`` are processes; 0 takes as many as there are cores, and one for few files.
    ``AlreadyExists`` unless ``target`` is new or empty, or holds an unfinished run that ``resume``
    goes on with.
    """
    _check(source, target, resume)
    tree = scan(source)
    if not workers:
        reads = deidentifier.profile.settings.options.pixels == "ocr"
        few = 1 if reads else FEW
        workers = 1 if len(tree) <= few else len(os.sched_getaffinity(0))
    result = Export(tree)
    journal = None if dry_run else _journal(target, tree, deidentifier)
    if journal is not None:
        finished = journal.done(target) if resume else []
        private_folder(target)
        if resume:
            _clear(target, finished)
        journal.start(finished)
        for row in finished:
            result.actions.update(row.pop("actions", {}))
        result.rows = finished
    if workers > 1:
        deidentifier.prepare()
    patients = gather_patients(
        tree,
        deidentifier.profile.settings.options,
        workers=workers,
        observe=lambda done: observe("read", done, len(tree)),
    )
    _second_pass(result, patients, deidentifier, target, journal, workers, observe)
    if journal is not None:
        _settle(result, target, journal)
        remove_parts(target)
        _directories(result, patients, deidentifier, target)
        _order(result)
        path = target / REPORT
        path.touch(mode=0o600)
        path.write_text(json.dumps(result.report(deidentifier), indent=1))
        journal.remove()
    else:
        result.rows += [{"position": at, "outcome": WRITTEN} for at in patients.directories]
        _order(result)
    return result


def _journal(target: Path, tree: Tree, deidentifier: Deidentifier) -> Journal:
    lists = deidentifier.lists
    known = [sorted(one) for one in (lists.persons, lists.numbers, lists.phrases)]
    settings = repr((deidentifier.profile.settings, known, tree.root))
    return Journal(target, tree, deidentifier.pseudonyms, settings)


def _second_pass(
    result: Export,
    patients: Patients,
    deidentifier: Deidentifier,
    target: Path,
    journal: Journal | None,
    workers: int,
    observe: Observe,
) -> None:
    tree = result.tree
    work = Work(tree, patients, deidentifier, None if journal is None else target)
    finished = {row["position"] for row in result.rows} | set(patients.directories)
    todo = [position for position in range(1, len(tree) + 1) if position not in finished]

    def one(index: int, worker: str) -> Row:
        return work(todo[index], worker)

    def folder(index: int) -> str:
        return tree.path(todo[index]).rpartition("/")[0]

    # Reading pixels takes long and gains nothing from a series being done by one process.
    reads = deidentifier.profile.settings.options.pixels == "ocr"
    rows = work_through(
        range(len(todo)),
        one,
        workers=workers,
        died=lambda index: died(todo[index]),
        together=None if reads else folder,
    )
    for row in rows:
        result.actions.update(row.get("actions", {}))
        result.rows.append(row)
        if journal is not None and row["outcome"] != CONTESTED:
            journal.add(row)
        row.pop("actions", None)
        observe("written", len(result.rows), len(tree))


def _check(source: Path, target: Path, resume: bool) -> None:
    if not resume and target.exists() and (not target.is_dir() or any(target.iterdir())):
        hint = " Go on with it by --resume." if (target / NAME).exists() else ""
        raise AlreadyExists(f"{target} is not an empty folder; nothing in it is overwritten.{hint}")
    place, given = target.resolve(), source.resolve()
    if given == place or given in place.parents:
        raise UsageError("OUT lies within IN; name another folder.")


def _clear(target: Path, finished: list[Row]) -> None:
    """Delete what an interrupted run has left without a note of it."""
    noted = {str(target / row["file"]) for row in finished if "file" in row}
    for path in target.rglob("*"):
        owners = {str(path), str(path.parent) + ".mrxs"}
        if path.is_file() and not owners & noted and path.name != NAME:
            path.unlink()


def _settle(result: Export, target: Path, journal: Journal) -> None:
    names = contested(result.rows)
    if names:
        journal.forget(names)
    settle(result.rows, target)


def _directories(
    result: Export, patients: Patients, deidentifier: Deidentifier, target: Path
) -> None:
    """Write one DICOMDIR of what the directories of the tree refer to."""
    if not patients.directories:
        return
    from node.deid.dicomdir import NAME as DIRECTORY
    from node.deid.dicomdir import write_directory

    by_path = {
        result.tree.path(row["position"]): row["file"] for row in result.rows if "file" in row
    }
    paths = [Path(result.tree.path(position)) for position in patients.directories]
    outcomes = write_directory(paths, by_path, target, deidentifier)
    for position, outcome in zip(patients.directories, outcomes, strict=True):
        row: Row = {"position": position, "outcome": outcome}
        result.rows.append(row | ({"file": DIRECTORY} if outcome == WRITTEN else {}))


def _order(result: Export) -> None:
    result.rows.sort(key=lambda row: row["position"])
    for row in result.rows:
        row.pop("bytes", None)
        row.pop("part", None)
    if len(result.rows) != len(result.tree):
        raise StorageError("Not every file has an outcome; this is a fault of Wardgate's.")


__all__ = ["PART", "Export", "export"]
