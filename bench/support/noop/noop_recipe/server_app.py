"""The server's half: FedAvg over arrays of zeros, of the size asked for."""

import numpy as np
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds; no evaluation."""
    tensors, values = int(context.run_config["tensors"]), int(context.run_config["values"])
    generator = np.random.default_rng(0)
    model = [generator.standard_normal(values // tensors, dtype=np.float32) for _ in range(tensors)]
    FedAvg(fraction_evaluate=0.0, min_train_nodes=3, min_available_nodes=3).start(
        grid=grid,
        initial_arrays=ArrayRecord(model),
        num_rounds=int(context.run_config["num-server-rounds"]),
    )
