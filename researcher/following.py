"""What ``train`` does while its job runs: it shows it, logs it, and hands over the result."""

from __future__ import annotations

import getpass
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from contract.work import Scalar, TrainingWork
from researcher import tracking
from researcher.live import OnRound, follow, log_line
from researcher.training import TrainingHandle, TrainingResult

TensorBoardOption = Annotated[
    Path | None, typer.Option(help="Folder to write TensorBoard's event files into.")
]
MlflowOption = Annotated[
    Path | None, typer.Option(help="Folder to write a run of MLflow's file store into (mlruns).")
]
StartFromOption = Annotated[
    str | None,
    typer.Option(
        "--start-from", help="Begin with this model: its digest in the registry, or its file."
    ),
]


LogOption = Annotated[
    bool, typer.Option("--log", help="Show what the ServerApp prints, as it comes.")
]


@dataclass(frozen=True)
class Logs:
    """Where rounds are logged besides the terminal. Made before a job is sent, so that it fails
    before. With ``printed``, the terminal shows what the ServerApp prints, too."""

    tensorboard: Path | None = None
    mlflow: Path | None = None
    experiment: str = ""
    printed: bool = False

    def __post_init__(self) -> None:
        """Check that what is needed is installed."""
        if self.tensorboard is not None:
            tracking.require_tensorboard()


def followed(handle: TrainingHandle, logs: Logs, console: Console | None = None) -> TrainingResult:
    """Show and log a job to its end and return its model. ``JobFailed`` when there is none."""
    asked: dict[str, Scalar] = {}
    if handle.job is not None and isinstance(handle.job.work, TrainingWork):
        work = handle.job.work
        asked = {"bundle": work.bundle, "seed": work.seed, **work.parameters}
        if work.start_from is not None:
            asked["start_from"] = work.start_from
    heard: list[OnRound] = []
    board = run = None
    if logs.tensorboard is not None:
        heard.append(board := tracking.TensorBoardLog(logs.tensorboard, handle.digest, asked))
    if logs.mlflow is not None:
        run = tracking.MlflowLog(
            logs.mlflow,
            logs.experiment,
            handle.digest,
            asked,
            lambda: datetime.now(UTC),
            _user(),
        )
        heard.append(run)
    finished = False
    try:
        follow(handle, console or Console(markup=False), heard, log=logs.printed)
        result = handle.result()
        finished = True
        if run is not None:
            run.tag("wardgate.model", result.model)
        return result
    finally:
        if board is not None:
            board.close()
        if run is not None:
            run.close(finished)


def show_log(handle: TrainingHandle, console: Console | None = None) -> None:
    """Show what a job's ServerApp printed, from its first line on, until the job has ended."""
    console = console or Console(markup=False)
    for event in handle.events():
        if line := log_line(event):
            console.print(line, soft_wrap=True, markup=False, highlight=False)


def _user() -> str:
    with suppress(OSError, KeyError):
        return getpass.getuser()
    return ""
