"""Every strategy, unchanged, against Flower by itself with the same clients."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from flwr.serverapp import strategy as flower

from contract import wire_pb2 as wire
from contract.node_ids import node_id_of
from contract.records import Arrays, Metrics
from coordinator.work.training import checks
from foundation.flower import build
from node.work.training.worker import WorkerReply
from tests.coordinator.work.training.harness import SITES, Consortium, release_of
from tests.coordinator.work.training.test_run import edit
from tests.learning.simulation import LocalGrid

APP = Path(__file__).resolve().parents[3] / "end_to_end" / "apps" / "strategies"
ROUNDS = 2


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    consortium = Consortium(tmp_path_factory.mktemp("all"), build(APP), {"rounds": ROUNDS})
    yield consortium
    consortium.close()


@pytest.fixture(scope="module")
def models(trained: Consortium) -> dict[str, np.ndarray]:
    return trained.model(trained.train())


@pytest.fixture(scope="module")
def everyone() -> Iterator[tuple[object, object]]:
    """The app itself, in this process."""
    sys.path.append(str(APP))
    try:
        from everyone import client_app, strategies

        yield strategies.learn, client_app.app
    finally:
        sys.path.remove(str(APP))


def names() -> list[str]:
    return sorted(set(flower.__all__) - {"Result", "Strategy", "strategy_utils"})


OURS = ["Cyclic", "Ditto", "FedBN", "Scaffold"]
CLIENT_MODS = ["LocalDpMod", "SizeMods"]
"""FedAvg with those of ``flwr.clientapp.mod`` that no strategy asks for."""


@pytest.mark.slow
@pytest.mark.parametrize("name", [*names(), *OURS, *CLIENT_MODS])
def test_a_strategy_gives_the_model_that_flower_gives_by_itself(
    name: str, trained: Consortium, models: dict[str, np.ndarray], everyone: tuple
) -> None:
    learn, app = everyone
    grid = LocalGrid({node_id_of("north", site): app for site in SITES})
    for site in SITES:
        folder = release_of(trained.folder, site)
        grid.contexts[node_id_of("north", site)].node_config["data-path"] = str(folder)
    expected = learn(name, grid, ROUNDS)
    found = {k.partition("/")[2]: a for k, a in models.items() if k.startswith(f"{name}/")}
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        assert found[key].size > 0
        assert found[key].tobytes() == array.numpy().tobytes(), key


@pytest.mark.slow
def test_every_strategy_resumes_to_the_same_bits_after_its_process_was_killed(
    tmp_path: Path, models: dict[str, np.ndarray]
) -> None:
    """DP wrappers draw their noise, and strategies their sites, anew and alike."""
    consortium = Consortium(tmp_path / "killed", build(APP), {"rounds": ROUNDS})
    killed: list[str] = []

    def on_task(site: str, task: wire.Task) -> None:
        if int(task.task) > 90 and not killed:  # in the last strategies, which draw noise
            killed.append(task.task)
            assert consortium.run.pid is not None
            os.kill(consortium.run.pid, signal.SIGKILL)

    consortium.on_task = on_task
    try:
        again = consortium.model(consortium.train())
    finally:
        consortium.close()
    assert killed
    assert again.keys() == models.keys()
    for key, array in models.items():
        assert again[key].tobytes() == array.tobytes(), key


# ---- a site that is broken or hostile ------------------------------------------------------------


def nan(content: dict) -> None:
    for array in content["arrays"].items.values():
        if array.dtype.kind == "f":
            array.flat[0] = np.nan
    if "0" in content["arrays"].items:
        content["arrays"].items["0"] = np.frombuffer(b'{"learner": 1}', np.uint8)


def odd_key(content: dict) -> None:
    content["arrays"].items["odd"] = np.ones(1)


def other_shape(content: dict) -> None:
    first = next(iter(content["arrays"].items))
    content["arrays"].items[first] = np.ones((2, 2, 2))


def other_dtype(content: dict) -> None:
    first = next(iter(content["arrays"].items))
    content["arrays"].items[first] = np.ones(3, np.float32)


def weight(value: object) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        content["metrics"].items["num-examples"] = value

    return change


def no_metrics(content: dict) -> None:
    del content["metrics"]


def without_what_weighs(content: dict) -> None:
    """Beside the examples: QFedAvg's loss and adaptive clipping's bit, which end their runs."""
    for key in ("train_loss", "norm_bit"):
        content["metrics"].items.pop(key, None)


def loss_below_zero(content: dict) -> None:
    content["metrics"].items["train_loss"] = -1.0


def list_for_a_number(content: dict) -> None:
    content["metrics"].items["train_loss"] = [1.0, 2.0]


WEIGHED: dict[bytes, list[Callable[[dict], None]]] = {
    b"QFedAvg": [without_what_weighs, loss_below_zero],
    b"DifferentialPrivacyClientSideAdaptiveClipping": [without_what_weighs] * 2,
    b"FedMedian": [list_for_a_number] * 2,
}


ATTACKS = [
    nan, odd_key, other_shape, other_dtype, weight(-1), weight(1e30), weight(float("nan")),
    weight("many"), weight([1, 2]), no_metrics,
]  # fmt: skip
WANT_ALL = {n for n in names() if n.startswith("DifferentialPrivacy")} | {"Bulyan"}
"""Flower's own rules: these leave out a round in which a site failed."""


