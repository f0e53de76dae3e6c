"""Strategies and mods against what their authors define, on problems whose answer is known."""

from __future__ import annotations

import logging
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAdam, FedAvg, FedProx, FedXgbBagging
from flwr.serverapp.strategy.strategy import Strategy
from torch import nn

from learning.gradients import Corrected, Proximal
from learning.mods import (
    Ditto,
    KeepLocal,
    corrections,
    gradients_from,
    keep_control,
    norm_layers,
    scaffold,
)
from learning.mods.ditto import reference_of
from learning.strategies import (
    Cyclic,
    EarlyStopping,
    Scaffold,
    Scheduled,
    cosine,
    exponential,
)
from learning.strategies import (
    steps as in_steps,
)
from learning.strategies.scaffold import CONTROL
from tests.learning.simulation import LocalGrid

CURVATURES = {11: np.array([1.0, 10.0]), 12: np.array([10.0, 1.0]), 13: np.array([3.0, 3.0])}
CENTRES = {11: np.array([1.0, -2.0]), 12: np.array([-1.0, 3.0]), 13: np.array([4.0, 0.0])}
EXAMPLES = {11: 10, 12: 30, 13: 20}
RATE, LOCAL_STEPS = 0.05, 20


def optimum() -> np.ndarray:
    """The minimum of the pooled objective, sum of p_i a_i (x - b_i)^2 / 2."""
    total = sum(EXAMPLES.values())
    weights = {node: EXAMPLES[node] / total * CURVATURES[node] for node in CENTRES}
    return sum(weights[n] * CENTRES[n] for n in CENTRES) / sum(weights.values())


class Quadratic(nn.Module):
    """a (x - b)^2 / 2 of one node."""

    def __init__(self, node: int) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.a = torch.from_numpy(CURVATURES[node])
        self.b = torch.from_numpy(CENTRES[node])

    def loss(self) -> torch.Tensor:
        return (self.a * (self.x - self.b) ** 2).sum() / 2


def by_torch(node: int, message: Message) -> tuple[np.ndarray, np.ndarray]:
    """A plain training loop; ``learning.gradients`` is around it and not in it."""
    model = Quadratic(node)
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    optimiser = torch.optim.SGD(model.parameters(), lr=RATE)
    mu = float(message.content["config"].get("proximal-mu", 0.0))
    named = list(model.named_parameters())
    with (
        Corrected(optimiser, named, corrections(message)) as corrected,
        Proximal(optimiser, named, reference_of(message).to_torch_state_dict(), mu),
    ):
        for _ in range(LOCAL_STEPS):
            optimiser.zero_grad()
            model.loss().backward()
            optimiser.step()
    return model.x.detach().numpy(), corrected.mean_gradients()["x"]


def by_hand(node: int, message: Message) -> tuple[np.ndarray, np.ndarray]:
    """The same without PyTorch."""
    x = message.content["arrays"]["x"].numpy()
    w = reference_of(message)["x"].numpy()
    mu = float(message.content["config"].get("proximal-mu", 0.0))
    correction = corrections(message).get("x", np.zeros(2))
    total = np.zeros(2)
    for _ in range(LOCAL_STEPS):
        gradient = CURVATURES[node] * (x - CENTRES[node])
        total += gradient
        x = (x - RATE * (gradient + correction) + RATE * mu * w) / (1 + RATE * mu)
    return x, total / LOCAL_STEPS


def by_its_ends(node: int, message: Message) -> tuple[np.ndarray, np.ndarray]:
    """The same, of which only the first and last weights are seen."""
    received = {"x": message.content["arrays"]["x"].numpy()}
    x, _ = by_hand(node, message)
    found = gradients_from(
        received, {"x": x}, corrections(message), steps=LOCAL_STEPS, learning_rate=RATE
    )
    return x, found["x"]


def loss_of(node: int, x: np.ndarray) -> float:
    return float((CURVATURES[node] * (x - CENTRES[node]) ** 2).sum() / 2)


