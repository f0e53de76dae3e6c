"""FedAvg, a round after another, for each has its own deadline."""

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

from unruly.plans import PLANS, SECONDS

app = ServerApp()


@app.main()
def main(grid, context):
    """Run the rounds of the plan."""
    arrays = ArrayRecord({"w": Array(np.zeros(3, np.float32))})
    for amiss in PLANS[context.run_config["amiss"]]:
        strategy = FedAvg(fraction_evaluate=0.0, min_available_nodes=3)
        told = ConfigRecord({"amiss": amiss})
        seconds = SECONDS.get(amiss, 300)
        arrays = strategy.start(grid, arrays, 1, timeout=seconds, train_config=told).arrays
