"""The consortium's half: scales by one round of sums, then the rounds."""

from __future__ import annotations

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from learning import rounds, standardising, training
from prognosis_recipe import task

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds; the last model is left in the context's state, as ``arrays``."""
    plan = task.Plan.read(context.run_config)
    model = task.Risk(plan)
    if plan.standardise:
        minimum = int(context.run_config["minimum-nodes"])
        scale = standardising.ask(grid, len(plan.features) + 1, minimum)
        model.mean = torch.from_numpy(scale.means[:-1]).float()
        model.sd = torch.from_numpy(scale.deviations[:-1]).float()
        if not plan.event_share and scale.means[-1] > 0:
            model.event_share = torch.from_numpy(scale.means[-1:]).float()
    scored = plan.held_out > 0 or bool(plan.split_column)
    strategy = rounds.strategy_of(task.chosen(context.run_config, plan), evaluate=scored)
    arrays = training.arrays(model)
    rounds.run(grid, context, arrays, strategy=strategy, fixed=("mean", "sd", "event_share"))
