"""Every strategy, Flower's and ours, with settings under which three sites are enough."""

import random

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord
from flwr.serverapp import strategy as flower

from learning.strategies import Cyclic, Scaffold

THREE = {
    "min_train_nodes": 3,
    "min_available_nodes": 3,
    "fraction_evaluate": 0.0,
}
MAKE = {
    "FedAvg": lambda: flower.FedAvg(**THREE),
    "FedProx": lambda: flower.FedProx(proximal_mu=0.5, **THREE),
    "FedAvgM": lambda: flower.FedAvgM(server_momentum=0.9, **THREE),
    "FedAdam": lambda: flower.FedAdam(**THREE),
    "FedYogi": lambda: flower.FedYogi(**THREE),
    "FedAdagrad": lambda: flower.FedAdagrad(**THREE),
    "QFedAvg": lambda: flower.QFedAvg(client_learning_rate=0.1, q=0.2, **THREE),
    "FedMedian": lambda: flower.FedMedian(**THREE),
    "FedTrimmedAvg": lambda: flower.FedTrimmedAvg(beta=0.4, **THREE),
    "Krum": lambda: flower.Krum(num_malicious_nodes=0, **THREE),
    "MultiKrum": lambda: flower.MultiKrum(num_malicious_nodes=0, num_nodes_to_select=2, **THREE),
    "Bulyan": lambda: flower.Bulyan(num_malicious_nodes=0, **THREE),
    "FedXgbBagging": lambda: flower.FedXgbBagging(**THREE),
    "FedXgbCyclic": lambda: flower.FedXgbCyclic(fraction_evaluate=0.0, min_available_nodes=3),
    "DifferentialPrivacyServerSideFixedClipping": lambda: (
        flower.DifferentialPrivacyServerSideFixedClipping(flower.FedAvg(**THREE), 0.5, 0.2, 3)
    ),
    "DifferentialPrivacyClientSideFixedClipping": lambda: (
        flower.DifferentialPrivacyClientSideFixedClipping(flower.FedAvg(**THREE), 0.5, 0.2, 3)
    ),
    "DifferentialPrivacyServerSideAdaptiveClipping": lambda: (
        flower.DifferentialPrivacyServerSideAdaptiveClipping(flower.FedAvg(**THREE), 0.1, 3)
    ),
    "DifferentialPrivacyClientSideAdaptiveClipping": lambda: (
        flower.DifferentialPrivacyClientSideAdaptiveClipping(flower.FedAvg(**THREE), 0.1, 3)
    ),
    "Scaffold": lambda: Scaffold(**THREE),
    "Cyclic": lambda: Cyclic(fraction_evaluate=0.0, min_available_nodes=3),
    # By mods of the site's half.
    "FedBN": lambda: flower.FedAvg(**THREE),
    "Ditto": lambda: flower.FedAvg(**THREE),
    "LocalDpMod": lambda: flower.FedAvg(**THREE),
    "SizeMods": lambda: flower.FedAvg(**THREE),
}


def start(name: str) -> ArrayRecord:
    """The model that a strategy begins with: a layer, or no trees."""
    if "Xgb" in name:
        return ArrayRecord([np.frombuffer(b"", dtype=np.uint8)])
    return ArrayRecord(
        {
            "w": Array(np.linspace(0, 1, 3)),
            "b": Array(np.zeros((1, 1))),
        }
    )


def learn(name: str, grid: object, rounds: int) -> ArrayRecord:
    """Run one strategy, alike wherever it runs."""
    random.seed(1)
    np.random.seed(1)
    strategy = MAKE[name]()
    config = ConfigRecord({"strategy": name})
    return strategy.start(grid, start(name), rounds, train_config=config).arrays
