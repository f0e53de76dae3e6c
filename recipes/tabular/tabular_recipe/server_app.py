"""The consortium's half: federated averaging, each hospital weighted by its examples."""

from __future__ import annotations

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from tabular_recipe import task

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds; the last model is left in the context's state, as ``arrays``."""
    config = context.run_config
    plan = task.Plan.read(config)
    minimum = int(config["minimum-nodes"])
    # Every hospital is asked to score as well, unless nobody is held out.
    scored = plan.held_out > 0
    strategy = FedAvg(
        min_train_nodes=minimum,
        fraction_evaluate=1.0 if scored else 0.0,
        min_evaluate_nodes=minimum if scored else 0,
        min_available_nodes=minimum,
    )
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(task.build_model(plan).state_dict()),
        num_rounds=int(config["num-server-rounds"]),
    )
    context.state["arrays"] = result.arrays
