"""Records read out of gradients, and noise on the update against it.

Zhu, Liu and Han 2019, "Deep Leakage from Gradients" (NeurIPS); Geiping et al. 2020, "Inverting
Gradients" (NeurIPS), proposition 3.1: the input of a linear layer is its weights' gradient over its
thresholds'. Here in closed form, on a layer that one record passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import chi2

from tests.attacks.training.asking import Rounds, likeness, patients
from tests.node.gate.conftest import Hospital

ATTACKS = (
    (
        "gradient inversion",
        "Zhu et al. 2019; Geiping et al. 2020",
        "training.noise_multiplier",
        "test_a_record_is_read_from_a_gradient_unless_noise_lies_on_it",
    ),
    (
        "averaging of a noised update, asked again",
        "Dwork et al. 2006; DataSHIELD's noise",
        "draws from a key of question and answer",
        "test_a_round_asked_again_averages_no_noise_away_unless_each_has_draws_of_its_own",
    ),
)
RATE = 0.1
NOISE = {"clip_norm": 1.0, "noise_multiplier": 1.0}


def one_step(weights: dict[str, Any], rows: Any, outcomes: Any) -> dict[str, Any]:
    """One step of gradient descent on the squared error of relu(W x + b), summed."""
    hidden = rows @ weights["w"].T + weights["b"]
    passed = hidden > 0
    error = ((hidden * passed).sum(axis=1) - outcomes)[:, None] * passed
    return {
        "w": (weights["w"] - RATE * error.T @ rows / len(rows)).astype("float32"),
        "b": (weights["b"] - RATE * error.sum(axis=0) / len(rows)).astype("float32"),
    }


def aimed_at(rows: Any) -> dict[str, Any]:
    """A layer of four rows whose first is passed by the record that is furthest out."""
    generator = np.random.default_rng(3)
    direction = generator.standard_normal(rows.shape[1])
    heights = np.sort(rows @ direction)
    weights = generator.standard_normal((4, rows.shape[1])).astype("float32")
    weights[0] = direction
    thresholds = np.array([-(heights[-1] + heights[-2]) / 2, 0, 0, 0], "float32")
    return {"w": weights, "b": thresholds}


def inverted(weights: dict[str, Any], left: dict[str, Any]) -> Any:
    return (left["w"] - weights["w"])[0] / (left["b"] - weights["b"])[0]


def closest(found: Any, rows: Any) -> float:
    return max(likeness(found, row) for row in rows)


def test_a_record_is_read_from_a_gradient_unless_noise_lies_on_it(hospital: Hospital) -> None:
    rows = patients()
    weights = aimed_at(rows)
    reply = one_step(weights, rows, np.ones(len(rows)))
    off, _ = Rounds(hospital, {}).send(weights, reply)
    assert closest(inverted(weights, off), rows) > 0.999
    by_chance = max(
        closest(row, rows) for row in patients(20, seed=9)
    )  # of records of other people
    on, _ = Rounds(hospital, NOISE).send(weights, reply)
    assert closest(inverted(weights, on), rows) <= by_chance


def averaged(rounds: Sequence[dict[str, Any]], weights: dict[str, Any]) -> dict[str, Any]:
    return {n: np.mean([r[n].astype(float) for r in rounds], axis=0) for n in weights}


def test_a_round_asked_again_averages_no_noise_away_unless_each_has_draws_of_its_own(
    hospital: Hospital,
) -> None:
    rows = patients()
    weights = aimed_at(rows)
    reply = one_step(weights, rows, np.ones(len(rows)))
    truth = {n: reply[n].astype(float) - weights[n] for n in weights}
    noise = {"clip_norm": 1.0, "noise_multiplier": 3.0}
    length = np.sqrt(sum(float((u**2).sum()) for u in truth.values()))

    def left_over(rounds: Sequence[dict[str, Any]]) -> float:
        """How far the average is from the update as it was clipped, root mean square."""
        mean = averaged(rounds, weights)
        scale = min(1.0, 1.0 / length)
        gaps = [(mean[n] - weights[n] - scale * truth[n]).ravel() for n in weights]
        return float(np.sqrt(np.square(np.concatenate(gaps)).mean()))

    # Between these a chi-squared number of that many degrees doesn't stray, but once in a million.
    size = sum(u.size for u in truth.values())
    least, most = np.sqrt(chi2.ppf([1e-6, 1 - 1e-6], size) / size)
    # With the defence off, each ask draws from a secret of its own.
    asking = Rounds(hospital, noise)
    off = []
    for _ in range(48):
        hospital.home.noise_key.unlink(missing_ok=True)
        off.append(asking.send(weights, reply)[0])
    assert left_over(off) < 3 / np.sqrt(48) * most < 3 * least
    # With it on, a round that is asked again, in another job too, has the same answer.
    jobs = [Rounds(hospital, noise) for _ in range(2)]
    on = [job.send(weights, reply)[0] for job in jobs for _ in range(3)]
    assert len({a["w"].tobytes() + a["b"].tobytes() for a in on}) == 1
    assert left_over(on) > 3 * least
    # Any other answer, or another policy, has other draws: their difference isn't free of noise.
    moved = {n: a + np.float32(0.01) for n, a in reply.items()}
    other, _ = jobs[0].send(weights, moved)
    assert np.std(other["w"] - on[0]["w"]) > 3
    louder = Rounds(hospital, noise | {"noise_multiplier": 6.0})
    first, second = on[0]["w"] - weights["w"], louder.send(weights, reply)[0]["w"] - weights["w"]
    assert np.std(2 * first - second) > 3  # would cancel if the draws were the same
