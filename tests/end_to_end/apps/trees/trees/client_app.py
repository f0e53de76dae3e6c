"""A site's half: boosts by a tree each round."""

import numpy as np
import xgboost as xgb
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from trees.task import load_data, parameters

app = ClientApp()


@app.train()
def train(message, context):
    """Return the trees that are new."""
    data, number = load_data(context.node_config["data-path"])
    settings = parameters(context.run_config)
    rounds = context.run_config["local-epochs"]
    if message.content["config"]["server-round"] == 1:
        booster = xgb.train(settings, data, num_boost_round=rounds)
    else:
        booster = xgb.Booster(params=settings)
        booster.load_model(bytearray(message.content["arrays"]["0"].numpy().tobytes()))
        for _ in range(rounds):
            booster.update(data, booster.num_boosted_rounds())
        booster = booster[booster.num_boosted_rounds() - rounds : booster.num_boosted_rounds()]
    model = ArrayRecord([np.frombuffer(booster.save_raw("json"), dtype=np.uint8)])
    content = RecordDict({"arrays": model, "metrics": MetricRecord({"num-examples": number})})
    return Message(content=content, reply_to=message)


@app.evaluate()
def evaluate(message, context):
    """Return the AUC."""
    data, number = load_data(context.node_config["data-path"])
    booster = xgb.Booster(params=parameters(context.run_config))
    booster.load_model(bytearray(message.content["arrays"]["0"].numpy().tobytes()))
    told = booster.eval_set([(data, "valid")], booster.num_boosted_rounds() - 1)
    metrics = MetricRecord(
        {"auc": float(told.split("\t")[1].split(":")[1]), "num-examples": number}
    )
    return Message(content=RecordDict({"metrics": metrics}), reply_to=message)
