"""One gradient step a round on a table, with noise and a pause as asked."""

import time
from pathlib import Path

import numpy as np
import polars as pl
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


def rows(context: Context) -> tuple[np.ndarray, np.ndarray]:
    """Return features (n, 3) and outcome (n) of the table in the folder."""
    [path] = Path(str(context.node_config["data-path"])).glob("tables/*.parquet")
    table = pl.read_parquet(path)
    age = (table["age"].to_numpy() - 50) / 20
    arm = (table["arm"] == "B").to_numpy().astype(float)
    y = (table["outcome"] == "yes").to_numpy().astype(float)
    return np.stack([np.ones_like(age), age, arm], axis=1), y


@app.train()
def train(message: Message, context: Context) -> Message:
    """Take one step."""
    config = context.run_config
    x, y = rows(context)
    if config["shout"]:
        raise ValueError(str(x.tolist()))
    w = message.content["arrays"]["w"].numpy()
    w[:3] -= config["rate"] * x.T @ (x @ w[:3] - y) / len(y)
    if config["noise"]:
        w += (config["noise"] * np.random.normal(size=w.shape)).astype(w.dtype)
    calls = context.state.get("calls", ConfigRecord({"n": 0}))
    calls["n"] += 1
    context.state["calls"] = calls
    time.sleep(float(config["pause"]))
    metrics = MetricRecord({"num-examples": len(y), "calls": calls["n"]})
    content = RecordDict({"arrays": ArrayRecord({"w": Array(w)}), "metrics": metrics})
    return Message(content=content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Return the mean squared error."""
    x, y = rows(context)
    w = message.content["arrays"]["w"].numpy()
    loss = float(np.mean((x @ w[:3] - y) ** 2))
    metrics = MetricRecord({"num-examples": len(y), "loss": loss})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=message)
