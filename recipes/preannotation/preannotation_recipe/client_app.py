"""The hospital's half: draw on its own images, leave the drafts here, answer with counts."""

from __future__ import annotations

from pathlib import Path

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from learning import weights
from learning.releases import Release
from learning.training import load, received
from preannotation_recipe import task

app = ClientApp()
DRAFTS = Path("/drafts")


@app.evaluate()
def draw(message: Message, context: Context) -> Message:
    """Leave a draft for each image; return how many there are, and how many show nothing."""
    plan = task.Plan.read(context.run_config)
    drafts = Path(str(context.node_config.get("drafts-path", DRAFTS)))
    if not drafts.is_dir():
        raise ValueError("this hospital or the project allows no drafts")
    model = plan.network.build()
    load(model, received(message))
    digest = str(context.run_config["weights"])
    if digest:
        weights.begin(model, weights.read(digest, weights.folder_of(context.node_config)))
    images, drawn, empty = 0, 0, 0
    for assets in task.images(Release.of(context.node_config).folder, plan):
        labels = task.draw(model, assets, plan)
        images += 1
        if not labels.any():
            empty += 1
            continue
        (drafts / task.name(assets, plan)).write_bytes(task.encoded(labels, assets, plan))
        drawn += 1
    metrics = MetricRecord({"num-examples": images, "drafts": drawn, "empty": empty})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=message)
