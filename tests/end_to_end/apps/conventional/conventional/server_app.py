"""The server's half."""

import torch
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp import ServerApp
from torch.utils.data import DataLoader, TensorDataset

from conventional.strategy import CustomFedAvg
from conventional.task import Net

app = ServerApp()


@app.lifespan()
def lifespan(context):
    """Say when the app begins and ends."""
    print("the server opens")
    yield
    print("the server closes")


@app.main()
def main(grid, context):
    """Run the rounds, and save the model as PyTorch does."""
    config = context.run_config
    strategy = CustomFedAvg(
        fraction_train=config["fraction-train"], fraction_evaluate=config["fraction-evaluate"]
    )

    def evaluate(server_round, arrays):
        net = Net()
        net.load_state_dict(arrays.to_torch_state_dict())
        net.to(torch.device(config["server-device"]))
        rows = TensorDataset(torch.ones(4, 2), torch.ones(4))
        loaded = sum(len(x) for x, _ in DataLoader(rows, batch_size=2, num_workers=1, timeout=100))
        with torch.no_grad():
            norm = sum(float(p.pow(2).sum()) for p in net.parameters())
        return MetricRecord({"norm": norm, "loaded": loaded})

    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(Net().state_dict()),
        train_config=ConfigRecord({"lr": 0.1}),
        num_rounds=config["num-server-rounds"],
        evaluate_fn=evaluate,
    )
    print("\nSaving final model to disk...")
    torch.save(result.arrays.to_torch_state_dict(), "final_model.pt")
