"""The tabular recipe, run as Flower runs it: its ServerApp, its ClientApp, four hospitals."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib
import math
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest
from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given
from hypothesis import strategies as st

from demo import data
from tests.recipes.releases import typed, write_release, write_releases

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "tabular"


@pytest.fixture(scope="module", autouse=True)
def _process_of_one_run() -> Iterator[None]:
    """What Flower's runtime sets up for an app's process."""
    sys.path.append(str(RECIPE))
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 0
    yield
    sys.path.remove(str(RECIPE))


@pytest.fixture(scope="module")
def task(_process_of_one_run: None) -> ModuleType:
    return importlib.import_module("tabular_recipe.task")


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_releases(tmp_path_factory.mktemp("releases"))


def defaults() -> dict[str, Any]:
    """The run config as the app declares it."""
    import tomllib

    config: dict[str, Any] = tomllib.loads((RECIPE / "pyproject.toml").read_text())["tool"]["flwr"][
        "app"
    ]["config"]
    return config


def trial_config(**changes: Any) -> dict[str, Any]:
    """The run config of the trial's question, scaled by the pooled women."""
    pooled = pl.concat(typed(hospital.name) for hospital in data.HOSPITALS)
    means, deviations = [], []
    for feature in data.FEATURES:
        name, _, level = feature.partition("=")
        values = pooled[name].drop_nulls()
        numbers = (values == level if level else values).cast(pl.Float64)
        means.append(f"{numbers.mean():.9g}")
        deviations.append(f"{numbers.std():.9g}")
    told = {
        "table": "trial",
        "outcome": "preterm",
        "features": ",".join(data.FEATURES),
        "means": ",".join(means),
        "standard-deviations": ",".join(deviations),
        "minimum-nodes": 4,
    }
    return defaults() | told | changes


class OneProcess(Grid):
    """Flower's Grid over client apps called in turn; keeps every reply."""

    def __init__(self, folders: Iterable[Path], config: dict[str, Any]) -> None:
        self.client = importlib.import_module("tabular_recipe.client_app").app
        self.contexts = {
            node: context(config, folder) for node, folder in enumerate(folders, start=1)
        }
        self.replies: list[Message] = []

    def set_run(self, run_id: int) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        raise NotImplementedError

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return list(self.contexts)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        del timeout
        replies = [self.client(m, self.contexts[m.metadata.dst_node_id]) for m in messages]
        self.replies += replies
        return replies


def context(config: dict[str, Any], folder: Path | None = None) -> Context:
    node = {} if folder is None else {"data-path": str(folder)}
    return Context(run_id=1, node_id=1, node_config=node, state=RecordDict(), run_config=config)


def run(folders: Iterable[Path], config: dict[str, Any]) -> tuple[dict[str, Any], OneProcess]:
    """Run the recipe's ServerApp; return the model's weights, and the grid with its replies."""
    grid = OneProcess(folders, config)
    server = context(config)
    importlib.import_module("tabular_recipe.server_app").app(grid, server)
    return server.state.array_records["arrays"].to_torch_state_dict(), grid


@pytest.fixture(scope="module")
def trained(releases: dict[str, Path]) -> tuple[dict[str, Any], OneProcess]:
    return run(releases.values(), trial_config())


def pooled_rows(task: ModuleType, releases: dict[str, Path], plan: Any) -> pl.DataFrame:
    return pl.concat(task.read_table(folder, plan) for folder in releases.values())


def newton(inputs: np.ndarray, outcomes: np.ndarray, penalty: float) -> np.ndarray:
    """The penalised maximum-likelihood fit, by another road than the recipe's."""
    x = np.column_stack([inputs, np.ones(len(inputs))])
    ridge = np.diag([penalty] * inputs.shape[1] + [0.0])
    beta = np.zeros(x.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-x @ beta))
        gradient = x.T @ (p - outcomes) / len(x) + ridge @ beta
        beta -= np.linalg.solve((x.T * (p * (1 - p))) @ x / len(x) + ridge, gradient)
    return beta


