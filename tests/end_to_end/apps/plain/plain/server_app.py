"""Looks who is there, trains, evaluates at the server, and saves to the working folder."""

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
    """Report the one number of the model, but for the last round."""
    return MetricRecord({"value": float(arrays["0"].numpy()[0])}) if server_round < 2 else None


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run."""
    messages = []
    for node in grid.get_node_ids():
        asked = {"node": node, "names": ["a", "b"], "raw": b"\x00", "flags": [True]}
        content = RecordDict({"config": ConfigRecord(asked)})
        messages.append(Message(content, node, "query.identity"))
    replies = grid.send_and_receive(messages)
    print("known", sorted(reply.content["metrics"]["same"] for reply in replies))
    result = FedAvg().start(
        grid=grid,
        initial_arrays=ArrayRecord([np.zeros(1)]),
        num_rounds=int(context.run_config["rounds"]),
        evaluate_fn=evaluate,
    )
    np.savez("final_model", *result.arrays.to_numpy_ndarrays())
    print("saved", np.load("final_model.npz")["arr_0"].tolist())
