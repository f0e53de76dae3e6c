"""The hospital's half: the partial likelihood of its own patients, who are a stratum."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from learning import standardising, training
from learning.training import Local
from prognosis_recipe import task

app = ClientApp()


@app.train("moments")
def moments(message: Message, context: Context) -> Message:
    """Return what the federation's means and standard deviations are made of."""
    patients, _ = task.of_release(_release(context), task.Plan.read(context.run_config))
    return standardising.answer(message, np.column_stack([patients.rows, patients.events]))


@app.train()
def train(message: Message, context: Context) -> Message:
    """Return the weights after local training, ``train_loss`` and ``num-examples``.

    The loss is over patients, in the federation's events for each: so a hospital weighs as many as
    its patients, none tells how few events it has, and one step for each round is a step of the
    stratified partial likelihood.
    """
    plan, model = _prepare(message, context)
    patients, _ = task.of_release(_release(context), plan)
    local = Local.of(context.run_config, message)
    torch.set_num_threads(1)  # a table is too small to be shared out
    loss = functools.partial(task.loss, ties=plan.ties)
    done = training.train(model, patients.tensors, loss, local)
    metrics = MetricRecord({"train_loss": done.loss, "num-examples": done.examples})
    content = RecordDict({"arrays": training.arrays(model), "metrics": metrics})
    return Message(content=content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Return ``eval_loss``, ``eval_concordance`` and ``num-examples`` of held-out patients."""
    plan, model = _prepare(message, context)
    _, held_out = task.of_release(_release(context), plan)
    scores = task.evaluate(model, held_out, plan.ties)
    metrics = MetricRecord(
        {
            "eval_loss": scores.loss,
            "eval_concordance": scores.concordance,
            "num-examples": scores.n if scores.pairs else 0,
        }
    )
    return Message(content=RecordDict({"metrics": metrics}), reply_to=message)


def _prepare(message: Message, context: Context) -> tuple[task.Plan, task.Risk]:
    plan = task.Plan.read(context.run_config)
    model = task.Risk(plan)
    training.load(model, training.received(message))
    return plan, model


def _release(context: Context) -> Path:
    return Path(str(context.node_config["data-path"]))