# ---- the federated answer ----------------------------------------------------------------------


def test_federated_predictions_are_those_of_the_pooled_fit(
    task: ModuleType, releases: dict[str, Path], trained: tuple[dict[str, Any], OneProcess]
) -> None:
    plan = task.Plan.read(trial_config())
    training, held_out = task.split(pooled_rows(task, releases, plan), plan)
    known, asked = task.examples(training, plan), task.examples(held_out, plan)
    beta = newton(known.inputs.double().numpy(), known.outcomes.numpy(), plan.weight_decay)
    pooled = 1 / (1 + np.exp(-(asked.inputs.double().numpy() @ beta[:-1] + beta[-1])))
    model = task.build_model(plan)
    model.load_state_dict(trained[0])
    assert len(asked) > 200
    assert np.abs(task.predict(model, asked) - pooled).max() < 0.02


@pytest.mark.parametrize("split_seed", range(2, 12))
def test_they_are_so_whoever_is_held_out(
    task: ModuleType, releases: dict[str, Path], split_seed: int
) -> None:
    config = trial_config(**{"split-seed": split_seed})
    plan = task.Plan.read(config)
    training, held_out = task.split(pooled_rows(task, releases, plan), plan)
    known, asked = task.examples(training, plan), task.examples(held_out, plan)
    beta = newton(known.inputs.double().numpy(), known.outcomes.numpy(), plan.weight_decay)
    pooled = 1 / (1 + np.exp(-(asked.inputs.double().numpy() @ beta[:-1] + beta[-1])))
    model = task.build_model(plan)
    model.load_state_dict(run(releases.values(), config)[0])
    assert np.abs(task.predict(model, asked) - pooled).max() < 0.02


def test_one_step_per_round_is_the_pooled_gradient_step(
    task: ModuleType, releases: dict[str, Path], trained: tuple[dict[str, Any], OneProcess]
) -> None:
    plan = task.Plan.read(trial_config())
    assert plan.local_epochs == 1
    rounds = trial_config()["num-server-rounds"]
    training, _ = task.split(pooled_rows(task, releases, plan), plan)
    model = task.build_model(plan)
    steps = dataclasses.replace(plan, local_epochs=rounds)
    task.train(model, task.examples(training, plan), steps)
    for name, weights in model.state_dict().items():
        np.testing.assert_allclose(trained[0][name], weights, atol=1e-5)


def test_a_second_run_gives_the_same_bytes(
    releases: dict[str, Path], trained: tuple[dict[str, Any], OneProcess]
) -> None:
    again, _ = run(releases.values(), trial_config())
    assert {n: w.numpy().tobytes() for n, w in again.items()} == {
        n: w.numpy().tobytes() for n, w in trained[0].items()
    }


def test_only_the_declared_metrics_leave_and_all_are_finite(
    trained: tuple[dict[str, Any], OneProcess],
) -> None:
    names = {
        "train": {"train_loss", "num-examples"},
        "evaluate": {"eval_loss", "eval_brier", "num-examples"},
    }
    replies = trained[1].replies
    assert len(replies) == 2 * 4 * defaults()["num-server-rounds"]
    for reply in replies:
        metrics = reply.content.metric_records["metrics"]
        assert set(metrics) == names[reply.metadata.message_type]
        assert all(math.isfinite(value) for value in metrics.values())
        kept = {"metrics"} if reply.metadata.message_type == "evaluate" else {"metrics", "arrays"}
        assert set(reply.content) == kept


# ---- standardised by one round of sums ---------------------------------------------------------


def sums_config(**changes: Any) -> dict[str, Any]:
    return trial_config(
        **({"standardise": "sums", "means": "", "standard-deviations": ""} | changes)
    )


@pytest.fixture(scope="module")
def by_sums(releases: dict[str, Path]) -> tuple[dict[str, Any], OneProcess]:
    return run(releases.values(), sums_config())


