"""A line through ages and weights, whose level stays at the site."""

from pathlib import Path

import numpy as np
import polars as pl
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from learning.mods import KeepLocal, corrections, keep_control, scaffold


def chosen(message, context, app):
    """Use SCAFFOLD's mod with its strategy only."""
    if context.run_config["strategy"] == "scaffold":
        return scaffold(message, context, app)
    return app(message, context)


app = ClientApp(mods=[chosen, KeepLocal(["own.*"])])


def rows(context):
    """Return inputs (n, 2) and outcome (n)."""
    [path] = Path(context.node_config["data-path"]).glob("tables/*.parquet")
    table = pl.read_parquet(path)
    age = (table["age"].to_numpy() - 50) / 20
    return np.stack([np.ones_like(age), age], 1), (table["weight"].to_numpy() - 60) / 10


@app.train()
def train(message, context):
    """Take five steps."""
    x, y = rows(context)
    arrays, rate = message.content["arrays"], message.content["config"]["lr"]
    w, own = arrays["w"].numpy(), arrays["own.bias"].numpy()
    correction = corrections(message).get("w", 0.0)
    total = np.zeros(2)
    for _ in range(5):
        gradient = x.T @ (x @ w + own - y) / len(y)
        own = own - rate * (x @ w + own - y).mean()
        total += gradient
        w = w - rate * (gradient + correction)
    trained = ArrayRecord({"w": Array(w), "own.bias": Array(own)})
    metrics = MetricRecord({"num-examples": len(y)})
    reply = Message(RecordDict({"arrays": trained, "metrics": metrics}), reply_to=message)
    if context.run_config["strategy"] == "scaffold":
        keep_control(reply, {"w": total / 5})
    return reply


@app.evaluate()
def evaluate(message, context):
    """Return the loss with the site's own level."""
    x, y = rows(context)
    arrays = message.content["arrays"]
    wrong = x @ arrays["w"].numpy() + arrays["own.bias"].numpy() - y
    metrics = MetricRecord({"num-examples": len(y), "loss": float((wrong**2).mean())})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
