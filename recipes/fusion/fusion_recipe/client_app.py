"""The hospital's half: learn from its own pairs, score on those held out, fuse where asked to."""

from __future__ import annotations

from pathlib import Path

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fusion_recipe import drafts, task
from learning import training
from learning.registration import Cascade
from learning.releases import Release

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Return the weights after local training, ``train_loss`` and ``num-examples``."""
    plan, model = _prepare(message, context)
    pairs = task.pairs(Release.of(context.node_config).folder, plan, False)
    local = training.Local.of(context.run_config, message)
    done = training.train(model, pairs.examples, task.loss_of(plan), local)
    metrics = MetricRecord({"train_loss": done.loss, "num-examples": pairs.subjects})
    content = RecordDict({"arrays": training.arrays(model), "metrics": metrics})
    return Message(content=content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Return the scores of the pairs of patients held out; the fusions of all stay as drafts."""
    plan, model = _prepare(message, context)
    folder = Release.of(context.node_config).folder
    pairs = task.pairs(folder, plan, True)
    scores = task.evaluate(model, pairs.examples, plan)
    place = Path(str(context.node_config.get("drafts-path", "/drafts")))
    last = training.Local.of(context.run_config, message).round
    if context.run_config["drafts"] and last == context.run_config["num-server-rounds"]:
        for held_out in (False, True):
            drafts.write(model, task.pairs(folder, plan, held_out), place)
    metrics = MetricRecord(
        {
            "eval_information": scores.information,
            "eval_information_before": scores.information_before,
            "eval_difference": scores.difference,
            "eval_difference_before": scores.difference_before,
            "eval_folded_share": scores.folded_share,
            "num-examples": pairs.subjects,
        }
    )
    return Message(content=RecordDict({"metrics": metrics}), reply_to=message)


def _prepare(message: Message, context: Context) -> tuple[task.Plan, Cascade]:
    plan = task.Plan.read(context.run_config)
    model = task.build_model(plan)
    training.load(model, training.received(message))
    return plan, model