def test_one_round_of_sums_gives_the_pooled_training_rows_scale(
    task: ModuleType,
    releases: dict[str, Path],
    by_sums: tuple[dict[str, Any], OneProcess],
) -> None:
    plan = task.Plan.read(sums_config())
    training, _ = task.split(pooled_rows(task, releases, plan), plan)
    raw = task.raw(training, plan)
    assert np.isnan(raw).any()
    np.testing.assert_allclose(by_sums[0]["scale.mean"], np.nanmean(raw, axis=0), rtol=1e-6)
    np.testing.assert_allclose(by_sums[0]["scale.sd"], np.nanstd(raw, axis=0), rtol=1e-5)


def test_standardised_by_sums_every_patients_prediction_is_the_pooled_ones(
    task: ModuleType,
    releases: dict[str, Path],
    by_sums: tuple[dict[str, Any], OneProcess],
    tmp_path: Path,
) -> None:
    frame = pl.concat(
        pl.read_parquet(folder / "tables" / "trial.parquet") for folder in releases.values()
    )
    pool = write_release(tmp_path / "pool", frame)
    config = sums_config(**{"minimum-nodes": 1})
    pooled, _ = run([pool], config)
    plan = task.Plan.read(config)
    _, asked = task.of_release(pool, plan)
    models = []
    for weights in (by_sums[0], pooled):
        model = task.build_model(plan)
        model.load_state_dict(weights)
        models.append(task.predict(model, asked))
    assert len(asked) > 200
    assert np.abs(models[0] - models[1]).max() < 1e-4


def test_one_round_of_sums_holds_nothing_but_sums(
    by_sums: tuple[dict[str, Any], OneProcess],
) -> None:
    first = by_sums[1].replies[:4]
    assert {reply.metadata.message_type for reply in first} == {"train.moments"}
    for reply in first:
        arrays = reply.content.array_records["arrays"]
        assert set(arrays) == {"share", "first", "second"}
        assert all(arrays[name].shape == (len(data.FEATURES),) for name in arrays)
        assert set(reply.content.metric_records["metrics"]) == {"num-examples"}


# ---- who is held out ---------------------------------------------------------------------------


def test_women_held_out_never_move_the_model(
    task: ModuleType,
    releases: dict[str, Path],
    trained: tuple[dict[str, Any], OneProcess],
    tmp_path: Path,
) -> None:
    plan = task.Plan.read(trial_config())
    changed = []
    for site, folder in releases.items():
        frame = pl.read_parquet(folder / "tables" / "trial.parquet")
        spared = pl.Series([task.is_held_out(s, plan) for s in frame["subject"]])
        frame = frame.with_columns(
            pl.when(spared).then(pl.lit("Yes")).otherwise(pl.col("preterm")).alias("preterm"),
            pl.when(spared).then(99).otherwise(pl.col("age")).alias("age"),
        )
        changed.append(write_release(tmp_path / site, frame))
    weights, _ = run(changed, trial_config())
    for name, value in weights.items():
        assert value.numpy().tobytes() == trained[0][name].numpy().tobytes()


@given(st.text(max_size=40), st.integers(0, 10**6), st.floats(0, 0.99), st.floats(0, 0.99))
def test_a_subject_held_out_at_a_fraction_is_held_out_at_every_larger_one(
    subject: str, seed: int, one: float, other: float
) -> None:
    task = importlib.import_module("tabular_recipe.task")
    plan = task.Plan.read(trial_config_light(**{"split-seed": seed}))
    less, more = sorted([one, other])
    small, large = (dataclasses.replace(plan, held_out=f) for f in (less, more))
    assert task.is_held_out(subject, large) or not task.is_held_out(subject, small)


def test_the_split_is_by_sha256_and_about_the_fraction_asked_for(task: ModuleType) -> None:
    plan = task.Plan.read(trial_config_light())
    subjects = [f"subject-{i}" for i in range(5000)]
    held_out = [s for s in subjects if task.is_held_out(s, plan)]
    first = hashlib.sha256(b"1:subject-0").digest()[:8]
    assert task.is_held_out("subject-0", plan) == (int.from_bytes(first, "big") < 0.3 * 2**64)
    assert abs(len(held_out) / 5000 - 0.3) < 0.02


