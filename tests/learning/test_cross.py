"""Cross-site evaluation under Flower alone: who fails, who is best, whose figures are whose."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from learning.strategies import CrossEvaluation
from tests.learning.simulation import LocalGrid

TARGETS = {11: 0.0, 12: 8.0, 13: 16.0}
START = ArrayRecord({"w": Array(np.array([8.0]))})


def site(target: float, weight: int = 1) -> ClientApp:
    """A site whose model goes half of the way to its target in each round."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        w = message.content["arrays"]["w"].numpy()
        arrays = ArrayRecord({"w": Array(w + (target - w) / 2)})
        content = RecordDict({"arrays": arrays, "m": MetricRecord({"num-examples": weight})})
        return Message(content=content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        off = float(abs(message.content["arrays"]["w"].numpy()[0] - target))
        metrics = MetricRecord({"num-examples": weight, "loss": off, "score": -off, "far": off})
        return Message(content=RecordDict({"m": metrics}), reply_to=message)

    return app


def grid() -> LocalGrid:
    return LocalGrid({node: site(target, node) for node, target in TARGETS.items()})


def cells(result: object, own_rounds: int) -> dict[str, float]:
    found = result.evaluate_metrics_clientapp  # type: ignore[attr-defined]
    return {k: v for number, row in found.items() if number > own_rounds for k, v in row.items()}


def test_each_sites_model_is_its_own_and_the_result_is_their_mean() -> None:
    result = CrossEvaluation(min_available_nodes=3).start(grid(), START, num_rounds=2)
    table = cells(result, 2)
    own = {11: 2.0, 12: 8.0, 13: 14.0}
    for model, w in own.items():
        for node, target in TARGETS.items():
            assert table[f"loss/{model}/{node}"] == pytest.approx(abs(w - target))
    mean = sum(node * w for node, w in own.items()) / sum(own)
    assert result.arrays["w"].numpy()[0] == pytest.approx(mean)
    assert table["loss/mean/12"] == pytest.approx(abs(mean - 8.0))
    assert len(table) == 4 * 3 * 3


@pytest.mark.parametrize(
    ("named", "best"),
    [
        ({}, 14.0),  # the smallest loss: the last round's
        ({"best_by": "score", "larger_is_better": True}, 14.0),
        ({"best_by": "far", "larger_is_better": True}, 12.0),  # the first round's
        ({"best_by": "unknown"}, 14.0),  # without a figure, the last
    ],
)
def test_the_best_is_by_the_metric_that_was_named(named: dict[str, object], best: float) -> None:
    result = CrossEvaluation(min_available_nodes=3, **named).start(grid(), START, num_rounds=2)
    assert cells(result, 2)["loss/13/13"] == pytest.approx(16.0 - best)


def test_a_site_that_fails_has_no_row_and_the_others_have_theirs() -> None:
    one = grid()
    one.failing = {12}
    result = CrossEvaluation(min_available_nodes=3).start(one, START, num_rounds=1)
    assert set(cells(result, 1)) == {
        f"{metric}/{model}/{node}"
        for metric in ("loss", "score", "far")
        for model in (11, 13, "mean")
        for node in (11, 13)
    }


def test_a_sites_model_goes_to_the_others_only_for_the_table() -> None:
    one = grid()
    CrossEvaluation(min_available_nodes=3).start(one, START, num_rounds=2)
    training = [m for m in one.sent if m.metadata.message_type == "train"]
    assert len(training) == 2 * 3
    for message in training[3:]:
        w = message.content["arrays"]["w"].numpy()[0]
        assert w == (8.0 + TARGETS[message.metadata.dst_node_id]) / 2
