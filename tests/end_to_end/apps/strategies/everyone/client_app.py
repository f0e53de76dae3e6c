"""A step of a linear model, or a tree, on the rows of a folder."""

from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import (
    LocalDpMod,
    adaptiveclipping_mod,
    arrays_size_mod,
    fixedclipping_mod,
    message_size_mod,
)

from learning.mods import Ditto, KeepLocal, corrections, keep_control, scaffold
from learning.mods.ditto import reference_of

local_dp = LocalDpMod(clipping_norm=0.05, sensitivity=0.01, epsilon=1.0, delta=1e-5)


def seeded_local_dp(message, context, app):
    """Flower's mod, whose noise is NumPy's, with a draw that is the same wherever it runs."""
    np.random.seed(message.content["config"]["server-round"])
    return local_dp(message, context, app)


def sizes(message, context, app):
    """Flower's two mods that log sizes, one around the other."""
    return message_size_mod(message, context, lambda m, c: arrays_size_mod(m, c, app))


MODS = {
    "DifferentialPrivacyClientSideFixedClipping": fixedclipping_mod,
    "DifferentialPrivacyClientSideAdaptiveClipping": adaptiveclipping_mod,
    "Scaffold": scaffold,
    "FedBN": KeepLocal(["b"]),
    "Ditto": Ditto(0.5),
    "LocalDpMod": seeded_local_dp,
    "SizeMods": sizes,
}


def chosen(message, context, app):
    """The mod that a strategy wants, if it wants one."""
    mod = MODS.get(message.content["config"].get("strategy", ""))
    return mod(message, context, app) if mod else app(message, context)


app = ClientApp(mods=[chosen])


def rows(context):
    """Return inputs (n, 3) and outcome (n)."""
    folder = Path(str(context.node_config["data-path"]))
    if (file := folder / "rows.csv").exists():
        data = np.loadtxt(file, delimiter=",")
        return data[:, :-1], data[:, -1]
    import polars as pl

    [file] = folder.glob("tables/*.parquet")
    table = pl.read_parquet(file)
    age = (table["age"].to_numpy() - 50) / 20
    arm = (table["arm"] == "B").to_numpy().astype(float)
    y = (table["outcome"] == "yes").to_numpy().astype(float)
    return np.stack([np.ones_like(age), age, arm], axis=1), y


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
    gradients = {"w": (x.T @ wrong) / len(y), "b": np.full((1, 1), wrong.mean())}
    pull = config.get("proximal-mu", 0.0)
    reference = {key: array.numpy() for key, array in reference_of(message).items()}
    correction = corrections(message)
    for key, value in {"w": w, "b": b}.items():
        drift = pull * (value - reference[key])
        value[...] -= 0.1 * (gradients[key] + correction.get(key, 0.0) + drift)
    metrics = MetricRecord({"num-examples": len(y), "train_loss": loss})
    trained = ArrayRecord({"w": Array(w), "b": Array(b)})
    reply = Message(RecordDict({"arrays": trained, "metrics": metrics}), reply_to=message)
    if config["strategy"] == "Scaffold":
        keep_control(reply, gradients)
    return reply


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