def test_a_column_can_say_who_is_held_out(task: ModuleType) -> None:
    plan = task.Plan.read(trial_config_light(**{"split-column": "fold"}))
    frame = small_table().with_columns(fold=pl.Series(["train", "test", "test", None]))
    training, held_out = task.split(frame, plan)
    assert training["subject"].to_list() == ["a", "d"]
    assert held_out["subject"].to_list() == ["b"]


def test_rows_in_another_order_give_the_same_examples(
    task: ModuleType, releases: dict[str, Path]
) -> None:
    plan = task.Plan.read(trial_config())
    frame = task.read_table(releases["kentucky"], plan)
    one, other = task.examples(frame, plan), task.examples(frame.reverse(), plan)
    assert bool((one.inputs == other.inputs).all())


# ---- inputs ------------------------------------------------------------------------------------


def trial_config_light(**changes: Any) -> dict[str, Any]:
    """A run config of a small invented table."""
    told = {
        "table": "t",
        "outcome": "y",
        "features": "x,x:missing,c=b",
        "means": "2,0,0.5",
        "standard-deviations": "4,1,0.5",
    }
    return defaults() | told | changes


def small_table() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "subject": ["a", "b", "c", "d"],
            "y": ["Yes", "No", None, "No"],
            "x": [10.0, None, 2.0, 6.0],
            "c": ["b", "a", "b", None],
        }
    )


def test_missing_values_become_the_mean_and_are_told_where_asked(task: ModuleType) -> None:
    plan = task.Plan.read(trial_config_light(**{"held-out": 0.0}))
    training, held_out = task.split(small_table(), plan)
    assert held_out.height == 0
    examples = task.examples(training, plan)
    assert examples.inputs.tolist() == [[2, 0, 1], [0, 1, -1], [1, 0, 0]]
    assert examples.outcomes.tolist() == [1, 0, 0]


def test_a_hospital_with_nobody_to_train_or_score_answers_zeros(
    task: ModuleType, tmp_path: Path
) -> None:
    folder = write_release(tmp_path / "r", small_table().clear(), "t")
    config = trial_config_light()
    grid = OneProcess([folder], config)
    flwr_app = importlib.import_module("flwr.app")
    record = RecordDict(
        {"arrays": flwr_app.ArrayRecord(task.build_model(task.Plan.read(config)).state_dict())}
    )
    for kind in ("train", "evaluate"):
        (reply,) = grid.send_and_receive(
            [Message(content=record, dst_node_id=1, message_type=kind)]
        )
        assert all(value == 0 for value in reply.content.metric_records["metrics"].values())


def test_booleans_and_whole_numbers_serve_as_levels_too(task: ModuleType) -> None:
    frame = pl.DataFrame(
        {"subject": ["a", "b"], "y": [True, False], "x": [1, 0], "c": [True, False]}
    )
    config = trial_config_light(
        positive="true",
        features="x=1,c=true,c",
        means="0,0,0",
        **{"standard-deviations": "1,1,1", "held-out": 0.0},
    )
    plan = task.Plan.read(config)
    examples = task.examples(frame, plan)
    assert examples.inputs.tolist() == [[1, 1, 1], [0, 0, 0]]
    assert examples.outcomes.tolist() == [1, 0]


