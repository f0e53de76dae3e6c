"""L-BFGS over nodes against the pooled rows' own solution, where plain descent crawls."""

from __future__ import annotations

import itertools
import logging

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from scipy.optimize import minimize

from learning.strategies import QuasiNewton
from tests.learning.simulation import LocalGrid

logging.getLogger("flwr").setLevel(logging.WARNING)
RIDGE = 0.01
RATE = 0.5
SIZES = {11: 40, 12: 90, 13: 30}
FULL = {"min_train_nodes": 3, "min_available_nodes": 3, "fraction_evaluate": 0.0}


def rows(node: int) -> tuple[np.ndarray, np.ndarray]:
    """Ten columns, of which eight say nearly the same, and a yes or no."""
    chance = np.random.default_rng(node)
    shared = chance.normal(size=(SIZES[node], 1))
    inputs = shared + 0.1 * chance.normal(size=(SIZES[node], 8))
    inputs = np.hstack([inputs, chance.normal(size=(SIZES[node], 2))])
    return inputs, (inputs[:, 0] + inputs[:, 8] + chance.normal(size=SIZES[node]) > 0) * 1.0


def loss_and_gradient(weights: np.ndarray, nodes: list[int]) -> tuple[float, np.ndarray]:
    """The mean log loss over these nodes' rows, without the penalty."""
    inputs, truth = (np.concatenate(part) for part in zip(*map(rows, nodes), strict=True))
    score = inputs @ weights
    loss = float(np.mean(np.logaddexp(0, score) - truth * score))
    return loss, inputs.T @ (1 / (1 + np.exp(-score)) - truth) / len(truth)


def objective(weights: np.ndarray, nodes: list[int]) -> float:
    return loss_and_gradient(weights, nodes)[0] + RIDGE / 2 * float(weights @ weights)


def solution(nodes: list[int]) -> np.ndarray:
    """What a solver of the pooled rows finds."""
    found = minimize(objective, np.zeros(10), args=(nodes,), tol=1e-12)
    return np.asarray(found.x)


def app(node: int) -> ClientApp:
    """One step of descent on all rows, in 32 bits."""
    made = ClientApp()

    @made.train()
    def train(message: Message, context: Context) -> Message:
        weights = message.content["arrays"]["w"].numpy()[0].astype(float)
        loss, gradient = loss_and_gradient(weights, [node])
        moved = weights - message.content["config"]["learning-rate"] * (gradient + RIDGE * weights)
        metrics = MetricRecord({"train_loss": loss, "num-examples": SIZES[node]})
        arrays = ArrayRecord({"w": Array(moved[None].astype(np.float32))})
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    return made


def run(strategy: FedAvg, rounds: int, grid: LocalGrid | None = None) -> np.ndarray:
    grid = grid or LocalGrid({node: app(node) for node in SIZES})
    result = strategy.start(
        grid,
        ArrayRecord({"w": Array(np.zeros((1, 10), np.float32))}),
        rounds,
        train_config=ConfigRecord({"learning-rate": RATE}),
    )
    return np.asarray(result.arrays["w"].numpy()[0], float)


def test_in_fifteen_rounds_it_is_where_averaging_isnt_in_fifty() -> None:
    best = objective(solution(list(SIZES)), list(SIZES))
    solved = run(QuasiNewton(weight_decay=RIDGE, **FULL), 15)
    averaged = run(FedAvg(**FULL), 50)
    assert objective(solved, list(SIZES)) - best < 1e-5
    assert objective(averaged, list(SIZES)) - best > 1e-4


def test_with_thirty_rounds_the_weights_are_those_of_the_pooled_rows() -> None:
    solved = run(QuasiNewton(weight_decay=RIDGE, **FULL), 30)
    np.testing.assert_allclose(solved, solution(list(SIZES)), atol=0.005)


def test_the_model_of_a_round_is_never_worse_than_that_of_the_one_before() -> None:
    class Watched(QuasiNewton):
        def aggregate_train(self, server_round, replies):  # type: ignore[no-untyped-def]
            arrays, metrics = super().aggregate_train(server_round, replies)
            losses.append(objective(arrays["w"].numpy()[0], list(SIZES)))
            told.append(metrics["train_loss"])
            return arrays, metrics

    losses: list[float] = []
    told: list[float] = []
    run(Watched(weight_decay=RIDGE, **FULL), 20)
    assert all(later <= before + 1e-6 for before, later in itertools.pairwise(losses))
    assert losses[-1] < losses[0]


def test_with_other_nodes_than_before_it_ends_at_the_solution_of_those_who_are_there() -> None:
    grid = LocalGrid({node: app(node) for node in SIZES})

    class Leaving(QuasiNewton):
        def configure_train(self, server_round, arrays, config, grid):  # type: ignore[no-untyped-def]
            if server_round == 6:
                grid.away = {12}
            return super().configure_train(server_round, arrays, config, grid)

    two = {"min_train_nodes": 2, "min_available_nodes": 2, "fraction_evaluate": 0.0}
    solved = run(Leaving(weight_decay=RIDGE, **two), 25, grid)
    assert objective(solved, [11, 13]) - objective(solution([11, 13]), [11, 13]) < 1e-5


def test_without_the_loss_it_is_said_which_metric_it_needs() -> None:
    with pytest.raises(ValueError, match="needs the metric loss"):
        run(QuasiNewton(loss="loss", **FULL), 1)
