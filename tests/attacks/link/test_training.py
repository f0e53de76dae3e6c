"""What a coordinator learns of single patients by weights that it made, over the link of a node.

Each attack first succeeds without its defence, at the same node, in the same test.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from contract import records
from contract import wire_pb2 as wire
from foundation.tensors import views
from tests.attacks.link.siege import AMPLE, Siege
from tests.attacks.link.test_standing import round_under_way
from tests.attacks.training.test_imprint import recovered
from tests.attacks.training.weights import binned_rows
from tests.end_to_end.federation import POLICY
from tests.end_to_end.federation import records as patients
from tests.end_to_end.hostile import SITE

ATTACKS = (
    (
        "Imprint layer in the weights that are sent",
        "Fowl et al. 2022, Robbing the Fed: Directly Obtaining Private Data in Federated Learning",
        "training.check_imprint",
        "test_weights_that_make_an_update_hold_records_are_refused",
    ),
    (
        "Label-flip probing through an evaluation's metrics",
        "Aggarwal et al. 2021, Label Inference Attacks from Log-loss Scores",
        "training.noise_multiplier",
        "test_a_patients_outcome_is_read_from_the_loss_unless_noise_lies_on_it",
    ),
)
TABLE = patients(SITE, 0, few=False)
ROWS = np.array(
    [[(int(str(r["age"])) - 50) / 20, (float(str(r["weight"])) - 65) / 9] for r in TABLE]
)
"""Ages and weights as the recipe standardises them: what the attacker is after, or knows."""


@contextmanager
def under(siege: Siege, **training: object) -> Iterator[None]:
    """Let the hospital's policy say this of training inside."""
    policy = siege.victim.home.policy
    said = "".join(f"{name} = {str(value).lower()}\n" for name, value in training.items())
    policy.write_text(POLICY.replace("[training]\n", "[training]\n" + said) + AMPLE)
    try:
        yield
    finally:
        policy.write_text(POLICY + AMPLE)


def task(siege: Siege, job: str, name: str, kind: str, **layer: Any) -> wire.FromNode:
    """Send a layer, and return what leaves."""
    arrays = {key: np.asarray(value, np.float32) for key, value in layer.items()}
    message, blob = records.encode({"arrays": records.Arrays(arrays)})
    siege.coordinator.blobs[hashlib.sha256(blob).hexdigest()] = blob
    siege.coordinator.uploads.clear()
    return siege.task(
        job,
        name,
        message.SerializeToString(),
        kind,
        digest=message.tensors.digest,
        size=message.tensors.size,
    )


def taken(siege: Siege, layer: Mapping[str, Any]) -> dict[int, Any]:
    """What was sent less what left, by number of axes: of a weight two, of a bias one."""
    data = b"".join(chunk.data for chunk in siege.coordinator.uploads)
    left = {array.ndim: np.asarray(array, np.float64) for array in views(data).values()}
    return {
        np.ndim(value): np.asarray(value, float) - left[np.ndim(value)] for value in layer.values()
    }


def test_weights_that_make_an_update_hold_records_are_refused(siege: Siege) -> None:
    generator = np.random.default_rng(5)
    weight, bias = binned_rows(generator.standard_normal((5000, 2)), 1000, generator)
    layer = {"weight": weight, "bias": bias}
    with round_under_way(siege) as job:
        with under(siege, check_imprint=False):
            assert task(siege, job, "1", "train", **layer).HasField("reply")
        found = taken(siege, layer)
        between = recovered(np.diff(found[2], axis=0), np.diff(found[1]), ROWS)
        assert between > 0.7 * len(ROWS)

        assert task(siege, job, "2", "train", **layer).failed.code == "imprint"
        # Before any of its functions that train is called; no other may send arrays.
        assert task(siege, job, "3", "train.other", **layer).failed.code == "imprint"


def test_a_patients_outcome_is_read_from_the_loss_unless_noise_lies_on_it(siege: Siege) -> None:
    """Whose weight is the highest is known; a unit that only they pass is what is evaluated."""
    first, second = np.argsort(ROWS[:, 1])[::-1][:2]
    steep = 5 / (ROWS[first, 1] - ROWS[second, 1])
    layer = {"weight": [[0, steep]], "bias": [-steep * (ROWS[first, 1] + ROWS[second, 1]) / 2]}
    rest = np.log(2) * (len(ROWS) - 1)
    expected = {
        says: (rest + np.logaddexp(0, sign * 2.5)) / len(ROWS)
        for says, sign in (("yes", -1), ("no", 1))
    }
    true = TABLE[first]["outcome"]

    def loss(job: str, name: str) -> float:
        message = task(siege, job, name, "evaluate", **layer)
        told = records.decode(wire.RecordDict.FromString(message.reply.payload), b"")
        metrics = next(r for r in told.values() if isinstance(r, records.Metrics))
        value = metrics.items["loss"]
        assert isinstance(value, float)
        return value

    def guessed(value: float) -> str:
        return min(expected, key=lambda says: abs(expected[says] - value))

    with round_under_way(siege) as job:
        value = loss(job, "1")
        assert value == pytest.approx(expected[str(true)], abs=1e-4)
        assert guessed(value) == true

        with under(siege, clip_norm=1.0, noise_multiplier=8.0):
            assert loss(job, "2") != pytest.approx(expected[str(true)], abs=1e-4)
