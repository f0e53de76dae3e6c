"""A query, rounds over half of the sites, and messages of a kind of its own."""

import random

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import ServerApp

from odd.strategy import Odd

app = ServerApp()


def start():
    """Arrays of every kind, of which some hold nothing."""
    return ArrayRecord(
        {
            "half": Array(np.linspace(0, 1, 3).astype(np.float16)),
            "none": Array(np.zeros((2, 0), np.float32)),
            "whole": Array(np.array(3, np.int64)),
            "flags": Array(np.array([True, False, True])),
            "scalar": Array(np.array(1.5)),
            "columns": Array(np.asfortranarray(np.arange(6.0).reshape(2, 3))),
            "bytes": Array(np.arange(4, dtype=np.uint8)),
        }
    )


def learn(grid, rounds):
    """Return the model, and what else was told, alike wherever it runs."""
    random.seed(5)
    nodes = list(grid.get_node_ids())
    asked = [RecordDict({"q": ConfigRecord({"what": ["rows"]})}) for _ in nodes]
    messages = [Message(q, node, "query.count") for q, node in zip(asked, nodes, strict=True)]
    counts = [r.content["metrics"]["count"] for r in grid.send_and_receive(messages, timeout=300)]
    strategy = Odd(fraction_train=0.5, fraction_evaluate=0.5, min_available_nodes=3)
    told = ConfigRecord({"lr": 0.1})
    result = strategy.start(grid, start(), rounds, train_config=told)
    content = RecordDict({"arrays": result.arrays, "last": ConfigRecord({"x": [1, 2]})})
    polish = [Message(content, node, "train.polish") for node in nodes]
    polished = grid.send_and_receive(polish, timeout=300)
    found = {
        "counts": sorted(counts),
        "train": {k: dict(v) for k, v in result.train_metrics_clientapp.items()},
        "evaluate": {k: dict(v) for k, v in result.evaluate_metrics_clientapp.items()},
        "seen": sorted(strategy.seen.values()),
    }
    return polished[-1].content["arrays"], found


@app.main()
def main(grid, context):
    """Leave more in the state than a model."""
    arrays, found = learn(grid, context.run_config["rounds"])
    for name, value in found.items():
        print("found", name, value)
    context.state["history"] = ConfigRecord({"names": ["a", "b"], "numbers": [1, 2, 3]})
    context.state["scores"] = MetricRecord({"list": [1.0, 2.0], "n": 1})
    context.state["arrays"] = arrays
