"""The hospital's half: learn from still volumes that are moved here, score on those held out."""

from __future__ import annotations

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fetal_motion_recipe import task
from fetal_motion_recipe.network import SlicePoses
from learning import training
from learning.releases import Release

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Return the weights after local training, ``train_loss`` and ``num-examples``."""
    plan, model = _prepare(message, context)
    found = task.volumes(Release.of(context.node_config).folder, plan, False)
    local = training.Local.of(context.run_config, message)
    done = training.train(model, found.examples, task.loss_of(plan, local.round), local)
    metrics = MetricRecord({"train_loss": done.loss, "num-examples": found.subjects})
    content = RecordDict({"arrays": training.arrays(model), "metrics": metrics})
    return Message(content=content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Return the scores over volumes of patients held out, and those of no correction."""
    plan, model = _prepare(message, context)
    found = task.volumes(Release.of(context.node_config).folder, plan, True)
    scores = task.evaluate(model, found.examples, plan)
    metrics = MetricRecord(
        {
            "eval_error_mm": scores.error_mm,
            "eval_planned_error_mm": scores.planned_error_mm,
            "eval_psnr": scores.psnr,
            "eval_planned_psnr": scores.planned_psnr,
            "num-examples": found.subjects,
        }
    )
    return Message(content=RecordDict({"metrics": metrics}), reply_to=message)


def _prepare(message: Message, context: Context) -> tuple[task.Plan, SlicePoses]:
    plan = task.Plan.read(context.run_config)
    model = task.build_model(plan)
    training.load(model, training.received(message))
    return plan, model
