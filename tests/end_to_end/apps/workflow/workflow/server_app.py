"""FedAvg in the default workflow, evaluated at the server too."""

import numpy as np
from flwr.common import Context, ndarrays_to_parameters
from flwr.server import Grid, LegacyContext, ServerApp, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow

app = ServerApp()


def evaluate(server_round, parameters, config):
    """Report twice the model's largest number."""
    return 2 * float(parameters[0].max()), {"loss_at_home": 0.0}


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run."""
    least = int(context.run_config["minimum"])
    given = ndarrays_to_parameters([np.zeros(2)]) if context.run_config["initial"] else None
    strategy = FedAvg(
        min_fit_clients=2,
        min_evaluate_clients=2,
        min_available_clients=least,
        initial_parameters=given,
        evaluate_fn=evaluate,
    )
    config = ServerConfig(num_rounds=int(context.run_config["rounds"]))
    fit = SecAggPlusWorkflow(3, 2) if context.run_config["summed"] else None
    DefaultWorkflow(fit)(grid, LegacyContext(context=context, config=config, strategy=strategy))
