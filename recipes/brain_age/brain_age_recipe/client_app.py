"""The hospital's half: train on its own scans, score on those held out."""

from __future__ import annotations

from pathlib import Path

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from brain_age_recipe import task
from learning import training, weights
from learning.training import Local

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Return the weights after local training, ``train_loss`` and ``num-examples``."""
    plan, model = _prepare(message, context)
    scans, _ = task.of_release(Path(str(context.node_config["data-path"])), plan)
    local = Local.of(context.run_config, message)
    if plan.weights and local.round == 1:
        weights.begin(model, weights.read(plan.weights, weights.folder_of(context.node_config)))
    augment = task.augmented if plan.augment else None
    done = training.train(model, scans, task.loss, local, augment=augment)
    metrics = MetricRecord({"train_loss": done.loss, "num-examples": done.examples})
    content = RecordDict({"arrays": training.arrays(model), "metrics": metrics})
    return Message(content=content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Return the errors in years, and ``num-examples``, of the held-out subjects."""
    plan, model = _prepare(message, context)
    _, held_out = task.of_release(Path(str(context.node_config["data-path"])), plan)
    scores = task.evaluate(model, held_out, plan)
    metrics = MetricRecord(
        {
            "eval_error_years": scores.error_years,
            "eval_bias_years": scores.bias_years,
            "num-examples": scores.n,
        }
    )
    return Message(content=RecordDict({"metrics": metrics}), reply_to=message)


def _prepare(message: Message, context: Context) -> tuple[task.Plan, task.Network]:
    plan = task.Plan.read(context.run_config)
    model = task.Network(plan)
    training.load(model, training.received(message))
    return plan, model
