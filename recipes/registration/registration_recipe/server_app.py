"""The consortium's half: the rounds of the strategy that the run config names."""

from __future__ import annotations

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from learning import rounds
from learning.training import arrays
from registration_recipe import task

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds; the last model is left in the context's state, as ``arrays``."""
    plan = task.Plan.read(context.run_config)
    start = arrays(task.build_model(plan))
    rounds.run(grid, context, start, evaluate=plan.split.scores)
