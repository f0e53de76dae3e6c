"""The consortium's half: one question to every hospital, with the model that draws."""

from __future__ import annotations

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from learning.training import arrays
from preannotation_recipe import task

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Ask once. The model is the one that the job begins with, or comes from approved weights."""
    plan = task.Plan.read(context.run_config)
    minimum = int(context.run_config["minimum-nodes"])
    strategy = FedAvg(
        fraction_train=0.0,
        min_train_nodes=0,
        min_evaluate_nodes=minimum,
        min_available_nodes=minimum,
    )
    result = strategy.start(grid, arrays(plan.network.build()), num_rounds=1)
    context.state["arrays"] = result.arrays