def quadratic_app(node: int, mods: list | None = None, *, steps=by_hand) -> ClientApp:
    app = ClientApp(mods=mods or [])

    @app.train()
    def train(message, context):
        first = loss_of(node, message.content["arrays"]["x"].numpy())
        x, gradients = steps(node, message)
        metrics = MetricRecord({"num-examples": EXAMPLES[node], "train_loss": first})
        content = RecordDict({"arrays": ArrayRecord({"x": Array(x)}), "metrics": metrics})
        reply = Message(content=content, reply_to=message)
        if mods and scaffold in mods:
            keep_control(reply, {"x": gradients})
        return reply

    @app.evaluate()
    def evaluate(message, context):
        x = message.content["arrays"]["x"].numpy()
        metrics = MetricRecord({"num-examples": EXAMPLES[node], "loss": loss_of(node, x)})
        return Message(content=RecordDict({"metrics": metrics}), reply_to=message)

    return app


START = ArrayRecord({"x": Array(np.zeros(2))})
FULL = {"min_train_nodes": 3, "min_evaluate_nodes": 3, "min_available_nodes": 3}
QUIET = {"min_train_nodes": 3, "min_available_nodes": 3, "fraction_evaluate": 0.0}


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Flower logs a hundred lines a run."""
    caplog.set_level(logging.ERROR, "flwr")
    torch.set_num_threads(1)


def learn(strategy: Strategy, rounds: int, mods: list | None = None, **named) -> np.ndarray:
    grid = LocalGrid({node: quadratic_app(node, mods, **named) for node in CENTRES})
    result = strategy.start(grid, START, rounds)
    return result.arrays["x"].numpy()


def drift() -> float:
    """How far from the optimum FedAvg comes to rest."""
    return float(np.linalg.norm(learn(FedAvg(**QUIET), 20) - optimum()))


def test_scaffold_reaches_the_pooled_optimum_where_fedavg_comes_to_rest_elsewhere() -> None:
    assert drift() > 0.2
    found = learn(Scaffold(**QUIET), 80, [scaffold])
    np.testing.assert_allclose(found, optimum(), atol=1e-4)


def test_scaffold_with_sites_missing_each_round_still_comes_closer_than_fedavg() -> None:
    np.random.seed(0)
    two = {"fraction_train": 2 / 3, "min_train_nodes": 2, "min_available_nodes": 3}
    found = learn(Scaffold(**two, fraction_evaluate=0.0), 150, [scaffold])
    assert np.linalg.norm(found - optimum()) < 1e-3 * drift()


@pytest.mark.parametrize("steps", [by_hand, by_torch, by_its_ends])
def test_scaffold_is_its_papers_algorithm_step_by_step(steps) -> None:
    """Algorithm 1, option II, written out with plain means over equal sites."""
    total = sum(EXAMPLES.values())
    x, c = np.zeros(2), np.zeros(2)
    own = {node: np.zeros(2) for node in CENTRES}
    rate = 0.7
    for _ in range(3):
        moved, changed = np.zeros(2), np.zeros(2)
        for node, b in CENTRES.items():
            y = x.copy()
            for _ in range(LOCAL_STEPS):
                y -= RATE * (CURVATURES[node] * (y - b) - own[node] + c)
            new = own[node] - c + (x - y) / (LOCAL_STEPS * RATE)
            p = EXAMPLES[node] / total
            moved, changed = moved + p * (y - x), changed + p * (new - own[node])
            own[node] = new
        x, c = x + rate * moved, c + changed
    strategy = Scaffold(server_learning_rate=rate, **QUIET)
    found = learn(strategy, 3, [scaffold], steps=steps)
    np.testing.assert_allclose(found, x, rtol=1e-10)
    np.testing.assert_allclose(strategy.control["x"], c, rtol=1e-10)


def test_a_scaffold_reply_has_the_form_of_what_was_sent() -> None:
    grid = LocalGrid({node: quadratic_app(node, [scaffold]) for node in CENTRES})
    Scaffold(**FULL).start(grid, START, 2)
    for sent, reply in zip(grid.sent, grid.replies, strict=True):
        if sent.metadata.message_type == "train":
            assert list(reply.content) == ["arrays", "metrics"]
            assert list(reply.content["arrays"]) == list(sent.content["arrays"])
            assert f"{CONTROL}x" in reply.content["arrays"]
    assert Scaffold().needs_single_updates == ""


def test_scaffold_goes_on_without_a_site_that_fails() -> None:
    grid = LocalGrid({node: quadratic_app(node, [scaffold]) for node in CENTRES})
    grid.failing = {12}
    strategy = Scaffold(min_train_nodes=3, min_available_nodes=3, fraction_evaluate=0.0)
    result = strategy.start(grid, START, 60)
    assert np.isfinite(result.arrays["x"].numpy()).all()
    assert np.isfinite(strategy.control["x"]).all()


def test_an_app_without_its_half_of_scaffold_is_told() -> None:
    app = ClientApp(mods=[scaffold])

    @app.train()
    def train(message, context):
        return Message(RecordDict({"arrays": message.content["arrays"]}), reply_to=message)

    with pytest.raises(ValueError, match="keep_control"):
        Scaffold(fraction_evaluate=0.0, min_train_nodes=1, min_available_nodes=1).start(
            LocalGrid({1: app}), START, 1
        )


def test_the_stronger_fedproxs_pull_the_closer_it_rests_to_the_pooled_optimum() -> None:
    far = [
        float(np.linalg.norm(learn(FedProx(proximal_mu=mu, **QUIET), 40) - optimum()))
        for mu in (0.0, 3.0, 30.0)
    ]
    assert all(after < before for before, after in pairwise(far))
    assert far[-1] < 0.2 * far[0]


def test_the_proximal_map_rests_where_the_terms_gradient_is_nothing() -> None:
    mu, w = 2.5, np.array([0.3, 0.7])
    model = Quadratic(11)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    with Proximal(optimiser, model.named_parameters(), {"x": torch.from_numpy(w)}, mu):
        for _ in range(400):
            optimiser.zero_grad()
            model.loss().backward()
            optimiser.step()
    v = model.x.detach().numpy()
    np.testing.assert_allclose(CURVATURES[11] * (v - CENTRES[11]) + mu * (v - w), 0, atol=1e-9)
    before = model.x.detach().clone()
    optimiser.zero_grad()
    model.loss().backward()
    optimiser.step()  # outside: nothing pulls
    assert not torch.equal(before, model.x)


# ---- what stays at a site ------------------------------------------------------------------------


class Normed(nn.Module):
    """A network with a normalisation layer and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.norm(self.first(x))))


