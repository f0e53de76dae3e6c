"""Weights that make updates hold records word for word, and the look at weights against it.

Fowl et al. 2022, "Robbing the Fed: Directly Obtaining Private Data in Federated Learning with
Modified Models" (ICLR); Boenisch et al. 2023, "When the Curious Abandon Honesty: Federated Learning
Is Not Private" (EuroS&P); Zhao et al. 2024, "LOKI" (S&P) uses Fowl's rows for each client.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from contract.errors import Refused
from tests.attacks.training.asking import Rounds, patients
from tests.attacks.training.weights import binned_rows, trap_weights
from tests.node.gate.conftest import Hospital

ATTACKS = (
    (
        "imprint layer",
        "Fowl et al. 2022; Zhao et al. 2024",
        "training.check_imprint",
        "test_records_are_read_from_an_imprint_layer_unless_weights_are_looked_at",
    ),
    (
        "trap weights",
        "Boenisch et al. 2023",
        "training.check_imprint",
        "test_records_are_read_from_trap_weights_unless_weights_are_looked_at",
    ),
)


def update(weights: dict[str, Any], rows: Any) -> dict[str, Any]:
    """One step on the sum of relu(W x + b), whose gradient is the sum of what passes each row."""
    passed = (rows @ weights["weight"].T + weights["bias"] > 0).astype("float64")
    return {
        "weight": (weights["weight"] - passed.T @ rows / len(rows)).astype("float32"),
        "bias": (weights["bias"] - passed.sum(axis=0) / len(rows)).astype("float32"),
    }


def recovered(sums: Any, counts: Any, rows: Any) -> int:
    """How many records are among quotients of a sum of inputs and a number of them."""
    with np.errstate(all="ignore"):
        found = sums / counts[:, None]
    found = found[np.isfinite(found).all(axis=1)]
    nearest = np.abs(rows[:, None] - found[None]).max(axis=2).min(axis=1)
    return int((nearest < 0.01).sum())


def attack(hospital: Hospital, weights: dict[str, Any], *, looked_at: bool) -> dict[str, Any]:
    """What leaves, less what was sent."""
    rounds = Rounds(hospital, {"check_imprint": looked_at})
    rounds.look_at(weights)
    left, _ = rounds.send(weights, update(weights, patients()))
    return {name: weights[name].astype(float) - left[name] for name in weights}


def test_records_are_read_from_an_imprint_layer_unless_weights_are_looked_at(
    hospital: Hospital,
) -> None:
    generator = np.random.default_rng(5)
    weight, bias = binned_rows(patients(5000, seed=8), 1000, generator)
    weights = {"weight": weight, "bias": bias}
    taken = attack(hospital, weights, looked_at=False)
    between = recovered(np.diff(taken["weight"], axis=0), np.diff(taken["bias"]), patients())
    assert between > 0.7 * len(patients())
    with pytest.raises(Refused) as caught:
        attack(hospital, weights, looked_at=True)
    assert caught.value.code == "imprint"
    assert [e.body["code"] for e in hospital.entries("withheld")] == ["imprint"]


def test_records_are_read_from_trap_weights_unless_weights_are_looked_at(
    hospital: Hospital,
) -> None:
    generator = np.random.default_rng(5)
    rows = patients()
    # As images are: no value below 0, so that the negative half of a row outweighs the other.
    positive = np.abs(rows)
    weights = {
        "weight": trap_weights(2000, rows.shape[1], generator, factor=0.5),
        "bias": np.zeros(2000, "float32"),
    }
    rounds = Rounds(hospital, {"check_imprint": False})
    rounds.look_at(weights)
    left, _ = rounds.send(weights, update(weights, positive))
    taken = {name: weights[name].astype(float) - left[name] for name in weights}
    assert recovered(taken["weight"], taken["bias"], positive) >= 10
    with pytest.raises(Refused) as caught:
        Rounds(hospital, {"check_imprint": True}).look_at(weights)
    assert caught.value.code == "imprint"
