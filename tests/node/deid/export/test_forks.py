"""Work in forked processes: every item has one row, and errors come through."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from contract.errors import StorageError
from node.deid.export.forks import Row, work_through


def died(item: int) -> Row:
    return {"item": item, "died": True}


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 333])
def test_each_item_is_done_once(workers: int, count: int) -> None:
    rows = work_through(
        range(10, 10 + count), lambda item, worker: {"item": item}, workers=workers, died=died
    )
    assert sorted(row["item"] for row in rows) == list(range(10, 10 + count))


@pytest.mark.parametrize("workers", [2, 3])
def test_neighbours_that_belong_together_are_done_by_one_process(workers: int) -> None:
    lengths = [1, 40, 3, 100, 100, 100, 7, 2, 60, 100, 100, 1, 1, 90]
    folders = [number for number, length in enumerate(lengths) for _ in range(length)]
    rows = list(
        work_through(
            range(5, 5 + len(folders)),
            lambda item, worker: {"item": item, "worker": worker},
            workers=workers,
            died=died,
            together=lambda item: folders[item - 5],
        )
    )
    assert sorted(row["item"] for row in rows) == list(range(5, 5 + len(folders)))
    by_folder: dict[int, set[str]] = {}
    for row in rows:
        by_folder.setdefault(folders[row["item"] - 5], set()).add(row["worker"])
    # What comes last is divided further, so that no process waits for another.
    assert all(len(by_folder[number]) == 1 for number in (3, 4))


def test_items_that_kill_are_reported_and_the_others_done() -> None:
    fatal = {0, 1, 50, 98, 99}

    def work(item: int, worker: str) -> Row:
        if item in fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"item": item, "died": False}

    rows = list(work_through(range(100), work, workers=2, died=died))
    assert sorted(row["item"] for row in rows) == list(range(100))
    assert {row["item"] for row in rows if row["died"]} == fatal


def test_an_item_that_never_ends_is_given_up() -> None:
    def work(item: int, worker: str) -> Row:
        while item == 3:
            time.sleep(0.1)
        return {"item": item, "died": False}

    rows = list(work_through(range(12), work, workers=2, died=died, item_seconds=10))
    assert sorted(row["item"] for row in rows) == list(range(12))
    assert [row["item"] for row in rows if row["died"]] == [3]


def _children() -> set[str]:
    """Return the processes that this one has started; other tests may have left some."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {child for task in tasks for child in task.read_text().split()}


def test_an_error_of_ours_ends_all_with_its_message() -> None:
    before = _children()

    def work(item: int, worker: str) -> Row:
        if item == 30:
            raise StorageError("The disk is full.")
        return {"item": item}

    with pytest.raises(StorageError, match="disk is full"):
        list(work_through(range(100), work, workers=2, died=died))
    assert _children() <= before  # no process of ours is left


def test_leaving_early_ends_the_processes() -> None:
    rows = work_through(
        range(1000), lambda item, worker: {"pid": os.getpid()}, workers=2, died=died
    )
    pids = {next(rows)["pid"] for _ in range(50)}
    rows.close()  # type: ignore[attr-defined]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
