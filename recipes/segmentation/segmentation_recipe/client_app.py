"""The hospital's half: train on its own outlined images, score on those of patients held out."""

from __future__ import annotations

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn

from learning import segmentation, weights
from learning.releases import Release
from learning.segmentation import Pairs
from learning.training import Local, arrays, load, received, train

app = ClientApp()


@app.train()
def learn(message: Message, context: Context) -> Message:
    """Return the weights after local training, ``train_loss`` and ``num-examples``."""
    pairs, model = _prepare(message, context)
    local = Local.of(context.run_config, message)
    digest = str(context.run_config["weights"])
    if digest and local.round == 1:
        weights.begin(model, weights.read(digest, weights.folder_of(context.node_config)))
    images, _ = segmentation.examples(Release.of(context.node_config).folder, pairs)
    change = segmentation.augment if context.run_config["augment"] else None
    loss = segmentation.loss_of(pairs.loss)
    done = train(model, pairs.training(images, local), loss, local, augment=change)
    metrics = MetricRecord({"train_loss": done.loss, "num-examples": done.examples})
    content = RecordDict({"arrays": arrays(model), "metrics": metrics})
    return Message(content=content, reply_to=message)


@app.evaluate()
def score(message: Message, context: Context) -> Message:
    """Return ``eval_loss`` and ``eval_dice`` of the images of patients held out."""
    pairs, model = _prepare(message, context)
    _, held_out = segmentation.examples(Release.of(context.node_config).folder, pairs)
    found = segmentation.evaluate(model, held_out, pairs)
    metrics = MetricRecord(
        {"eval_loss": found.loss, "eval_dice": found.dice, "num-examples": found.n}
    )
    return Message(content=RecordDict({"metrics": metrics}), reply_to=message)


def _prepare(message: Message, context: Context) -> tuple[Pairs, nn.Module]:
    pairs = Pairs.read(context.run_config)
    model = pairs.network.build()
    load(model, received(message))
    return pairs, model
