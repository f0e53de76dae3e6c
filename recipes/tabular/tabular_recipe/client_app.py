"""The hospital's half: train on its own patients, score on those held out."""

from __future__ import annotations

from pathlib import Path

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn

from tabular_recipe import task

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Return the weights after local training, ``train_loss`` and ``num-examples``."""
    plan, model = _prepare(message, context)
    frame = task.read_table(Path(str(context.node_config["data-path"])), plan)
    training, _ = task.split(frame, plan)
    data = task.examples(training, plan)
    loss = task.train(model, data, plan)
    metrics = MetricRecord({"train_loss": loss, "num-examples": len(data)})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
    return Message(content=content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Return ``eval_loss``, ``eval_brier`` and ``num-examples`` of the held-out patients."""
    plan, model = _prepare(message, context)
    frame = task.read_table(Path(str(context.node_config["data-path"])), plan)
    _, held_out = task.split(frame, plan)
    scores = task.evaluate(model, task.examples(held_out, plan))
    metrics = MetricRecord(
        {"eval_loss": scores.loss, "eval_brier": scores.brier, "num-examples": scores.n}
    )
    return Message(content=RecordDict({"metrics": metrics}), reply_to=message)


def _prepare(message: Message, context: Context) -> tuple[task.Plan, nn.Module]:
    plan = task.Plan.read(context.run_config)
    model = task.build_model(plan)
    model.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    return plan, model
