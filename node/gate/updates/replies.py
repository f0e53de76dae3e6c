"""A recipe's reply as it leaves: its update treated, and its metrics noised, as policy wants it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from contract.documents import MetricRange, RecipeGrant
from contract.errors import Refused
from contract.records import Arrays, Metrics, Records, Value
from foundation import tensors
from node.gate.policy import TrainingSettings
from node.gate.rules import TrainingOutput
from node.gate.updates.noise import (
    STEPS_PER_SIGMA,
    DiscreteGaussian,
    GaussianRelease,
    UpdateNoise,
    draw_key,
)
from node.gate.updates.treatment import Array, Treatment, treat

EXAMPLES = frozenset({"num-examples", "num_examples"})
"""What weighs a site's update. With noise, it is the published number of subjects."""


@dataclass(frozen=True)
class TreatedReply:
    """What leaves in place of a reply: its records, its message and blob, what was done."""

    output: TrainingOutput
    encoded: tensors.Encoded
    done: Mapping[str, float]
    """For the ledger: settings, and the factor that the update was scaled by."""
    names: tuple[str, ...]
    """For the receipt, after the rules that passed."""


def noise_of(settings: TrainingSettings) -> UpdateNoise | None:
    """Return the noise that a policy wants, or None."""
    if not settings.noise_multiplier:
        return None
    return UpdateNoise(settings.noise_multiplier, settings.clip_norm)


def charges(records: Records, settings: TrainingSettings) -> tuple[GaussianRelease, ...]:
    """Return what a reply is charged to the privacy account; nothing without noise."""
    noise = noise_of(settings)
    if noise is None:
        return ()
    arrays = any(isinstance(r, Arrays) and r.items for r in records.values())
    metrics = any(set(r.items) - EXAMPLES for r in records.values() if isinstance(r, Metrics))
    return (GaussianRelease(noise.noise_multiplier / 2),) * (arrays + metrics)


def treat_reply(
    output: TrainingOutput,
    settings: TrainingSettings,
    *,
    secret: Callable[[], bytes],
    subjects: int,
) -> TreatedReply | None:
    """Return the reply treated, or None when policy wants nothing done.

    ``secret`` gives the node's secret of draws; ``subjects`` is how many the release is published
    to hold. The reply's records have the declared form. Raises ``Refused``.
    """
    noise = noise_of(settings)
    treatment = Treatment(
        settings.clip_norm, settings.quantise_bits, noise.step if noise is not None else 0.0
    )
    if not treatment:
        return None
    draws = _Draws(output, settings, secret) if noise is not None else None
    records: Records = {}
    scale = 1.0
    for name, record in output.records.items():
        if isinstance(record, Arrays):
            if output.grant.max_model_bytes and is_of_bytes(record):
                raise Refused(
                    "undeclared-output", "A model of bytes can't be treated as the policy wants."
                )
            received = _received(output, record)
            treated = treat(
                received, record.items, treatment, draws.of(f"arrays {name}") if draws else None
            )
            records[name], scale = Arrays(treated.arrays), treated.scale
        else:
            records[name] = record
    if noise is not None and draws is not None:
        records = _noised_metrics(records, output.grant, noise, draws, subjects)
    done = {
        "UpdateClipped": treatment.clip_norm,
        "UpdateNoised": treatment.step,
        "UpdateQuantised": treatment.bits,
    }
    return TreatedReply(
        dataclasses.replace(output, records=records),
        tensors.encode(records),
        {
            "clip_norm": settings.clip_norm,
            "noise_multiplier": settings.noise_multiplier,
            "quantise_bits": settings.quantise_bits,
            "scale": scale,
        },
        tuple(name for name, amount in done.items() if amount),
    )


def _received(output: TrainingOutput, record: Arrays) -> Mapping[str, Array]:
    """Return the received group that a reply's arrays are like."""
    form = {name: (array.dtype, array.shape) for name, array in record.items.items()}
    for group in output.arrays.values():
        if {name: (array.dtype, array.shape) for name, array in group.items()} == form:
            return group
    raise Refused("undeclared-output", "The arrays are not like those that were received.")


def is_of_bytes(record: Arrays) -> bool:
    """Say whether a group is a single array of bytes: a model that no treatment is made for."""
    return [(a.dtype.name, a.ndim) for a in record.items.values()] == [("uint8", 1)]


class _Draws:
    """The draws of one reply: from the secret, what was asked, what would leave and how treated.

    With the same draws under two scales, two replies would give away what lies beneath. So all
    that the scale depends on is in their key.
    """

    def __init__(
        self, output: TrainingOutput, settings: TrainingSettings, secret: Callable[[], bytes]
    ) -> None:
        sent = tensors.lay_out(output.records)
        digest = hashlib.sha256(sent.message.SerializeToString(deterministic=True))
        for piece in sent.pieces:
            digest.update(piece)
        self._secret = secret()
        self._parts: Sequence[bytes] = (
            output.question,
            output.message_type.encode(),
            digest.digest(),
            json.dumps(
                [settings.clip_norm, settings.noise_multiplier, settings.quantise_bits]
            ).encode(),
            output.grant.model_dump_json().encode(),
        )

    def of(self, what: str) -> DiscreteGaussian:
        """Return the draws for one part of the reply."""
        return DiscreteGaussian(draw_key(self._secret, (what.encode(), *self._parts)))


def _noised_metrics(
    records: Records, grant: RecipeGrant, noise: UpdateNoise, draws: _Draws, subjects: int
) -> Records:
    """Return the records with noise on each metric, in its declared range and kept within it."""
    count = sum(
        len(set(record.items) - EXAMPLES)
        for record in records.values()
        if isinstance(record, Metrics)
    )
    noised: Records = {}
    for name, record in records.items():
        if not isinstance(record, Metrics):
            noised[name] = record
            continue
        items: dict[str, Value] = {}
        for metric, value in record.items.items():
            if metric in EXAMPLES:
                items[metric] = subjects
                continue
            declared = grant.metric_ranges.get(metric)
            if declared is None or not isinstance(value, int | float):
                raise Refused(
                    "undeclared-range", "With noise, a metric needs a range that the project names."
                )
            if not math.isfinite(value):
                raise Refused("not-finite", "A metric is not finite.")
            drawn = draws.of(f"metric {name} {metric}")
            items[metric] = noised_metric(value, declared, noise, count, drawn)
        noised[name] = Metrics(items)
    return noised


def noised_metric(
    value: float, declared: MetricRange, noise: UpdateNoise, count: int, draws: DiscreteGaussian
) -> float:
    """Return one of ``count`` metrics with noise, on a grid from its declared minimum on."""
    width = declared.maximum - declared.minimum
    step = noise.metric_sigma(width, count) / STEPS_PER_SIGMA
    inside = min(max(value, declared.minimum), declared.maximum)
    steps = int((inside - declared.minimum) / step) + int(draws.draw(1)[0])
    return min(max(declared.minimum + steps * step, declared.minimum), declared.maximum)
