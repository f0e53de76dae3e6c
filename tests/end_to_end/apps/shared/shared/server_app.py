"""Strategies that Flower doesn't have."""

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp import ServerApp

from learning.strategies import Cyclic, EarlyStopping, Scaffold, Scheduled, exponential

app = ServerApp()


@app.main()
def main(grid, context):
    """Run the rounds of one of them."""
    kind = Cyclic if context.run_config["strategy"] == "cyclic" else Scaffold
    strategy = EarlyStopping(
        Scheduled(kind(), {"lr": exponential(0.05, factor=0.9)}), "loss", patience=9
    )
    start = ArrayRecord({"w": Array(np.zeros(2)), "own.bias": Array(np.zeros(1))})
    strategy.start(grid, start, context.run_config["rounds"])
