"""A strategy with a state of its own, which sends each site something else."""

import numpy as np
from flwr.app import ConfigRecord
from flwr.serverapp.strategy import FedAvg


class Odd(FedAvg):
    """FedAvg that counts its sites, keeps a momentum, and evaluates in every second round."""

    def __init__(self, **named):
        super().__init__(**named)
        self.seen = {}
        self.momentum = None

    def configure_train(self, server_round, arrays, config, grid):
        """Add lists of every kind, and a record for each site."""
        config["layers"], config["rates"], config["flags"] = ["a", "b"], [0.1, 0.2], [True, False]
        config["bytes"], config["big"], config["empty"] = b"\x00\xff", 2**40, ""
        for message in super().configure_train(server_round, arrays, config, grid):
            to = message.metadata.dst_node_id
            message.content["extra"] = ConfigRecord({"to": to % 7, "round": server_round})
            yield message

    def aggregate_train(self, server_round, replies):
        """Count who answered."""
        replies = list(replies)
        for reply in replies:
            node = reply.metadata.src_node_id
            self.seen[node] = self.seen.get(node, 0) + 1
        arrays, metrics = super().aggregate_train(server_round, replies)
        half = arrays["half"].numpy()
        before = 0 if self.momentum is None else self.momentum * np.float16(0.5)
        self.momentum = before + half
        metrics["seen"] = float(len(self.seen))
        metrics["momentum"] = float(np.abs(self.momentum).sum())
        return arrays, metrics

    def configure_evaluate(self, server_round, arrays, config, grid):
        """Ask nobody in odd rounds."""
        if server_round % 2:
            return []
        return super().configure_evaluate(server_round, arrays, config, grid)
