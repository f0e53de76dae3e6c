"""A site's half: a head that stays in the context's state, and a mod that writes a log."""

import os
import time

import torch
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn

from conventional.task import Net, load_data
from conventional.task import train as train_fn


def logging_mod(folder):
    """Return a mod that keeps a log beside the app."""
    os.makedirs(folder, exist_ok=True)  # noqa: PTH103

    def mod(message, context, app):
        began = time.time()
        reply = app(message, context)
        name = os.path.join(folder, str(message.metadata.dst_node_id))  # noqa: PTH118
        with open(name, "a", encoding="utf-8") as file:  # noqa: PTH123
            number = message.content["config"]["server-round"]
            file.write(f"{number} {message.metadata.message_type} {time.time() - began}\n")
        return reply

    return mod


app = ClientApp(mods=[logging_mod(".runs_history/")])


@app.lifespan()
def lifespan(context):
    """Open and close something for each message."""
    context.state["opened"] = MetricRecord({"times": 1.0})
    yield


def model_of(message, context):
    """Return the model with this site's own head, if it has one."""
    net = Net()
    net.load_state_dict(message.content["arrays"].to_torch_state_dict())
    if "classification-head" in context.state:
        net.fc2.load_state_dict(context.state["classification-head"].to_torch_state_dict())
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    return net.to(device)


@app.train()
def train(message, context):
    """Train, and keep the head."""
    partition, partitions = (context.node_config[k] for k in ("partition-id", "num-partitions"))
    if not 0 <= partition < partitions:
        raise ValueError("no such partition")
    net = model_of(message, context)
    loader, _ = load_data(context.node_config["data-path"])
    loss = train_fn(
        net,
        loader,
        context.run_config["local-epochs"],
        message.content["config"]["lr"],
        context.run_config["optimizer.momentum"],
    )
    context.state["classification-head"] = ArrayRecord(net.fc2.state_dict())
    metrics = MetricRecord({"train_loss": loss, "num-examples": len(loader.dataset)})
    content = RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": metrics})
    return Message(content=content, reply_to=message)


@app.evaluate()
def evaluate(message, context):
    """Score with the site's own head."""
    net = model_of(message, context)
    _, loader = load_data(context.node_config["data-path"])
    net.eval()
    with torch.no_grad():
        losses = [float(nn.functional.cross_entropy(net(x), y)) for x, y in loader]
    own = float("classification-head" in context.state)
    metrics = MetricRecord(
        {"eval_loss": sum(losses) / len(losses), "own": own, "num-examples": len(loader.dataset)}
    )
    return Message(content=RecordDict({"metrics": metrics}), reply_to=message)
