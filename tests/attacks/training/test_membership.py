"""Who was trained on, told from an update: one-run auditing of the noise that is claimed.

Steinke, Nasr and Jagielski 2023, "Privacy Auditing with One (1) Training Run" (NeurIPS): of 400
canaries each is trained on or not by a coin's fall; whoever sees what leaves guesses which. More
right guesses than the claimed epsilon allows refute the claim. The canaries are those of Nasr et
al. 2023, "Tight Auditing of Differentially Private Machine Learning": each moves a direction of the
update that nothing else moves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from contract.membership import auc, correct_guesses, epsilon_lower_bound
from node.gate.account.composition import epsilon
from node.gate.updates.noise import GaussianRelease
from tests.attacks.training.asking import Rounds
from tests.node.gate.conftest import Hospital

ATTACKS = (
    (
        "membership inference by one-run auditing",
        "Steinke et al. 2023; Nasr et al. 2023",
        "training.noise_multiplier",
        "test_canaries_refute_the_claimed_epsilon_unless_noise_lies_on_the_update",
    ),
)
CANARIES = 400
DELTA = 1e-5
NOISE = {"clip_norm": 1.0, "noise_multiplier": 4.0}


def audit(hospital: Hospital, defence: Mapping[str, Any]) -> tuple[float, float]:
    """Return (lower bound on epsilon, AUC) of an update that holds half of the canaries."""
    included = np.random.default_rng(11).random(CANARIES) < 0.5
    weights = {"w": np.zeros(CANARIES, "float32")}
    left, _ = Rounds(hospital, defence).send(weights, {"w": included.astype("float32")})
    scores = left["w"].astype(float)
    bounds = [
        epsilon_lower_bound(*correct_guesses(scores, included.tolist(), made), CANARIES, DELTA)
        for made in (40, 100, 200, 400)
    ]
    return max(bounds), auc(scores[included], scores[~included])


def test_canaries_refute_the_claimed_epsilon_unless_noise_lies_on_the_update(
    hospital: Hospital,
) -> None:
    claimed = epsilon({GaussianRelease(NOISE["noise_multiplier"] / 2): 1}, DELTA)
    assert 1 < claimed < 3
    # Without noise, and also when the update is clipped alone, what is claimed would be false.
    for off in ({}, {"clip_norm": 1.0}):
        bound, told_apart = audit(hospital, off)
        assert bound > claimed
        assert told_apart == 1.0
    bound, told_apart = audit(hospital, NOISE)
    assert bound <= claimed
    assert 0.4 < told_apart < 0.6
