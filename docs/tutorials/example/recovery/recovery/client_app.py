"""What runs at each hospital: some gradient steps on its own patients, or a score."""

from __future__ import annotations

import numpy as np
import polars as pl
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


def data(context: Context) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs (1, age, NIHSS, on a common scale) and outcomes of this hospital's release."""
    folder = context.node_config["data-path"]
    table = pl.read_parquet(f"{folder}/tables/stroke.parquet").drop_nulls()
    x = np.column_stack([np.ones(len(table)), (table["age"] - 70) / 12, (table["nihss"] - 9) / 5])
    return x, (table["good_outcome"] == "yes").to_numpy().astype(float)


def loss(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    """Return the mean log loss of weights ``w``."""
    return float(np.mean(np.logaddexp(0, x @ w) - y * (x @ w)))


@app.train()
def train(message: Message, context: Context) -> Message:
    """Return the weights after ``local-steps`` steps, the loss, and how many patients there are."""
    (w,) = message.content["arrays"].to_numpy_ndarrays()
    x, y = data(context)
    for _ in range(int(context.run_config["local-steps"])):
        w = w - 0.5 * x.T @ (1 / (1 + np.exp(-x @ w)) - y) / len(y)
    metrics = MetricRecord({"train_loss": loss(x, y, w), "num-examples": len(y)})
    return Message(RecordDict({"arrays": ArrayRecord([w]), "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Return the loss of the common weights here."""
    (w,) = message.content["arrays"].to_numpy_ndarrays()
    x, y = data(context)
    metrics = MetricRecord({"eval_loss": loss(x, y, w), "num-examples": len(y)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
