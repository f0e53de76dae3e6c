"""Labels read out of a metric by flipping what is predicted for one patient; noise against it.

Aggarwal et al. 2021, "Label Inference Attacks from Log-loss Scores" (ICML); Whitehill 2018,
"Climbing the Kaggle Leaderboard by Exploiting the Log-loss Oracle". Whoever sends the model chooses
what it says of one patient, and the exact loss says whether that was so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.attacks.training.asking import Rounds, patients
from tests.node.gate.conftest import Hospital

ATTACKS = (
    (
        "label-flip probing through metrics",
        "Aggarwal et al. 2021; Whitehill 2018",
        "training.noise_multiplier",
        "test_a_label_is_read_from_the_loss_unless_noise_lies_on_it",
    ),
)
TARGETS = 20


def loss(weights: Any, rows: Any, labels: Any) -> float:
    """Mean log loss of a logistic regression, as an evaluation reports it."""
    logits = np.clip(rows @ weights, -30, 30)
    return float(np.mean(np.log1p(np.exp(-np.where(labels, logits, -logits)))))


def guessed(hospital: Hospital, defence: Mapping[str, Any]) -> int:
    """Of how many of 20 patients the attacker, who knows all but the labels, guesses right."""
    rows = patients(200, 300, seed=4)  # more features than patients: each can be singled out
    labels = np.random.default_rng(6).random(200) < 0.5
    rounds = Rounds(hospital, defence)
    inverse = np.linalg.pinv(rows.astype(float))
    right = 0
    for target in range(TARGETS):
        weights = inverse[:, target] * 20.0  # the model says yes of this one, and nothing of others
        _, left = rounds.send({}, None, {"loss": loss(weights, rows, labels)}, bytes([target]))
        middle = math.log(2) * 199 / 200 + 20 / 200 / 2
        right += (float(left["loss"]) < middle) == labels[target]
    return right


def test_a_label_is_read_from_the_loss_unless_noise_lies_on_it(hospital: Hospital) -> None:
    assert guessed(hospital, {}) == TARGETS
    on = guessed(hospital, {"clip_norm": 1.0, "noise_multiplier": 8.0})
    assert on <= 16  # of 20 coins, more than 16 alike fall once in a thousand times
