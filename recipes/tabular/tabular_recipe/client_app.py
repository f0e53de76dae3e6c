"""The hospital's half: train on its own patients, score on those held out."""

from __future__ import annotations

from pathlib import Path

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn

from learning import standardising
from tabular_recipe import private, task

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Return the weights after local training, ``train_loss`` and ``num-examples``."""
    plan, model = _prepare(message, context)
    data, _ = task.of_release(Path(str(context.node_config["data-path"])), plan)
    if plan.dp_sgd:
        private.train(model, data, plan)
        # The exact loss would tell what the noise hides.
        measured = {"epsilon": private.epsilon(plan, _steps(context, plan))}
    else:
        measured = {"train_loss": task.train(model, data, plan)}
    metrics = MetricRecord({**measured, "num-examples": len(data)})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
    return Message(content=content, reply_to=message)


@app.train("moments")
def moments(message: Message, context: Context) -> Message:
    """Return what the federation's means and standard deviations are made of."""
    plan = task.Plan.read(context.run_config)
    if not plan.by_sums:
        raise ValueError("standardise: sums weren't asked for")
    frame = task.read_table(Path(str(context.node_config["data-path"])), plan)
    training, _ = task.split(frame, plan)
    return standardising.answer(message, task.raw(training, plan))


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Return ``eval_loss``, ``eval_brier`` and ``num-examples`` of the held-out patients."""
    plan, model = _prepare(message, context)
    training, others = task.of_release(Path(str(context.node_config["data-path"])), plan)
    scores = task.evaluate(model, others)
    metrics = MetricRecord(
        {"eval_loss": scores.loss, "eval_brier": scores.brier, "num-examples": scores.n}
    )
    if plan.membership_report:
        auc, found = task.membership(model, training, others)
        metrics["attack_auc"], metrics["attack_tpr"] = auc, found
    return Message(content=RecordDict({"metrics": metrics}), reply_to=message)


def _steps(context: Context, plan: task.Plan) -> int:
    """Count this round's steps, and return those of all rounds so far."""
    spent = context.state.metric_records.get("spent", MetricRecord())
    steps = int(spent.get("steps", 0)) + plan.local_epochs
    context.state["spent"] = MetricRecord({"steps": steps})
    return steps


def _prepare(message: Message, context: Context) -> tuple[task.Plan, nn.Module]:
    plan = task.Plan.read(context.run_config)
    model = task.build_model(plan)
    model.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    return plan, model
