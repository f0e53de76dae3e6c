"""Rounds as experiment trackers keep them: TensorBoard's event files, MLflow's file store.

Only what the coordinator shows is logged: the rounds' merged metrics, which the hospitals' policies
let out, and what the researcher asked for.

Source of the store's layout: MLflow, ``mlflow/store/tracking/file_store.py`` (mlflow/mlflow): a
folder for each experiment with ``meta.yaml``, in it one for each run with ``meta.yaml``,
``metrics/NAME`` (lines "milliseconds value step"), ``params/NAME`` and ``tags/NAME``.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from contract.errors import UsageError
from contract.work import Scalar
from foundation.files import write_durably
from researcher.training import Round

_UNFIT = re.compile(r"[^\w. /-]")
MAX_TEXT = 5000


def name_of(one: Round, metric: str) -> str:
    """Return by what name a metric is kept: its step's, then its own."""
    step = one.step.replace(" ", "-")
    parts = [_UNFIT.sub("_", part).strip(". /") or "_" for part in (step, metric)]
    return "/".join(parts)


def require_tensorboard() -> None:
    """Raise ``UsageError`` when the package that writes event files is missing."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise UsageError(
            "Writing for TensorBoard needs tensorboardX: pip install 'wardgate[tracking]'."
        )


class TensorBoardLog:
    """Writes rounds into ``folder`` as TensorBoard reads them. Needs the extra ``tracking``."""

    def __init__(self, folder: Path, job: str, parameters: Mapping[str, Scalar]) -> None:
        require_tensorboard()
        from tensorboardX import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder / job[:12]), flush_secs=5)
        told = {"job": job, **parameters}
        lines = "".join(f"    {key} = {value}\n" for key, value in told.items())
        self._writer.add_text("job", lines, 0)

    def __call__(self, one: Round) -> None:
        """Write a round's metrics; its number is the step."""
        for metric, value in one.metrics.items():
            self._writer.add_scalar(name_of(one, metric), value, one.number)

    def close(self) -> None:
        """Write what isn't written yet."""
        self._writer.close()


class MlflowLog:
    """Writes rounds into ``folder`` as a run of MLflow's file store (an ``mlruns`` folder)."""

    def __init__(
        self,
        folder: Path,
        experiment: str,
        job: str,
        parameters: Mapping[str, Scalar],
        clock: Callable[[], datetime],
        user: str = "",
    ) -> None:
        self._clock = clock
        self._experiment = _experiment(folder, experiment, self._now())
        self._id = uuid.uuid5(uuid.NAMESPACE_OID, job).hex
        self._run = self._experiment / self._id
        self._user = user
        self._started = self._now()
        for name in ("metrics", "params", "tags", "artifacts"):
            (self._run / name).mkdir(parents=True, exist_ok=True)
        for stale in sorted((self._run / "metrics").rglob("*")):
            if stale.is_file():
                stale.unlink()  # the job's rounds are told again from the first on
        self._write_meta("RUNNING", None)
        for key, value in {"job": job, **parameters}.items():
            self._write("params", key, str(value))
        tags = {"mlflow.runName": job[:12], "mlflow.user": user, "wardgate.job": job}
        for key, text in tags.items():
            self._write("tags", key, text)

    def __call__(self, one: Round) -> None:
        """Append a round's metrics; its number is the step."""
        for metric, value in one.metrics.items():
            path = self._run / "metrics" / name_of(one, metric)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as file:
                file.write(f"{self._now()} {_figure(value)} {one.number}\n")

    def tag(self, key: str, text: str) -> None:
        """Write a tag, such as the model's digest."""
        self._write("tags", key, text)

    def close(self, finished: bool = True) -> None:
        """Say how the run ended."""
        self._write_meta("FINISHED" if finished else "FAILED", self._now())

    def _now(self) -> int:
        return int(self._clock().timestamp() * 1000)

    def _write(self, kind: str, key: str, text: str) -> None:
        name = _UNFIT.sub("_", key).strip(". /") or "_"
        write_durably(self._run / kind / name.replace("/", "_"), text[:MAX_TEXT].encode(), 0o644)

    def _write_meta(self, status: str, end: int | None) -> None:
        statuses = {"RUNNING": 1, "FINISHED": 3, "FAILED": 4}
        meta: dict[str, object] = {
            "artifact_uri": (self._run / "artifacts").resolve().as_uri(),
            "end_time": end,
            "entry_point_name": "",
            "experiment_id": self._experiment.name,
            "lifecycle_stage": "active",
            "run_id": self._id,
            "run_uuid": self._id,
            "run_name": self._id[:12],
            "source_name": "wardgate",
            "source_type": 4,
            "source_version": "",
            "start_time": self._started,
            "status": statuses[status],
            "tags": [],
            "user_id": self._user,
        }
        _write_yaml(self._run / "meta.yaml", meta)


def _experiment(folder: Path, name: str, now: int) -> Path:
    """Return the experiment's folder, made when it isn't there: its id follows from its name."""
    number = str(int.from_bytes(uuid.uuid5(uuid.NAMESPACE_OID, name).bytes[:7], "big"))
    place = folder / number
    place.mkdir(parents=True, exist_ok=True)
    if not (place / "meta.yaml").exists():
        meta = {
            "artifact_location": place.resolve().as_uri(),
            "creation_time": now,
            "experiment_id": number,
            "last_update_time": now,
            "lifecycle_stage": "active",
            "name": name,
        }
        _write_yaml(place / "meta.yaml", meta)
    return place


def _write_yaml(path: Path, values: Mapping[str, object]) -> None:
    """Write a flat mapping; JSON's scalars are YAML's."""
    lines = "".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items())
    write_durably(path, lines.encode(), 0o644)


def _figure(value: float) -> str:
    if math.isnan(value):
        return "nan"
    return repr(value) if math.isfinite(value) else ("inf" if value > 0 else "-inf")
