"""The gate's noise: its distribution, its draws, and what it is charged as."""

from __future__ import annotations

import math
import stat
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from contract.errors import Refused
from node.gate.policy import Policy, TrainingSettings
from node.gate.updates.noise import (
    STEPS_PER_SIGMA,
    DiscreteGaussian,
    GaussianRelease,
    UpdateNoise,
    _table,
    draw_key,
    noise_key,
)

DRAWS = DiscreteGaussian(b"a key of a test, 32 bytes long..").draw(1_000_000)


def test_the_table_holds_the_discrete_gaussian_to_its_last_bit() -> None:
    thresholds, others = _table()
    size, capacity = len(others), 2**49
    values = np.arange(size) - size // 2
    weights = Counter[int]()
    for threshold, value, other in zip(thresholds.tolist(), values, others, strict=True):
        weights[int(value)] += threshold
        weights[int(other)] += capacity - threshold
    assert sum(weights.values()) == size * capacity == 2**64
    shares = np.exp(-(values.astype(float) ** 2) / (2 * 1024**2))
    wanted = shares / shares.sum()
    got = np.array([weights[int(v)] / 2**64 for v in values])
    assert np.abs(got - wanted).sum() / 2 < 2**-47  # total variation
    near = np.abs(values) < 5 * 1024
    np.testing.assert_allclose(got[near], wanted[near], rtol=1e-9)


def test_draws_are_of_a_gaussian() -> None:
    scaled = DRAWS / STEPS_PER_SIGMA
    assert stats.kstest(scaled, "norm").pvalue > 0.001
    assert scaled.mean() == pytest.approx(0, abs=0.005)
    assert scaled.std() == pytest.approx(1, rel=0.005)
    assert stats.kurtosis(scaled) == pytest.approx(0, abs=0.03)
    # Neighbours, and the low digits, tell nothing of one another.
    assert abs(np.corrcoef(scaled[:-1], scaled[1:])[0, 1]) < 0.005
    low = np.bincount(DRAWS % 256, minlength=256)
    assert stats.chisquare(low).pvalue > 0.001


def test_the_same_key_draws_the_same_and_another_another() -> None:
    one = DiscreteGaussian(b"1" * 32)
    first, second = one.draw(20_000), one.draw(20_000)
    again = DiscreteGaussian(b"1" * 32)
    np.testing.assert_array_equal(again.draw(20_000), first)
    np.testing.assert_array_equal(again.draw(20_000), second)
    assert not np.array_equal(first, second)
    assert not np.array_equal(DiscreteGaussian(b"2" * 32).draw(20_000), first)


def test_what_is_drawn_at_a_place_does_not_depend_on_what_was_drawn_before() -> None:
    whole = DiscreteGaussian(b"1" * 32).draw(50_000)
    for place, count in ((0, 10), (9, 20_000), (40_000, 10_000), (49_999, 1)):
        found = DiscreteGaussian(b"1" * 32).draw_at(place, count)
        np.testing.assert_array_equal(found, whole[place : place + count])


def test_parts_of_a_draws_key_can_not_be_shifted_into_one_another() -> None:
    keys = {
        draw_key(b"s", parts) for parts in ([b"ab", b"c"], [b"a", b"bc"], [b"abc"], [b"abc", b""])
    }
    assert len(keys) == 4
    assert draw_key(b"s", [b"a"]) != draw_key(b"t", [b"a"])


def test_the_secret_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "noise.key"
    secret = noise_key(path)
    assert len(secret) == 32
    assert noise_key(path) == secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(b"short")
    with pytest.raises(Refused):
        noise_key(path)


def test_what_rounds_are_charged_is_what_the_hockey_stick_says() -> None:
    """Balle and Wang 2018, Theorem 8: delta of a Gaussian with mu = sensitivity / sigma."""
    sigma, sensitivity = UpdateNoise(noise_multiplier=4.0, clip_norm=0.5).spend(9)
    assert (sigma, sensitivity) == (2.0, 3.0)
    mu = sensitivity / sigma
    composed = sum((1 / r.noise_multiplier) ** 2 for r in [GaussianRelease(2.0)] * 9)
    assert math.sqrt(composed) == pytest.approx(mu)
    [release, _] = UpdateNoise(4.0, 0.5).releases(1)
    assert release == GaussianRelease(2.0, 1.0)


def test_two_replies_a_sensitivity_apart_differ_no_more_than_the_mechanism_allows() -> None:
    noise = UpdateNoise(noise_multiplier=2.0, clip_norm=1.0)
    shift = round(noise.sensitivity / noise.step)
    threshold = shift / 2
    # The best test between the two has the error rates of Gaussian differential privacy.
    wrong = float((threshold <= DRAWS).mean()), float((DRAWS + shift < threshold).mean())
    mu = noise.sensitivity / noise.sigma
    for rate in wrong:
        assert rate == pytest.approx(float(stats.norm.cdf(-mu / 2)), abs=0.002)


def test_a_metrics_noise_makes_all_of_a_reply_one_release() -> None:
    noise = UpdateNoise(noise_multiplier=6.0, clip_norm=1.0)
    widths = (1.0, 4.0, 0.5)
    shift = sum((w / noise.metric_sigma(w, len(widths))) ** 2 for w in widths)
    assert 1 / math.sqrt(shift) == pytest.approx(noise.releases(1)[0].noise_multiplier)


def test_noise_without_a_limit_on_the_update_is_no_policy() -> None:
    with pytest.raises(ValueError, match="clip_norm"):
        TrainingSettings(noise_multiplier=1.0)
    Policy(training=TrainingSettings(noise_multiplier=1.0, clip_norm=1.0))
