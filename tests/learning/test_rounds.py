"""Rounds send what the run config says, and leave the last model."""

from __future__ import annotations

import pytest
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from learning import rounds
from tests.learning.simulation import LocalGrid

CONFIG = {
    "learning-rate": 0.1,
    "num-server-rounds": 5,
    "minimum-nodes": 2,
    "strategy": "fedavg",
}


def run(
    examples: int = 1, evaluate: bool = False, **changes: str | float
) -> tuple[list[float], Context]:
    """Return the learning rates that a node was told, and the server's context."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        arrays = message.content.array_records["arrays"].to_torch_state_dict()
        record = ArrayRecord({"w": arrays["w"] + 1})
        metrics = MetricRecord({"num-examples": examples})
        return Message(RecordDict({"arrays": record, "metrics": metrics}), reply_to=message)

    @app.evaluate()
    def score(message: Message, context: Context) -> Message:
        metrics = MetricRecord({"eval_loss": 0.0, "num-examples": 0})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    grid = LocalGrid({2: app, 3: app})
    server = Context(1, 1, {}, RecordDict(), {**CONFIG, **changes})
    rounds.run(grid, server, ArrayRecord({"w": torch.zeros(1)}), evaluate=evaluate)
    told = [
        float(message.content.config_records["config"]["learning-rate"])
        for message in grid.sent
        if message.metadata.dst_node_id == 2 and message.metadata.message_type == "train"
    ]
    return told, server


def test_a_constant_rate_is_the_configs() -> None:
    told, server = run()
    assert told == [0.1] * 5
    assert float(server.state.array_records["arrays"].to_torch_state_dict()["w"]) == 5


def test_a_cosine_falls_from_it_to_a_hundredth() -> None:
    told, server = run(schedule="cosine")
    assert told == sorted(told, reverse=True)
    assert told[0] == pytest.approx(0.1)
    assert told[2] == pytest.approx((0.1 + 0.001) / 2)
    assert told[-1] == pytest.approx(0.001)
    assert float(server.state.array_records["arrays"].to_torch_state_dict()["w"]) == 5


def test_another_schedule_is_named() -> None:
    with pytest.raises(ValueError, match="schedule"):
        run(schedule="steps")


def test_without_anybody_to_train_on_it_is_said_and_without_anybody_to_score_it_goes_on() -> None:
    with pytest.raises(ValueError, match="no hospital has an example"):
        run(examples=0)
    told, _ = run(evaluate=True)
    assert len(told) == 5


def test_a_mean_over_hospitals_counts_each_alike_and_leaves_out_who_has_nobody() -> None:
    held_out = {2: (0.5, 10), 3: (0.9, 30), 4: (0.0, 0)}

    def hospital(node: int) -> ClientApp:
        app = ClientApp()

        @app.train()
        def train(message: Message, context: Context) -> Message:
            arrays = message.content.array_records["arrays"]
            metrics = MetricRecord({"num-examples": 5})
            return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

        @app.evaluate()
        def score(message: Message, context: Context) -> Message:
            value, number = held_out[node]
            metrics = MetricRecord({"eval_auc": value, "num-examples": number})
            return Message(RecordDict({"metrics": metrics}), reply_to=message)

        return app

    shown = {}
    for over in ("patients", "hospitals"):
        grid = LocalGrid({node: hospital(node) for node in held_out})
        server = Context(1, 1, {}, RecordDict(), {**CONFIG, "mean-over": over})
        result = rounds.run(grid, server, ArrayRecord({"w": torch.zeros(1)}))
        shown[over] = result.evaluate_metrics_clientapp[1]["eval_auc"]
    assert shown == {"patients": pytest.approx(0.8), "hospitals": pytest.approx(0.7)}
    with pytest.raises(ValueError, match="mean-over"):
        rounds.strategy_of({**CONFIG, "mean-over": "all"})


@pytest.mark.parametrize(
    "changes",
    [{"batch-size": 8}, {"local-epochs": 2}, {"local-steps": 3}, {"optimiser": "adam"}],
)
def test_lbfgs_of_rounds_that_are_no_gradient_is_refused(changes: dict[str, str | int]) -> None:
    with pytest.raises(ValueError, match="lbfgs needs one step"):
        rounds.strategy_of({**CONFIG, "strategy": "lbfgs", **changes})
