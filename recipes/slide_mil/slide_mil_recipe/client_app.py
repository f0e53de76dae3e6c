"""The hospital's half: learn from its own slides, score on those of patients held out.

Attention says which tiles counted. It is never part of a reply.
"""

from __future__ import annotations

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from learning import training, weights
from learning.releases import Release
from slide_mil_recipe import task
from slide_mil_recipe.bags import Bags, bags
from slide_mil_recipe.network import BagClassifier

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Return the weights after local training, ``train_loss`` and ``num-examples``."""
    found, model = _prepare(message, context, False)
    local = training.Local.of(context.run_config, message)
    done = training.train(model, found.examples, task.loss, local)
    metrics = MetricRecord({"train_loss": done.loss, "num-examples": found.subjects})
    content = RecordDict({"arrays": training.arrays(model), "metrics": metrics})
    return Message(content=content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Return ``eval_loss``, ``eval_auc`` and ``num-examples`` of the patients held out."""
    found, model = _prepare(message, context, True)
    scores = task.evaluate(model, found.examples)
    metrics = MetricRecord(
        {"eval_loss": scores.loss, "eval_auc": scores.auc, "num-examples": found.subjects}
    )
    return Message(content=RecordDict({"metrics": metrics}), reply_to=message)


def _prepare(message: Message, context: Context, held_out: bool) -> tuple[Bags, BagClassifier]:
    plan = task.Plan.read(context.run_config)
    model = task.build_model(plan)
    training.load(model, training.received(message))
    folder = Release.of(context.node_config).folder
    return bags(folder, plan, held_out, weights.folder_of(context.node_config)), model
