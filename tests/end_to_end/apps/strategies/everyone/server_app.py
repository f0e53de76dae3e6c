"""Every strategy, one after another; their models are left together."""

from flwr.app import ArrayRecord
from flwr.serverapp import ServerApp

from everyone.strategies import MAKE, learn

app = ServerApp()


@app.main()
def main(grid, context):
    """Run all."""
    found = ArrayRecord()
    for name in MAKE:
        for key, array in learn(name, grid, context.run_config["rounds"]).items():
            found[f"{name}/{key}"] = array
    context.state["arrays"] = found
