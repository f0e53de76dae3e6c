"""A site's half: a mod and the app each keep a state, in records of every kind."""

from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp


def counting(message, context, app):
    """Keep what was asked."""
    calls = context.state.get("calls", ConfigRecord({"kinds": [], "raw": b"", "flags": []}))
    calls["kinds"] = [*calls["kinds"], message.metadata.message_type]
    calls["raw"] += b"\x00"
    calls["flags"] = [*calls["flags"], True]
    context.state["calls"] = calls
    reply = app(message, context)
    reply.content["metrics"]["calls"] = len(calls["kinds"])
    return reply


app = ClientApp(mods=[counting])


def rows(context):
    """Return the table."""
    return np.loadtxt(Path(str(context.node_config["data-path"])) / "rows.csv", delimiter=",")


@app.query("count")
def count(message, context):
    """Say how many rows there are."""
    metrics = MetricRecord({"count": len(rows(context))})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


@app.train()
def train(message, context):
    """Change some arrays, by what was kept too."""
    config, data = message.content["config"], rows(context)
    if (config["layers"], config["flags"], config["bytes"], config["big"], config["empty"]) != (
        ["a", "b"], [True, False], b"\x00\xff", 2**40, "",
    ) or message.content["extra"]["round"] != config["server-round"]:  # fmt: skip
        raise ValueError("the message changed on its way")
    arrays = {key: array.numpy() for key, array in message.content["arrays"].items()}
    step = np.float16(config["lr"]) * data[:, :3].mean(0)
    half = arrays["half"] + step.astype(np.float16)
    if (prior := context.state.get("prior")) is not None:
        half = (half + prior["half"].numpy()) / np.float16(2)
    arrays["half"] = half
    arrays["scalar"] = np.asarray(arrays["scalar"] + data[0, 0])
    arrays["columns"] = arrays["columns"] * 0.5
    kept = {"half": Array(half), "flag": Array(np.array([True]))}
    context.state["prior"] = ArrayRecord(kept)
    metrics = MetricRecord({"num-examples": len(data), "lists": [1.0, 2.5], "whole": [1, 2]})
    trained = ArrayRecord({key: Array(array) for key, array in arrays.items()})
    return Message(RecordDict({"arrays": trained, "metrics": metrics}), reply_to=message)


@app.train("polish")
def polish(message, context):
    """Give back what came."""
    metrics = MetricRecord({"num-examples": 5})
    content = RecordDict({"arrays": message.content["arrays"], "metrics": metrics})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message, context):
    """Score by one array."""
    loss = float(message.content["arrays"]["scalar"].numpy())
    metrics = MetricRecord({"num-examples": len(rows(context)), "loss": loss})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
