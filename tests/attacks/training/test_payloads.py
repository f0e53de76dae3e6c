"""Records hidden in what a recipe sends, and what narrows each place where they could be.

Song, Ristenpart and Shmatikov 2017, "Machine Learning Models that Remember Too Much" (CCS), 4.1:
the least significant bits of a model's weights hold data, and the model is as good as without.
Numbers that are no numbers hold data too: IEEE 754-2019, 6.2.1, gives each NaN a payload.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from contract.errors import Refused
from node.gate import before_egress
from node.gate.before_egress import DeclaredSchema
from tests.attacks.training.asking import Rounds, patients
from tests.node.gate.conftest import Hospital

ATTACKS = (
    (
        "records in the low bits of weights",
        "Song et al. 2017",
        "training.quantise_bits",
        "test_low_bits_hold_records_unless_updates_are_quantised",
    ),
    (
        "records in arrays that don't learn",
        "Song et al. 2017",
        "training.clip_norm",
        "test_arrays_of_whole_numbers_hold_records_unless_updates_are_clipped",
    ),
    (
        "records in NaN, and an average made useless",
        "IEEE 754-2019, 6.2.1; Blanchard et al. 2017",
        "DeclaredSchema",
        "test_numbers_that_are_none_hold_records_unless_they_are_refused",
    ),
    (
        "records in a metric's size",
        "covert channel of one number",
        "DeclaredSchema: metric_ranges",
        "test_a_metric_holds_a_record_unless_its_range_is_declared",
    ),
)
SECRET = b"Mary Smith, born 1961-04-03, MRN 4471120, adenocarcinoma of the lung"


def learned() -> tuple[dict[str, Any], dict[str, Any]]:
    """Weights that were received, and after an honest step."""
    weights = {"w": patients(40, 100, seed=2)}
    return weights, {"w": weights["w"] + np.float32(0.05) * patients(40, 100, seed=3)}


def hide(array: Any, secret: bytes) -> Any:
    """Put 8 bits into the end of each number's mantissa."""
    bits = array.copy().view(np.uint32).reshape(-1)
    taken = np.frombuffer(secret, np.uint8)
    bits[: taken.size] = (bits[: taken.size] & ~np.uint32(0xFF)) | taken
    return bits.view(np.float32).reshape(array.shape)


def reveal(array: Any) -> bytes:
    numbers = np.ascontiguousarray(array).view(np.uint32).reshape(-1)[: len(SECRET)]
    return (numbers & 0xFF).astype(np.uint8).tobytes()


def test_low_bits_hold_records_unless_updates_are_quantised(hospital: Hospital) -> None:
    weights, reply = learned()
    told = {"w": hide(reply["w"], SECRET)}
    assert np.abs(told["w"] - reply["w"]).max() < 1e-4  # nobody misses them
    off, _ = Rounds(hospital, {}).send(weights, told)
    assert reveal(off["w"]) == SECRET
    on, _ = Rounds(hospital, {"quantise_bits": 8}).send(weights, told)
    wrong = np.unpackbits(
        np.frombuffer(reveal(on["w"]), np.uint8) ^ np.frombuffer(SECRET, np.uint8)
    )
    assert wrong.mean() > 0.3  # chance is 0.5, a little less for bits of letters
    # The same leaves whatever was hidden, and it is still the update.
    other, _ = Rounds(hospital, {"quantise_bits": 8}).send(weights, reply)
    assert np.mean(other["w"] == on["w"]) > 0.97
    step = np.abs(reply["w"] - weights["w"]).max() / 127
    assert np.abs(on["w"] - reply["w"]).max() < step


def test_arrays_of_whole_numbers_hold_records_unless_updates_are_clipped(
    hospital: Hospital,
) -> None:
    weights, reply = learned()
    weights["batches"] = np.zeros(9, "int64")
    reply["batches"] = np.frombuffer(SECRET.ljust(72), "int64")
    off, _ = Rounds(hospital, {}).send(weights, reply)
    assert off["batches"].tobytes().startswith(SECRET)
    on, _ = Rounds(hospital, {"clip_norm": 100.0}).send(weights, reply)
    assert on["batches"].tobytes() == bytes(72)
    np.testing.assert_array_equal(on["w"], reply["w"])


def test_numbers_that_are_none_hold_records_unless_they_are_refused(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, reply = learned()
    payload = np.frombuffer(SECRET, np.uint8).astype(np.uint32) | np.uint32(0x7FC00000)
    told = reply["w"].copy()
    told.reshape(-1)[: payload.size] = payload.view(np.float32)
    rest = tuple(r for r in before_egress.BEFORE_EGRESS if not isinstance(r, DeclaredSchema))
    with monkeypatch.context() as off:
        off.setattr(before_egress, "BEFORE_EGRESS", rest)
        left, _ = Rounds(hospital, {}).send(weights, {"w": told})
        assert reveal(left["w"]) == SECRET
        average = (left["w"] + 99 * reply["w"]) / 100
        assert not np.isfinite(average).all()  # one site in a hundred spoils the model
    for defence in ({}, {"clip_norm": 1.0}, {"quantise_bits": 8}):
        with pytest.raises(Refused) as caught:
            Rounds(hospital, defence).send(weights, {"w": told})
        assert caught.value.code == "not-finite"


def test_a_metric_holds_a_record_unless_its_range_is_declared(hospital: Hospital) -> None:
    weights, _ = learned()
    identifier = 4471120.19610403
    rounds = Rounds(hospital, {})
    declared = rounds.grant
    rounds.grant = declared.model_copy(update={"metric_ranges": {}})
    _, off = rounds.send(weights, None, {"loss": identifier})
    assert off["loss"] == identifier
    rounds.grant = declared
    with pytest.raises(Refused) as caught:
        rounds.send(weights, None, {"loss": identifier})
    assert caught.value.code == "out-of-range"
