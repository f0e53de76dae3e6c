"""The hospital's half: train on patches of its own images, score on those held out."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from despeckling_recipe import task
from learning import training
from learning.training import Local

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Return the weights after local training, ``train_loss`` and ``num-examples``."""
    plan, model = _prepare(message, context)
    images, _ = task.of_release(Path(str(context.node_config["data-path"])), plan)
    local = Local.of(context.run_config, message)

    def patches(batch: Any, generator: torch.Generator) -> Any:
        return task.hide(batch, generator, plan)

    loss = functools.partial(task.loss, plan=plan)
    done = training.train(model, images, loss, local, augment=patches)
    metrics = MetricRecord({"train_loss": done.loss, "num-examples": done.examples})
    content = RecordDict({"arrays": training.arrays(model), "metrics": metrics})
    return Message(content=content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Return ``eval_loss``, ``eval_looks_gain`` and ``num-examples`` of the held-out images."""
    plan, model = _prepare(message, context)
    _, held_out = task.of_release(Path(str(context.node_config["data-path"])), plan)
    scores = task.evaluate(model, held_out, plan)
    metrics = MetricRecord(
        {"eval_loss": scores.loss, "eval_looks_gain": scores.gain, "num-examples": scores.n}
    )
    return Message(content=RecordDict({"metrics": metrics}), reply_to=message)


def _prepare(message: Message, context: Context) -> tuple[task.Plan, task.Denoiser]:
    plan = task.Plan.read(context.run_config)
    model = task.Denoiser(plan)
    training.load(model, training.received(message))
    return plan, model
