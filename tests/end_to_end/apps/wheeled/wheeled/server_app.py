"""FedAvg over one number, without evaluation."""

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid, context):
    """Run the rounds."""
    FedAvg(fraction_evaluate=0.0, min_train_nodes=2, min_available_nodes=2).start(
        grid=grid,
        initial_arrays=ArrayRecord({"w": Array(np.zeros(1))}),
        num_rounds=context.run_config["rounds"],
    )