def data_of(node: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(node)
    x = torch.randn(40, 3, generator=generator) * node + node
    return x, x.sum(1, keepdim=True) / node


def normed_app(node: int, mods: list) -> ClientApp:
    app = ClientApp(mods=mods)

    @app.train()
    def train(message, context):
        model = Normed()
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        x, y = data_of(node)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
        model.train()
        for _ in range(5):
            optimiser.zero_grad()
            nn.functional.mse_loss(model(x), y).backward()
            optimiser.step()
        metrics = MetricRecord({"num-examples": 40})
        content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
        return Message(content=content, reply_to=message)

    @app.evaluate()
    def evaluate(message, context):
        model = Normed()
        arrays = message.content["arrays"]
        model.load_state_dict(arrays.to_torch_state_dict())
        metrics = MetricRecord(
            {"num-examples": 40, "mean": float(arrays["norm.running_mean"].numpy()[0])}
        )
        return Message(content=RecordDict({"metrics": metrics}), reply_to=message)

    return app


def normed_run(mods: list, rounds: int = 3) -> tuple[LocalGrid, ArrayRecord, ArrayRecord]:
    torch.manual_seed(1)
    start = ArrayRecord(Normed().state_dict())
    grid = LocalGrid({node: normed_app(node, mods) for node in (1, 2, 5)})
    return grid, start, FedAvg(**FULL).start(grid, start, rounds).arrays


def test_fedbns_normalisation_layers_are_in_no_message() -> None:
    local = norm_layers(Normed())
    assert set(local) == {
        f"norm.{n}"
        for n in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }
    grid, start, model = normed_run([KeepLocal(local)])
    for reply in grid.replies:
        for record in reply.content.array_records.values():
            for name in local:
                assert record[name].numpy().tobytes() == start[name].numpy().tobytes() or (
                    np.allclose(record[name].numpy(), start[name].numpy(), rtol=1e-6)
                )
            assert not np.array_equal(record["head.weight"].numpy(), start["head.weight"].numpy())
    own = {
        node: context.state["local-parameters"]["norm.running_mean"].numpy()
        for node, context in grid.contexts.items()
    }
    secret = {value.tobytes() for value in own.values()}
    assert len(secret) == 3
    for message in (*grid.sent, *grid.replies):
        for record in message.content.array_records.values():
            assert not {array.numpy().tobytes() for array in record.values()} & secret
    assert not np.array_equal(model["first.weight"].numpy(), start["first.weight"].numpy())


def test_kept_parameters_are_a_sites_own_in_training_and_in_evaluation() -> None:
    grid, _, _ = normed_run([KeepLocal(["norm.*", "head.*"])], rounds=2)
    told = {
        m.metadata.src_node_id: m.content["metrics"]["mean"]
        for m in grid.replies if m.metadata.message_type == "evaluate"
    }  # fmt: skip
    for node, context in grid.contexts.items():
        mine = context.state["local-parameters"]
        assert told[node] == pytest.approx(mine["norm.running_mean"].numpy()[0])
        assert mine["norm.num_batches_tracked"].numpy() == 10


def test_pytorchs_pull_to_a_reference_is_the_one_by_hand() -> None:
    one, two = (learn(FedProx(proximal_mu=3.0, **QUIET), 2, steps=s) for s in (by_hand, by_torch))
    np.testing.assert_allclose(one, two, rtol=1e-12)


def ditto_run(strength: float, rounds: int = 30) -> tuple[LocalGrid, np.ndarray]:
    grid = LocalGrid({node: quadratic_app(node, [Ditto(strength)]) for node in CENTRES})
    return grid, FedAvg(**FULL).start(grid, START, rounds).arrays["x"].numpy()


def own_model(grid: LocalGrid, node: int) -> np.ndarray:
    return np.asarray(grid.contexts[node].state["ditto"]["x"].numpy())


def test_ditto_without_a_pull_gives_each_site_its_own_optimum() -> None:
    grid, shared = ditto_run(0.0)
    np.testing.assert_allclose(shared, learn(FedAvg(**FULL), 30))
    for node, centre in CENTRES.items():
        np.testing.assert_allclose(own_model(grid, node), centre, atol=1e-6)


def test_ditto_with_an_endless_pull_gives_the_shared_model() -> None:
    grid, _ = ditto_run(1e9)
    shared = grid.sent[-6].content["arrays"]["x"].numpy()  # that the last training began with
    for node in CENTRES:
        np.testing.assert_allclose(own_model(grid, node), shared, atol=1e-6)


def test_ditto_in_between_solves_its_own_problem() -> None:
    strength = 4.0
    grid, _ = ditto_run(strength, rounds=60)
    w = grid.sent[-6].content["arrays"]["x"].numpy()
    for node, b in CENTRES.items():
        a = CURVATURES[node]
        np.testing.assert_allclose(
            own_model(grid, node), (a * b + strength * w) / (a + strength), atol=1e-6
        )


def test_dittos_own_models_stay_and_are_what_is_scored() -> None:
    grid, _ = ditto_run(0.5, rounds=3)
    secret = {own_model(grid, node).tobytes() for node in CENTRES}
    for message in (*grid.sent, *grid.replies):
        for record in message.content.array_records.values():
            assert list(record) == ["x"]
            assert not {a.numpy().tobytes() for a in record.values()} & secret
    for reply in grid.replies[-3:]:
        node = reply.metadata.src_node_id
        v = own_model(grid, node)
        assert reply.content["metrics"]["loss"] == pytest.approx(loss_of(node, v))


# ---- one after another, schedules, stopping ------------------------------------------------------


def walk(start: np.ndarray, order: list[int]) -> np.ndarray:
    x = start
    for node in order:
        a, b = CURVATURES[node], CENTRES[node]
        x = b + (1 - RATE * a) ** LOCAL_STEPS * (x - b)
    return x


def test_cyclic_transfer_hands_one_sites_weights_to_the_next() -> None:
    strategy = Cyclic(min_available_nodes=3, fraction_evaluate=0.0)
    np.testing.assert_allclose(learn(strategy, 5), walk(np.zeros(2), [11, 12, 13, 11, 12]))


def test_cyclic_transfer_passes_over_a_site_that_is_away_or_fails() -> None:
    grid = LocalGrid({node: quadratic_app(node) for node in CENTRES})
    grid.failing = {12}
    strategy = Cyclic(min_available_nodes=2, fraction_evaluate=0.0)
    result = strategy.start(grid, START, 4)
    np.testing.assert_allclose(result.arrays["x"].numpy(), walk(np.zeros(2), [11, 13, 11]))
    grid.failing, grid.away = set(), {13}
    result = strategy.start(grid, START, 3)
    np.testing.assert_allclose(result.arrays["x"].numpy(), walk(np.zeros(2), [12, 11, 12]))


def test_shuffled_cycles_visit_every_site_once() -> None:
    grid = LocalGrid({node: quadratic_app(node) for node in CENTRES})
    Cyclic(shuffled=True, min_available_nodes=3, fraction_evaluate=0.0).start(grid, START, 9)
    visited = [message.metadata.dst_node_id for message in grid.sent]
    assert all(set(visited[i : i + 3]) == set(CENTRES) for i in (0, 3, 6))


def test_schedules_give_the_numbers_of_their_formulas() -> None:
    assert [in_steps(1.0, factor=0.5, every=2)(r) for r in range(1, 6)] == [1, 1, 0.5, 0.5, 0.25]
    assert exponential(2.0, factor=0.1)(3) == pytest.approx(0.02)
    curve = cosine(1.0, rounds=11, final=0.2)
    assert (curve(1), curve(6), curve(11)) == pytest.approx((1.0, 0.6, 0.2))
    warm = cosine(1.0, rounds=10, warm_up=3)
    assert [warm(r) for r in (1, 2, 3, 4, 10)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 0.0])
    assert cosine(1.0, rounds=1)(1) == 1.0