def test_a_network_learns_what_logistic_regression_cant(task: ModuleType) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2, 200), rng.integers(0, 2, 200)
    frame = pl.DataFrame(
        {
            "subject": [str(i) for i in range(200)],
            "y": np.where(a ^ b, "Yes", "No"),
            "x": a * 2.0 - 1,
            "z": b * 2.0 - 1,
        }
    )
    losses = {}
    for hidden in (0, 8):
        config = trial_config_light(
            features="x,z",
            means="0,0",
            **{
                "standard-deviations": "1,1",
                "hidden-units": hidden,
                "local-epochs": 500,
                "learning-rate": 1.0,
                "weight-decay": 0.0,
            },
        )
        plan = task.Plan.read(config)
        losses[hidden] = task.train(task.build_model(plan), task.examples(frame, plan), plan)
    assert losses[0] > 0.65
    assert losses[8] < 0.1


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"features": ""}, "means"),
        ({"means": "1,2"}, "means"),
        ({"means": "1,2,x"}, "means"),
        ({"standard-deviations": "1,0,1"}, "standard-deviations"),
        ({"standard-deviations": "1,nan,1"}, "standard-deviations"),
        ({"features": "x,x,c=b"}, "features"),
        ({"features": "x,x:missing,y"}, "outcome"),
        ({"features": "x,x:missing,../c"}, "features"),
        ({"table": "../t"}, "table"),
        ({"hidden-units": -1}, "hidden-units"),
        ({"local-epochs": 0}, "local-epochs"),
        ({"learning-rate": 0.0}, "learning-rate"),
        ({"learning-rate": 10.0, "weight-decay": 0.2}, "learning-rate"),
        ({"held-out": 1.0}, "held-out"),
        ({"standardise": "minmax"}, "standardise"),
        ({"standardise": "sums"}, "standardise"),
        (
            {"standardise": "sums", "means": "", "standard-deviations": "", "dp-sgd": True},
            "dp-sgd",
        ),
        ({"split-column": "../x"}, "split-column"),
    ],
)
def test_a_run_config_that_doesnt_fit_names_its_key(
    task: ModuleType, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        task.Plan.read(trial_config_light(**changes))


def test_no_error_quotes_a_value_of_the_table(task: ModuleType, tmp_path: Path) -> None:
    plan = task.Plan.read(trial_config_light(**{"held-out": 0.0}))
    secret = small_table().with_columns(pl.Series("x", ["SECRET", "SECRET", None, "1"]))
    with pytest.raises(ValueError, match="'x'") as caught:
        task.examples(secret, plan)
    assert "SECRET" not in str(caught.value)
    folder = write_release(tmp_path / "r", secret.drop("c"), "t")
    with pytest.raises(ValueError, match="no column 'c'"):
        task.read_table(folder, plan)
    with pytest.raises(ValueError, match="no manifest"):
        task.read_table(tmp_path / "elsewhere", plan)


# ---- the bundle --------------------------------------------------------------------------------


def test_it_builds_into_a_bundle_that_holds_nothing_of_wardgate(tmp_path: Path) -> None:
    app = tmp_path / "tabular"
    app.mkdir()
    for path in sorted(RECIPE.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            target = app / path.relative_to(RECIPE)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    flwr = Path(sys.executable).with_name("flwr")
    env = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "FLWR_HOME": str(tmp_path / "flwr"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
    }
    done = subprocess.run(
        [str(flwr), "build", "--app", str(app)],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (bundle,) = tmp_path.glob("*.fab")
    with zipfile.ZipFile(bundle) as archive:
        names = set(archive.namelist())
    assert {
        "pyproject.toml",
        "README.md",
        "tabular_recipe/task.py",
        "tabular_recipe/client_app.py",
        "tabular_recipe/server_app.py",
    } <= names


def test_nothing_of_wardgate_but_learning_is_imported() -> None:
    allowed = {"flwr", "torch", "polars", "numpy", "opacus", "learning", "tabular_recipe"}
    allowed |= set(sys.stdlib_module_names)
    for path in (RECIPE / "tabular_recipe").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            assert {name.partition(".")[0] for name in names} <= allowed, path.name


def test_the_card_documents_every_parameter_and_metric() -> None:
    card = (RECIPE / "README.md").read_text()
    told = [*defaults(), "train_loss", "num-examples", "eval_loss", "eval_brier"]
    for name in told:
        assert f"`{name}`" in card, name
