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


def run(**changes: str | float) -> tuple[list[float], Context]:
    """Return the learning rates that a node was told, and the server's context."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        arrays = message.content.array_records["arrays"].to_torch_state_dict()
        record = ArrayRecord({"w": arrays["w"] + 1})
        metrics = MetricRecord({"num-examples": 1})
        return Message(RecordDict({"arrays": record, "metrics": metrics}), reply_to=message)

    grid = LocalGrid({2: app, 3: app})
    server = Context(1, 1, {}, RecordDict(), {**CONFIG, **changes})
    rounds.run(grid, server, ArrayRecord({"w": torch.zeros(1)}), evaluate=False)
    told = [
        float(message.content.config_records["config"]["learning-rate"])
        for message in grid.sent
        if message.metadata.dst_node_id == 2
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