@pytest.mark.parametrize("inner", [FedAvg, FedAdam, Scaffold])
def test_a_schedule_is_sent_with_each_round_of_any_strategy(inner: type[Strategy]) -> None:
    mods = [scaffold] if inner is Scaffold else []
    grid = LocalGrid({node: quadratic_app(node, mods) for node in CENTRES})
    Scheduled(inner(**FULL), {"lr": exponential(1.0, factor=0.5)}).start(grid, START, 3)
    told = [m.content["config"]["lr"] for m in grid.sent if m.metadata.message_type == "train"]
    assert told == [1.0] * 3 + [0.5] * 3 + [0.25] * 3


def scripted(values: list[float]) -> tuple[EarlyStopping, LocalGrid]:
    """A strategy whose evaluation is told, with patience 2."""
    return (
        EarlyStopping(FedAvg(fraction_evaluate=0.0, **FULL), "score", of="server", patience=2),
        LocalGrid({node: quadratic_app(node) for node in CENTRES}),
    )


@pytest.mark.parametrize(
    ("scores", "best", "rounds"),
    [
        ([3, 2, 1, 1, 1, 0], 3, 5),
        ([3, 2, 1], 3, 3),
        ([math.nan, math.nan, 1, 1], 1, 2),
        ([5, math.nan, 4, 6, 7, 1], 3, 5),
    ],
)
def test_rounds_end_when_enough_of_them_were_no_better(
    scores: list[float], best: int, rounds: int
) -> None:
    strategy, grid = scripted(scores)
    seen: list[np.ndarray] = []

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        if not server_round:
            return None
        seen.append(arrays["x"].numpy())
        return MetricRecord({"score": float(scores[server_round - 1])})

    result = strategy.start(grid, START, len(scores), evaluate_fn=evaluate)
    assert len(seen) == rounds == len(result.evaluate_metrics_serverapp)
    expected = seen[best - 1] if strategy.best_round else seen[-1]
    np.testing.assert_array_equal(result.arrays["x"].numpy(), expected)


