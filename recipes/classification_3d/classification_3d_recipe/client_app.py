"""The hospital's half: train on its own volumes, score on those of patients held out."""

from __future__ import annotations

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn

from classification_3d_recipe import task
from learning import classification
from learning.releases import Release
from learning.training import Local, arrays, load, received, train

app = ClientApp()


@app.train()
def learn(message: Message, context: Context) -> Message:
    """Return the weights after local training, ``train_loss`` and ``num-examples``."""
    plan, model = _prepare(message, context)
    local = Local.of(context.run_config, message)
    if local.round == 1:
        plan.classifier.begin(model, context.node_config)
    training, _ = task.examples(Release.of(context.node_config).folder, plan)
    loss = plan.classifier.loss([item.label for item in training.items])
    done = train(model, training, loss, local, augment=task.augment(plan))
    metrics = MetricRecord({"train_loss": done.loss, "num-examples": done.examples})
    content = RecordDict({"arrays": arrays(model), "metrics": metrics})
    return Message(content=content, reply_to=message)


@app.evaluate()
def score(message: Message, context: Context) -> Message:
    """Return the scores of the volumes of patients held out."""
    plan, model = _prepare(message, context)
    _, held_out = task.examples(Release.of(context.node_config).folder, plan)
    found = classification.evaluate(model, held_out, plan.classifier.classes)
    return Message(content=RecordDict({"metrics": found.metrics()}), reply_to=message)


def _prepare(message: Message, context: Context) -> tuple[task.Plan, nn.Module]:
    plan = task.Plan.read(context.run_config)
    model = task.build_model(plan)
    load(model, received(message))
    return plan, model
