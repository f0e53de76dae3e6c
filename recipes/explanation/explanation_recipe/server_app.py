"""The consortium's half: the rounds, then one question for the explanation of what they made."""

from __future__ import annotations

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from explanation_recipe import task
from explanation_recipe.plan import Plan
from learning import rounds, standardising, training

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds; the model and its explanation are left in the context's state, ``arrays``."""
    plan = Plan.read(context.run_config)
    minimum = int(context.run_config["minimum-nodes"])
    model = task.build_model(plan)
    if isinstance(model, task.TableModel):
        scale = standardising.ask(grid, len(plan.features), minimum)
        model.mean = torch.from_numpy(scale.means).float()
        model.sd = torch.from_numpy(scale.deviations).float()
    fixed = () if plan.images else ("mean", "sd")
    start = training.arrays(model)
    rounds.run(grid, context, start, evaluate=plan.held_out > 0, fixed=fixed)
    trained = context.state.array_records["arrays"]
    explained = _explained(grid, trained, plan, minimum)
    model_arrays = {f"model.{name}": array for name, array in trained.items()}
    context.state["arrays"] = ArrayRecord({**model_arrays, **explained})


def _explained(grid: Grid, model: ArrayRecord, plan: Plan, minimum: int) -> dict[str, Array]:
    """Ask every hospital for its explanation; return the mean over all their patients."""
    nodes = sorted(grid.get_node_ids())
    if len(nodes) < minimum:
        raise RuntimeError(f"{len(nodes)} hospitals are there and {minimum} are needed")
    form = ArrayRecord({name: Array(value) for name, value in task.template(plan).items()})
    content = RecordDict({"model": model, "arrays": form})
    asked = [Message(content, dst_node_id=node, message_type="train.explain") for node in nodes]
    replies = [reply for reply in grid.send_and_receive(asked) if reply.has_content()]
    sums = {name: np.zeros_like(value, np.float64) for name, value in task.template(plan).items()}
    total = 0.0
    for reply in sorted(replies, key=lambda reply: int(reply.metadata.src_node_id)):
        weight = float(reply.content.metric_records["metrics"]["num-examples"])
        total += weight
        for name, array in reply.content.array_records["arrays"].items():
            sums[name] = sums[name] + weight * array.numpy()
    if total <= 0:
        raise ValueError("no hospital has enough patients for an explanation")
    means = {name: value / total for name, value in sums.items()}
    # What a hospital kept back is in no numerator and no denominator.
    for name in list(means):
        part = name.partition(".")[0]
        share = means[f"{part}.reported"]
        if name != f"{part}.reported":
            means[name] = np.where(share > 0, means[name] / np.where(share > 0, share, 1), 0)
    return {name: Array(value.astype(np.float32)) for name, value in means.items()}
