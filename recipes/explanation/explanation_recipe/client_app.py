"""The hospital's half: train, score, and explain as means over its patients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn

from explanation_recipe import task
from explanation_recipe.patients import Patients, patients
from explanation_recipe.plan import Plan
from learning import standardising, training
from learning.releases import Release

app = ClientApp()


@app.train("moments")
def moments(message: Message, context: Context) -> Message:
    """Return what the federation's means and standard deviations are made of."""
    _, found = _patients(context)
    return standardising.answer(message, found.rows[~found.held_out])


@app.train()
def train(message: Message, context: Context) -> Message:
    """Return the weights after local training, ``train_loss`` and ``num-examples``."""
    plan, found = _patients(context)
    model = _model(message, "arrays", plan)
    part = task.Part(found, ~found.held_out)
    local = training.Local.of(context.run_config, message)
    done = training.train(model, part, task.loss, local)
    metrics = MetricRecord({"train_loss": done.loss, "num-examples": len(part)})
    content = RecordDict({"arrays": training.arrays(model), "metrics": metrics})
    return Message(content=content, reply_to=message)


@app.train("explain")
def explain(message: Message, context: Context) -> Message:
    """Return the explanation of the model that came as ``model``, in the form of ``arrays``.

    All of the hospital's patients are in it, those held out too: they are asked, not learned from.
    """
    plan, found = _patients(context)
    model = _model(message, "model", plan)
    drafts = Path(str(context.node_config.get("drafts-path", "/drafts")))
    wanted = drafts if context.run_config["drafts"] else None
    made = task.explain(model, found, plan, wanted)
    arrays = ArrayRecord({n: Array(np.ascontiguousarray(v)) for n, v in made.arrays.items()})
    metrics = MetricRecord({"completeness_gap": made.gap, "num-examples": made.patients})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Return ``eval_loss``, ``eval_accuracy`` and ``num-examples`` of the patients held out."""
    plan, found = _patients(context)
    part = task.Part(found, found.held_out)
    loss, accuracy = task.evaluate(_model(message, "arrays", plan), part)
    metrics = MetricRecord(
        {"eval_loss": loss, "eval_accuracy": accuracy, "num-examples": len(part)}
    )
    return Message(content=RecordDict({"metrics": metrics}), reply_to=message)


def _patients(context: Context) -> tuple[Plan, Patients]:
    plan = Plan.read(context.run_config)
    return plan, patients(Release.of(context.node_config).folder, plan)


def _model(message: Message, name: str, plan: Plan) -> nn.Module:
    model = task.build_model(plan)
    training.load(model, message.content.array_records[name])
    return model
