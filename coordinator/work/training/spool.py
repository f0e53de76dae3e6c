"""A job's folder after its end: only the finished model's tensors stay."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from contract import wire_pb2 as wire
from coordinator.home import CoordinatorHome
from coordinator.jobs.states import ENDED
from coordinator.jobs.store import JobStore


def tidy(folder: Path, keep: str) -> None:
    """Remove a job's journal, replies and blobs but for the blob ``keep``."""
    if not folder.is_dir():
        return
    blobs = folder / "blobs"
    if blobs.is_dir():
        for blob in blobs.iterdir():
            if blob.name != keep:
                blob.unlink(missing_ok=True)
    _remove(path for path in folder.iterdir() if path != blobs or not keep)
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)


def tidy_ended(home: CoordinatorHome, store: JobStore) -> None:
    """Tidy what a crash between a job's end and its tidying left."""
    for folder in home.jobs.iterdir():
        if not store.known(folder.name):
            continue
        row = store.get(folder.name)
        if row.state in ENDED:
            result = wire.JobResult.FromString(row.result or b"")
            message = wire.RecordDict.FromString(result.model)
            tidy(folder, message.tensors.digest)


def _remove(paths: Iterable[Path]) -> None:
    for path in list(paths):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