def test_one_sites_nonsense_ends_no_strategys_run(tmp_path: Path) -> None:
    consortium = Consortium(tmp_path / "hostile", build(APP), {"rounds": ROUNDS})
    done: list[str] = []
    weighed = {name: list(attacks) for name, attacks in WEIGHED.items()}

    def change(site: str, task: wire.Task, reply: WorkerReply) -> WorkerReply:
        if site != SITES[1] or task.message_type != "train":
            return reply
        attack = ATTACKS[len(done) % len(ATTACKS)]
        done.append(task.task)
        for name, attacks in weighed.items():
            if name in task.payload:
                attack = attacks.pop()
        return edit(reply, attack)

    consortium.change = change
    try:
        models = consortium.model(consortium.train())
    finally:
        consortium.close()
    assert len(done) >= 2 * len(ATTACKS) and not any(weighed.values())
    found = {key.partition("/")[0] for key in models}
    assert found >= set(names()) - WANT_ALL, consortium.log()[-2000:]
    for key, array in models.items():
        assert array.size
        assert array.dtype.kind != "f" or np.isfinite(array).all(), key


# ---- ensembles of trees that a site made up ------------------------------------------------------


def ensemble(trees: int = 2, **changes: object) -> bytes:
    model = {
        "gbtree_model_param": {"num_trees": str(trees), "num_parallel_tree": "1"},
        "trees": changes.pop("trees_of", [{"id": i} for i in range(trees)]),
        "tree_info": [0] * trees,
        "iteration_indptr": list(range(trees + 1)),
    } | changes
    return json.dumps({"learner": {"gradient_booster": {"model": model}}}).encode()


def said(reply: bytes, trees: checks.Trees = "bagging", sent: bytes = b"") -> str:
    def of(data: bytes) -> dict:
        return {"arrays": Arrays({"0": np.frombuffer(data, np.uint8)})}

    return checks.objection(
        of(sent),
        {**of(reply), "metrics": Metrics({"num-examples": 5})},
        train=True,
        weights=checks.WEIGHTS,
        trees=trees,
    )


def test_trees_of_any_number_are_taken_in() -> None:
    assert said(ensemble()) == said(ensemble(1), sent=ensemble(5)) == said(ensemble(9)) == ""
    assert said(b"anything", trees="cyclic") == ""


@pytest.mark.parametrize(
    "reply",
    [
        b"", b"not JSON", b"{}", b"[]", b"\xff\xfe", b"[" * 100_000, ensemble(0),
        ensemble(trees=3, tree_info=None), ensemble(iteration_indptr=[]),
        ensemble(iteration_indptr=["x"]), ensemble(trees_of=[]), ensemble(trees_of=["x", "y"]),
        ensemble(gbtree_model_param={"num_trees": "9", "num_parallel_tree": "1"}),
        ensemble(gbtree_model_param={"num_trees": "2", "num_parallel_tree": "7"}),
        ensemble(gbtree_model_param={"num_trees": "x", "num_parallel_tree": "1"}),
    ],
)  # fmt: skip
def test_trees_that_would_end_the_run_count_as_that_sites_failure(reply: bytes) -> None:
    assert said(reply) == "malformed-trees"


def test_bytes_of_another_length_are_no_model_for_a_strategy_that_averages() -> None:
    assert said(b"abc", trees="no", sent=b"ab") == "unlike-instruction"
    assert said(b"ab", trees="no", sent=b"ab") == ""
