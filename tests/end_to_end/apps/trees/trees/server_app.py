"""The server's half."""

import numpy as np
import xgboost as xgb
from flwr.app import ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedXgbBagging

from trees.task import parameters

app = ServerApp()


@app.main()
def main(grid, context):
    """Grow an ensemble and save it."""
    config = context.run_config
    strategy = FedXgbBagging(
        fraction_train=config["fraction-train"], fraction_evaluate=config["fraction-evaluate"]
    )
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord([np.frombuffer(b"", dtype=np.uint8)]),
        num_rounds=config["num-server-rounds"],
    )
    booster = xgb.Booster(params=parameters(config))
    booster.load_model(bytearray(result.arrays["0"].numpy().tobytes()))
    booster.save_model("final_model.json")
    print("trees", booster.num_boosted_rounds())