def test_early_stopping_by_the_sites_scores_keeps_the_best_model() -> None:
    strategy = EarlyStopping(FedAvg(**FULL), "loss", patience=3, minimum_change=1e-6)
    grid = LocalGrid({node: quadratic_app(node) for node in CENTRES})
    result = strategy.start(grid, START, 100)
    asked = {m.content["config"]["server-round"] for m in grid.sent}
    assert max(asked) == strategy.best_round + 3 < 100
    scores = {r: m["loss"] for r, m in result.evaluate_metrics_clientapp.items()}
    assert scores[strategy.best_round] <= min(scores.values()) + 1e-6
    trained = [m for m in grid.sent if m.metadata.message_type == "evaluate"]
    best = next(
        m for m in trained if m.content["config"]["server-round"] == strategy.best_round
    )  # fmt: skip
    assert best.content["arrays"]["x"].numpy().tobytes() == result.arrays["x"].numpy().tobytes()


def test_stopping_by_a_training_metric_keeps_what_it_was_measured_on() -> None:
    strategy = EarlyStopping(
        FedAvg(fraction_evaluate=0.0, **FULL), "train_loss", of="train", patience=1
    )
    grid = LocalGrid({node: quadratic_app(node) for node in CENTRES})
    result = strategy.start(grid, START, 100)
    first = [m for m in grid.sent if m.content["config"] is not None]
    assert len(first) // 3 == strategy.best_round + 1
    began = grid.sent[(strategy.best_round - 1) * 3].content["arrays"]["x"].numpy()
    np.testing.assert_array_equal(result.arrays["x"].numpy(), began)


