"""A gradient step on a table; one site does what it is told instead."""

import time
from pathlib import Path

import numpy as np
import polars as pl
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()
RATE = 0.1


def go_amiss(how, table, w, metrics):
    """Return arrays that are no update; or none at all."""
    changed = {
        "nan": {"w": np.full_like(w, np.nan)},
        "infinite": {"w": np.full_like(w, -np.inf)},
        "huge": {"w": np.array([3e38, -3e38, 1e30], np.float32)},
        "odd-key": {"v": w},
        "one-more": {"w": w, "v": w},
        "odd-shape": {"w": w.reshape(3, 1)},
        "odd-dtype": {"w": w.astype(np.float64)},
        "none": {},
    }
    if how == "raise":
        first = table["weight"][0]
        raise ValueError(" ".join(("Zebediah", "Quillfeather", "weighs", repr(first))))
    if how == "slow":
        time.sleep(600)
    metrics |= {
        "heavy": {"num-examples": 10**12},
        "negative": {"num-examples": -60},
        "no-weight": {"num-examples": float("nan")},
        "odd-metric": {"loss": float("nan")},
    }.get(how, {})
    return changed.get(how, {"w": w})


@app.train()
def train(message, context):
    """Take one step."""
    [path] = Path(str(context.node_config["data-path"])).glob("tables/*.parquet")
    table = pl.read_parquet(path)
    age = (table["age"].to_numpy() - 50) / 20
    arm = (table["arm"] == "B").to_numpy().astype(float)
    y = (table["outcome"] == "yes").to_numpy().astype(float)
    x = np.stack([np.ones_like(age), age, arm], axis=1)
    w = message.content["arrays"]["w"].numpy()
    w -= RATE * x.T @ (x @ w - y) / len(y)
    arrays, metrics = {"w": w}, {"num-examples": len(y), "loss": 0.0}
    if context.node_config["partition-id"] == context.run_config["place"]:
        arrays = go_amiss(message.content["config"]["amiss"], table, w, metrics)
    content = RecordDict(
        {
            "arrays": ArrayRecord({key: Array(value) for key, value in arrays.items()}),
            "metrics": MetricRecord(metrics),
        }
    )
    return Message(content=content, reply_to=message)
