"""A strategy of one's own, which replaces ``start`` as Flower's advanced example does."""

import json
import math
from pathlib import Path

import torch
from flwr.app import ConfigRecord
from flwr.serverapp.strategy import FedAvg, Result


class CustomFedAvg(FedAvg):
    """FedAvg that halves the learning rate, and saves results and the best model to a disk."""

    def configure_train(self, server_round, arrays, config, grid):
        """Half the rate from round 2 on."""
        if server_round == 2:
            config["lr"] = config["lr"] * 0.5
        return super().configure_train(server_round, arrays, config, grid)

    def start(
        self,
        grid,
        initial_arrays,
        num_rounds=3,
        timeout=3600,
        train_config=None,
        evaluate_config=None,
        evaluate_fn=None,
    ):
        """Run the rounds."""
        folder = Path.cwd() / "outputs/run"
        folder.mkdir(parents=True, exist_ok=False)
        best = math.inf
        result = Result()
        arrays = initial_arrays
        if evaluate_fn:
            evaluate_fn(0, arrays)
        for number in range(1, num_rounds + 1):
            replies = grid.send_and_receive(
                messages=self.configure_train(number, arrays, train_config, grid),
                timeout=timeout,
            )
            arrays, metrics = self.aggregate_train(number, replies)
            result.arrays = arrays
            result.train_metrics_clientapp[number] = metrics
            replies = grid.send_and_receive(
                messages=self.configure_evaluate(
                    number, arrays, evaluate_config or ConfigRecord(), grid
                ),
                timeout=timeout,
            )
            result.evaluate_metrics_clientapp[number] = self.aggregate_evaluate(number, replies)
            if evaluate_fn:
                found = evaluate_fn(number, arrays)
                result.evaluate_metrics_serverapp[number] = found
                if found["norm"] < best:
                    best = found["norm"]
                    torch.save(arrays.to_torch_state_dict(), folder / f"model_{number}.pth")
            (folder / "results.json").write_text(json.dumps(dict(metrics)))
        return result