def test_a_greater_metric_can_be_the_better_one() -> None:
    strategy = EarlyStopping(
        FedAvg(fraction_evaluate=0.0, **FULL), "s", of="server", patience=1, greater_is_better=True
    )
    grid = LocalGrid({node: quadratic_app(node) for node in CENTRES})
    strategy.start(
        grid, START, 9, evaluate_fn=lambda r, _: MetricRecord({"s": [0.0, 1.0, 2.0, 1.5][r]})
    )
    assert strategy.best_round == 2


def test_wrappers_say_what_the_strategy_inside_needs() -> None:
    for wrap in (
        lambda s: Scheduled(s, {}),
        lambda s: EarlyStopping(s, "loss"),
        lambda s: EarlyStopping(Scheduled(s, {}), "loss"),
    ):
        assert wrap(Cyclic()).needs_single_updates
        assert wrap(FedAvg()).needs_single_updates == ""
        assert wrap(FedXgbBagging()).strategy is not None


def test_strategies_are_configured_with_what_makes_sense() -> None:
    for wrong in (
        lambda: EarlyStopping(FedAvg(), "x", patience=0),
        lambda: EarlyStopping(FedAvg(), "x", minimum_change=-1),
        lambda: EarlyStopping(EarlyStopping(FedAvg(), "x"), "x"),
        lambda: Ditto(-1.0),
        lambda: KeepLocal([]),
    ):
        with pytest.raises(ValueError):
            wrong()
    assert ConfigRecord({"a": 1})["a"] == 1
