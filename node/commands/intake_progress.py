"""Progress of an intake, on standard error and only for a person who watches."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from node.intake.register import IntakeReport

Observe = Callable[["IntakeReport"], None]


@contextmanager
def progress(count: Callable[[], int]) -> Iterator[Observe]:
    """Give what shows a report with rate and remaining time; elsewhere than on a terminal, nothing.

    ``count`` says how many files there are; it is asked beside the work, which doesn't wait for it.
    """
    if not sys.stderr.isatty():
        yield lambda report: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bar:
        task = bar.add_task("Taking in", total=None, rate="")
        threading.Thread(
            target=lambda: bar.update(task, total=count()), name="counting files", daemon=True
        ).start()

        def observe(report: IntakeReport) -> None:
            speed = bar.tasks[0].speed or 0.0
            quarantined = report.quarantined.total()
            bar.update(
                task,
                completed=report.files,
                rate=f"{speed:.{0 if speed >= 10 else 1}f} files/s, {quarantined} quarantined",
            )

        yield observe


def counted(paths: Sequence[Path]) -> int:
    """Return how many files lie below ``paths``; links are not followed."""
    count = 0
    waiting = [str(path.resolve()) for path in paths]
    while waiting:
        place = waiting.pop()
        if not Path(place).is_dir():
            count += 1
            continue
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        count += 1
        except OSError:
            continue
    return count
