"""The consortium's half: federated averaging, each hospital weighted by its examples."""

from __future__ import annotations

import torch
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp

from learning import rounds, standardising
from tabular_recipe import task

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds; the last model is left in the context's state, as ``arrays``."""
    plan = task.Plan.read(context.run_config)
    weights = task.build_model(plan).state_dict()
    fixed: tuple[str, ...] = ()
    if plan.by_sums:
        found = standardising.ask(
            grid, len(plan.features), int(context.run_config["minimum-nodes"])
        )
        weights["scale.mean"] = torch.from_numpy(found.means).float()
        weights["scale.sd"] = torch.from_numpy(found.deviations).float()
        fixed = ("scale.mean", "scale.sd")
    # Every hospital is asked to score as well, unless nobody is held out.
    scored = plan.held_out > 0 or bool(plan.split_column)
    rounds.run(grid, context, ArrayRecord(weights), evaluate=scored, fixed=fixed)
