"""A step of a linear model, or a tree, on the rows of a folder."""

from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import adaptiveclipping_mod, fixedclipping_mod


def clipping(message, context, app):
    """Flower's own mods, for the strategies that want them."""
    name = message.content["config"].get("strategy", "")
    if name.endswith("ClientSideFixedClipping"):
        return fixedclipping_mod(message, context, app)
    if name.endswith("ClientSideAdaptiveClipping"):
        return adaptiveclipping_mod(message, context, app)
    return app(message, context)


app = ClientApp(mods=[clipping])


def rows(context):
    """Return inputs (n, 3) and outcome (n)."""
    data = np.loadtxt(Path(str(context.node_config["data-path"])) / "rows.csv", delimiter=",")
    return data[:, :-1], data[:, -1]


@app.train()
def train(message, context):
    """Take a step, or add a tree."""
    x, y = rows(context)
    arrays = message.content["arrays"]
    config = message.content["config"]
    if "Xgb" in config["strategy"]:
        return tree(message, x, y)
    w, b = arrays["w"].numpy(), arrays["b"].numpy()
    wrong = x @ w + b[0, 0] - y
    loss = float(np.mean(wrong**2) / 2)
    w -= 0.1 * (x.T @ wrong) / len(y)
    b -= 0.1 * wrong.mean()
    metrics = MetricRecord({"num-examples": len(y), "train_loss": loss})
    trained = ArrayRecord({"w": Array(w), "b": Array(b)})
    return Message(RecordDict({"arrays": trained, "metrics": metrics}), reply_to=message)


def tree(message, x, y):
    """Boost by one tree, as Flower's XGBoost example does."""
    import xgboost

    settings = {"max_depth": 2, "nthread": 1, "base_score": 0.5}
    data = xgboost.DMatrix(x, label=y)
    if message.content["config"]["server-round"] == 1:
        booster = xgboost.train(settings, data, num_boost_round=1)
    else:
        booster = xgboost.Booster(params=settings)
        booster.load_model(bytearray(message.content["arrays"]["0"].numpy().tobytes()))
        booster.update(data, booster.num_boosted_rounds())
        if message.content["config"]["strategy"] == "FedXgbBagging":
            booster = booster[booster.num_boosted_rounds() - 1 :]
    model = ArrayRecord([np.frombuffer(booster.save_raw("json"), dtype=np.uint8)])
    metrics = MetricRecord({"num-examples": len(y)})
    return Message(RecordDict({"arrays": model, "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message, context):
    """Only FedXgbCyclic asks, whatever it is told."""
    metrics = MetricRecord({"num-examples": len(rows(context)[1]), "size": 1.0})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
