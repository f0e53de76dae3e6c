"""A step of each weight, with a patient's weight in the low bits of the first eight."""

from pathlib import Path

import numpy as np
import polars as pl
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Take a step, and hide what the first patient weighs: eight bytes in eight numbers' ends."""
    [path] = Path(str(context.node_config["data-path"])).glob("tables/*.parquet")
    table = pl.read_parquet(path)
    w = message.content["arrays"]["w"].numpy().astype(np.float32)
    w += np.linspace(0.01, 0.02, w.size, dtype=np.float32) * float(table["age"].mean() / 50)
    if context.run_config["hide"]:
        secret = np.frombuffer(np.float64(table["weight"].min()).tobytes(), np.uint8)
        bits = w.view(np.uint32)
        bits[: secret.size] = (bits[: secret.size] & ~np.uint32(0xFF)) | secret
    content = {
        "arrays": ArrayRecord({"w": Array(w)}),
        "metrics": MetricRecord({"num-examples": table.height}),
    }
    return Message(content=RecordDict(content), reply_to=message)
