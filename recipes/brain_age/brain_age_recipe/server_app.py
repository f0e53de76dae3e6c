"""The consortium's half: the rounds."""

from __future__ import annotations

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from brain_age_recipe import task
from learning import rounds, training

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds; the last model is left in the context's state, as ``arrays``."""
    plan = task.Plan.read(context.run_config)
    arrays = training.arrays(task.Network(plan))
    rounds.run(grid, context, arrays, evaluate=plan.held_out > 0)
