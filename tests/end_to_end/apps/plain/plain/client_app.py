"""Adds one, and says who it is."""

from pathlib import Path

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.query("identity")
def identity(msg: Message, context: Context) -> Message:
    """Say whether the server calls this node as it calls itself."""
    asked = msg.content["config"]
    known = asked["node"] == context.node_id == msg.metadata.dst_node_id
    whole = (asked["names"], asked["raw"], asked["flags"]) == (["a", "b"], b"\x00", [True])
    metrics = MetricRecord({"same": int(known and whole)})
    if context.run_config["shout"]:
        metrics["shouted"] = 1
    return Message(RecordDict({"metrics": metrics}), reply_to=msg)


@app.train()
def train(msg: Message, context: Context) -> Message:
    """Add one to everything; count a batch and no patients."""
    arrays = [array + 1 for array in msg.content["arrays"].to_numpy_ndarrays()]
    metrics = MetricRecord({"num-examples": 1})
    return Message(RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context) -> Message:
    """Report a list."""
    here = Path(context.node_config["dataset-path"]).is_dir()
    metrics = MetricRecord({"num-examples": 1, "parts": [0.25, 0.75, float(here)]})
    return Message(RecordDict({"metrics": metrics}), reply_to=msg)
