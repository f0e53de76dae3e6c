"""The consortium's half: one question to every hospital, with the model that draws."""

from __future__ import annotations

from collections.abc import Iterable

from flwr.app import ArrayRecord, ConfigRecord, Context, Message
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from learning.training import arrays
from preannotation_recipe import task

app = ServerApp()


class Asking(FedAvg):
    """Evaluates and trains nothing; ``model`` is what it asked with."""

    model: ArrayRecord | None = None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return the question to each hospital."""
        self.model = arrays
        return super().configure_evaluate(server_round, arrays, config, grid)


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Ask once. The model is the one that the job begins with, or comes from approved weights."""
    plan = task.Plan.read(context.run_config)
    minimum = int(context.run_config["minimum-nodes"])
    strategy = Asking(
        fraction_train=0.0,
        min_train_nodes=0,
        min_evaluate_nodes=minimum,
        min_available_nodes=minimum,
    )
    strategy.start(grid, arrays(plan.network.build()), num_rounds=1)
    context.state["arrays"] = strategy.model
