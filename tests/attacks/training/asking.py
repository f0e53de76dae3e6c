"""An attacker's rounds at a hospital's gate: what goes in as weights, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from contract import records as codec
from contract import wire_pb2 as wire
from contract.documents import MetricRange, RecipeGrant
from contract.records import Arrays, Metrics, Records
from foundation import tensors
from node.gate.gate import Admission
from node.gate.policy import DisclosureSettings, Policy, PrivacySettings, TrainingSettings
from node.gate.rules import TrainingOutput
from tests.contract.world import BUNDLE
from tests.node.gate.conftest import Hospital

SUBJECTS = 200
GRANT = RecipeGrant(
    name="tabular",
    bundle=BUNDLE,
    metrics=("loss", "num-examples"),
    metric_ranges={"loss": MetricRange(minimum=0, maximum=10)},
)
AMPLE = PrivacySettings(epsilon_project=1e6, epsilon_subject_year=1e6)
"""An account that stops nobody: the defence in question is another."""


def policy(**training: Any) -> Policy:
    """A policy that differs from the standard in its training section only."""
    return Policy(
        disclosure=DisclosureSettings(minimum_cohort=20, minimum_cell=10),
        privacy=AMPLE,
        training=TrainingSettings(**training),
    )


@dataclass
class Rounds:
    """One job's rounds. ``defence``: the training section of the hospital's policy."""

    hospital: Hospital
    defence: Mapping[str, Any]
    admission: Admission = field(init=False)
    asked: int = 0
    grant: RecipeGrant = GRANT

    def __post_init__(self) -> None:
        self.hospital.policy = policy(**self.defence)
        if not self.hospital.home.noise_key.exists():
            self.hospital.home.noise_key.write_bytes(b"one secret, so one run is all...")
        release = self.hospital.release(SUBJECTS)
        self.admission = self.hospital.gate.admit(
            self.hospital.member, self.hospital.training(release)
        )

    def look_at(self, weights: Mapping[str, Any]) -> None:
        """Offer weights to train from, as the desk does before the recipe sees them."""
        records: Records = {"arrays": Arrays(dict(weights))}
        self.hospital.gate.check_received(self.hospital.member, self.admission, "1", records)

    def send(
        self,
        received: Mapping[str, Any],
        reply: Mapping[str, Any] | None,
        metrics: Mapping[str, Any] | None = None,
        question: bytes = b"",
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the arrays and metrics that leave, of those that a recipe sends."""
        self.asked += 1
        content: Records = {} if reply is None else {"arrays": Arrays(dict(reply))}
        content["metrics"] = Metrics({"num-examples": SUBJECTS} | dict(metrics or {}))
        encoded = tensors.encode(content)
        form = {name: (a.dtype.name, a.shape) for name, a in received.items()}
        output = TrainingOutput(
            "evaluate" if reply is None else "train",
            codec.decode(encoded.message, encoded.blob),
            {"arrays": form},
            self.grant,
            {"arrays": dict(received)},
            question,
        )
        sealed = self.hospital.gate.answer_task(
            self.hospital.member,
            self.admission,
            f"{self.asked}",
            output,
            encoded.message,
            encoded.blob,
            0.1,
        )
        message = wire.RecordDict.FromString(sealed.message.reply.payload)
        left = codec.decode(message, sealed.tensors)
        arrays = left.get("arrays", Arrays())
        assert isinstance(arrays, Arrays)
        assert isinstance(left["metrics"], Metrics)
        return dict(arrays.items), dict(left["metrics"].items)


def patients(count: int = SUBJECTS, features: int = 30, seed: int = 1) -> Any:
    """Standardised records, float32."""
    return np.random.default_rng(seed).standard_normal((count, features)).astype("float32")


def likeness(found: Any, truth: Any) -> float:
    """The cosine of the angle between two records."""
    return float(abs(found @ truth) / (np.linalg.norm(found) * np.linalg.norm(truth)))
