"""The hospital's half: learn from its own pairs, score on those of patients held out."""

from __future__ import annotations

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from learning import training
from learning.registration import Cascade
from learning.releases import Release
from registration_recipe import task

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
    """Return the scores of the pairs of patients held out, means over pairs."""
    plan, model = _prepare(message, context)
    pairs = task.pairs(Release.of(context.node_config).folder, plan, True)
    scores = task.evaluate(model, pairs.examples, plan)
    metrics = MetricRecord(
        {
            "eval_correlation": scores.correlation,
            "eval_correlation_before": scores.correlation_before,
            "eval_folded_share": scores.folded_share,
            "eval_inverse_error": scores.inverse_error,
            "num-examples": pairs.subjects,
        }
    )
    return Message(content=RecordDict({"metrics": metrics}), reply_to=message)


def _prepare(message: Message, context: Context) -> tuple[task.Plan, Cascade]:
    plan = task.Plan.read(context.run_config)
    model = task.build_model(plan)
    training.load(model, training.received(message))
    return plan, model
