"""FedAvg over a vector that starts at zero."""

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid, context):
    """Run the rounds."""
    config = context.run_config
    minimum = config["minimum"]
    strategy = FedAvg(
        min_train_nodes=minimum, min_evaluate_nodes=minimum, min_available_nodes=minimum
    )
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord({"w": Array(np.zeros(config["size"], np.float32))}),
        num_rounds=config["rounds"],
        timeout=300,
    )
