"""What trackers read of a training is what the rounds said: read back by TensorBoard's own code."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from researcher.tracking import MlflowLog, TensorBoardLog, name_of
from researcher.training import Round

JOB = "3f8a" * 16
ROUNDS = [
    Round(1, "train", {"train_loss": 0.5, "epsilon": 1.25}),
    Round(1, "evaluate", {"loss": 0.75}),
    Round(2, "train", {"train_loss": 0.25, "epsilon": float("inf")}),
    Round(2, "evaluate on the server", {"a/../b": 1e-300}),
]
START = datetime(2026, 1, 1, tzinfo=UTC)


def clock() -> datetime:
    """Each time asked a second later."""
    clock.now += timedelta(seconds=1)  # type: ignore[attr-defined]
    return clock.now  # type: ignore[attr-defined,no-any-return]


clock.now = START  # type: ignore[attr-defined]


def write_mlflow(folder: Path) -> Path:
    """Write a whole run and return its folder."""
    log = MlflowLog(folder, "trial", JOB, {"rate": 0.1, "seed": 7}, clock, "ana")
    for one in ROUNDS:
        log(one)
    log.tag("wardgate.model", "ab" * 32)
    log.close()
    [run] = [p.parent for p in folder.glob("*/*/meta.yaml")]
    return run


def test_tensorboard_reads_every_metric_at_its_round(tmp_path: Path) -> None:
    log = TensorBoardLog(tmp_path, JOB, {"rate": 0.1})
    for one in ROUNDS[:3]:
        log(one)
    log.close()
    read = EventAccumulator(str(tmp_path / JOB[:12]))
    read.Reload()
    assert set(read.Tags()["scalars"]) == {"train/train_loss", "train/epsilon", "evaluate/loss"}
    assert [(e.step, e.value) for e in read.Scalars("train/train_loss")] == [(1, 0.5), (2, 0.25)]
    assert [(e.step, e.value) for e in read.Scalars("evaluate/loss")] == [(1, 0.75)]


def test_a_run_lies_as_mlflow_documents_it(tmp_path: Path) -> None:
    run = write_mlflow(tmp_path)
    experiment = yaml.safe_load((run.parent / "meta.yaml").read_text())
    meta = yaml.safe_load((run / "meta.yaml").read_text())
    assert experiment["name"] == "trial"
    assert meta["experiment_id"] == experiment["experiment_id"] == run.parent.name
    assert (meta["run_id"], meta["status"], meta["user_id"]) == (run.name, 3, "ana")
    lines = (run / "metrics" / "train" / "train_loss").read_text().splitlines()
    assert [line.split()[1:] for line in lines] == [["0.5", "1"], ["0.25", "2"]]
    assert (run / "params" / "rate").read_text() == "0.1"


def test_following_a_job_again_leaves_one_run_with_each_round_once(tmp_path: Path) -> None:
    assert write_mlflow(tmp_path) == write_mlflow(tmp_path)
    [run] = [p.parent for p in tmp_path.glob("*/*/meta.yaml")]
    assert len((run / "metrics" / "evaluate" / "loss").read_text().splitlines()) == 1


@pytest.mark.parametrize("metric", ["../../up", "/etc/passwd", "a\nb", "", "...", "x" * 10])
def test_no_name_of_a_metric_leads_out_of_the_folder(tmp_path: Path, metric: str) -> None:
    log = MlflowLog(tmp_path / "in", "trial", JOB, {metric or "p": 1}, clock)
    log(Round(1, "train", {metric: 1.0}))
    outside = [p for p in tmp_path.rglob("*") if not p.is_relative_to(tmp_path / "in")]
    assert outside == []
    assert ".." not in name_of(Round(1, "../train", {}), metric).split("/")


READER = """
import json, sys
from mlflow.tracking import MlflowClient
client = MlflowClient(tracking_uri="file://" + sys.argv[1])
[experiment] = [e for e in client.search_experiments() if e.name == "trial"]
[run] = client.search_runs([experiment.experiment_id])
history = client.get_metric_history(run.info.run_id, "train/train_loss")
print(json.dumps({
    "status": run.info.status,
    "params": run.data.params,
    "last": run.data.metrics["train/train_loss"],
    "history": [[m.step, m.value] for m in history],
}))
"""


@pytest.mark.slow
def test_mlflow_itself_reads_the_run(tmp_path: Path) -> None:
    if importlib.util.find_spec("venv") is None:
        pytest.skip("no venv module")
    write_mlflow(tmp_path / "mlruns")
    place = tmp_path / "mlflow"
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    pip = [str(place / "bin" / "pip"), "install", "-q", "mlflow-skinny==3.17.2"]
    if subprocess.run(pip, check=False, capture_output=True).returncode != 0:
        pytest.skip("mlflow-skinny can't be installed here")
    read = subprocess.run(
        [str(place / "bin" / "python"), "-c", READER, str(tmp_path / "mlruns")],
        check=True, capture_output=True, text=True,
        env={"PATH": "/usr/bin:/bin", "MLFLOW_ALLOW_FILE_STORE": "true"},
    )  # fmt: skip
    found = json.loads(read.stdout.splitlines()[-1])
    assert found == {
        "status": "FINISHED",
        "params": {"job": JOB, "rate": "0.1", "seed": "7"},
        "last": 0.25,
        "history": [[1, 0.5], [2, 0.25]],
    }
