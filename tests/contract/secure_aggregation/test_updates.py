"""A round's words: exact sums, means within the grid's step, noise as large as it is said to be."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from contract.documents import MetricRange
from contract.errors import DocumentError, Refused
from contract.secure_aggregation.masking import Words
from contract.secure_aggregation.messages import Participant
from contract.secure_aggregation.updates import (
    GAMMA,
    NOISE_STEPS,
    SPARSE_SITES,
    SumOfUpdates,
    plan,
    terms,
)
from contract.work import SecureUpdates
from node.gate.account.composition import epsilon
from node.gate.account.events import GaussianRelease
from node.gate.updates.noise import STEPS_PER_SIGMA, DiscreteGaussian

RANGES = {
    "loss": MetricRange(minimum=-1, maximum=9),
    "accuracy": MetricRange(minimum=0, maximum=1),
    "num-examples": MetricRange(minimum=0, maximum=10**6),
}
SHAPES: dict[str, tuple[int, ...]] = {"weight": (3, 4), "bias": (5,), "scale": ()}


def form(sites: int = 5, **changes: object) -> SumOfUpdates:
    """Return a round's form over so many sites."""
    work = SecureUpdates.model_validate({"clip_norm": 1.0, "most_examples": 1000} | changes)
    threshold, minimum = plan(sites, 2, sparse=work.sparse)
    return SumOfUpdates(work, SHAPES, RANGES, sites, minimum, threshold)


def update_of(seed: int, length: float = 0.5) -> dict[str, np.ndarray]:
    """Return an update of this L2 norm."""
    chance = np.random.default_rng(seed)
    made = {key: chance.normal(size=shape) for key, shape in SHAPES.items()}
    norm = math.sqrt(sum(float((a * a).sum()) for a in made.values()))
    return {key: np.asarray(a * length / norm) for key, a in made.items()}


def total_of(vectors: list[Words]) -> Words:
    return np.sum(vectors, axis=0, dtype=vectors[0].dtype)


@given(
    some.lists(some.integers(1, 1000), min_size=2, max_size=5),
    some.integers(0, 2**32 - 1),
    some.sampled_from([16, 20, 26, 40]),
)
def test_the_mean_of_a_sum_is_the_weighted_mean_within_the_grids_step(
    examples: list[int], seed: int, bits: int
) -> None:
    words = form(5, bits=bits)
    updates = [update_of(seed + i, 0.9) for i in range(len(examples))]
    values = [{"loss": 0.5 * i, "accuracy": 1 / (i + 1)} for i in range(len(examples))]
    made = [words.encode(u, m, n) for u, m, n in zip(updates, values, examples, strict=True)]
    mean = words.decode(total_of(made), len(made))
    assert mean.examples == sum(examples)
    each = words.work.most_examples / sum(examples)
    for key in SHAPES:
        expected = sum(n * u[key] for n, u in zip(examples, updates, strict=True)) / sum(examples)
        room = len(made) * 0.5 * words.step * each + 1e-12
        assert np.max(np.abs(mean.update[key] - expected)) <= room
    for metric in ("loss", "accuracy"):
        expected = sum(n * m[metric] for n, m in zip(examples, values, strict=True))
        room = len(made) * 0.5 * words.metric_step(metric) * each + 1e-12
        assert abs(mean.metrics[metric] - expected / sum(examples)) <= room
    random.Random(seed).shuffle(made)
    again = words.decode(total_of(made), len(made))
    assert all(np.array_equal(mean.update[k], again.update[k]) for k in SHAPES)
    assert again.metrics == mean.metrics


@given(some.integers(3, 400), some.integers(16, 40))
def test_no_sum_of_the_longest_updates_wraps_around(sites: int, bits: int) -> None:
    work = SecureUpdates(clip_norm=1.0, bits=bits, most_examples=10**9)
    threshold, minimum = plan(sites, 2, sparse=False)
    words = SumOfUpdates(work, {"w": (1,)}, RANGES, sites, minimum, threshold)
    one = words.encode({"w": np.array([-5.0])}, {"loss": 9.0, "accuracy": 1.0}, 10**9)
    mean = words.decode((one * one.dtype.type(sites)).astype(one.dtype), sites)
    assert mean.examples == 10**9 * sites
    assert mean.update["w"][0] == pytest.approx(-1.0, abs=1e-4)
    assert mean.metrics == pytest.approx({"loss": 9.0, "accuracy": 1.0}, abs=1e-3)


def test_a_long_update_is_clipped_and_a_short_one_is_not() -> None:
    words = form()
    for length, expected in ((0.25, 0.25), (1.0, 1.0), (40.0, 1.0)):
        mean = words.decode(words.encode(update_of(3, length), {}, 1000), 1)
        found = math.sqrt(sum(float((a * a).sum()) for a in mean.update.values()))
        assert found == pytest.approx(expected, abs=1e-6)


def test_a_metric_that_a_site_lacks_is_in_no_mean_and_how_many_have_it_is_told() -> None:
    words = form()
    made = [words.encode(update_of(i), {"loss": 1.0} if i else {}, 10) for i in range(3)]
    mean = words.decode(total_of(made), 3)
    assert mean.metrics == {} and mean.of_some == {"loss": 2}
    mean = words.decode(total_of(made[1:]), 2)
    assert mean.metrics == pytest.approx({"loss": 1.0}, abs=1e-4) and mean.of_some == {}


def test_what_cannot_be_summed_is_refused() -> None:
    words = form()
    with pytest.raises(Refused, match="more examples"):
        words.encode(update_of(1), {}, 1001)
    with pytest.raises(Refused, match="range"):
        words.encode(update_of(1), {"accuracy": 1.5}, 10)
    with pytest.raises(Refused, match="not finite"):
        words.encode(update_of(1) | {"bias": np.full(5, np.nan)}, {}, 10)
    with pytest.raises(Refused, match="received"):
        words.encode({"weight": np.zeros(12)}, {}, 10)
    with pytest.raises(DocumentError, match="no examples"):
        words.decode(words.encode(update_of(1), {}, 0), 1)
    with pytest.raises(DocumentError, match="200 sites"):
        plan(SPARSE_SITES - 1, 2, sparse=True)


# ---- noise ---------------------------------------------------------------------------------------


def test_the_grid_is_that_of_the_draws() -> None:
    assert NOISE_STEPS == STEPS_PER_SIGMA


@pytest.mark.parametrize("sites", [3, 4, 5, 10, 100])
def test_the_honest_survivors_alone_add_the_noise_that_is_promised(sites: int) -> None:
    words = form(sites, noise_multiplier=2.0)
    assert words.honest == words.minimum - (2 * words.threshold - sites - 1) >= 1
    share = words.step * NOISE_STEPS
    assert share * math.sqrt(words.honest) == pytest.approx(2.0 * words.work.clip_norm)
    # All metrics together: what a site can move, in units of the noise, adds up to 2 / z.
    moved = sum(
        (
            (RANGES[m].maximum - RANGES[m].minimum)
            / (words.metric_step(m) * NOISE_STEPS * math.sqrt(words.honest))
        )
        ** 2
        for m in words.metrics
    )
    assert math.sqrt(moved) == pytest.approx(2 / 2.0)


def test_the_noise_of_a_sum_has_the_standard_deviation_that_is_said() -> None:
    work = SecureUpdates(clip_norm=1.0, most_examples=10, noise_multiplier=1.0)
    threshold, minimum = plan(5, 2, sparse=False)
    words = SumOfUpdates(work, {"w": (20_000,)}, {}, 5, minimum, threshold)
    still = {"w": np.zeros(20_000)}
    made = [
        words.encode(still, {}, 10, DiscreteGaussian(bytes([i]) * 32).draw_at) for i in range(5)
    ]
    noise = words.decode(total_of(made), 5).update["w"] * 5  # the mean's sum
    assert np.std(noise) == pytest.approx(math.sqrt(5 / words.honest), rel=0.03)
    assert abs(np.mean(noise)) < 5 * np.std(noise) / math.sqrt(20_000)


def test_an_update_gets_no_longer_by_being_put_on_the_noises_grid() -> None:
    words = form(5, noise_multiplier=1.0)
    for seed in range(20):
        on_grid = words.encode(update_of(seed, 3.0), {}, 1000, lambda _, n: np.zeros(n, np.int64))
        mean = words.decode(on_grid, 1)
        assert math.sqrt(sum(float((a * a).sum()) for a in mean.update.values())) <= 1.0


def concentrated(distance: float, sigma: float, sites: int, words: int) -> float:
    """Return e of theorem 1 of Kairouz, Liu and Steinke 2021, whose tau is a sum over k."""
    tau = 10 * sum(math.exp(-2 * math.pi**2 * sigma**2 * k / (k + 1)) for k in range(1, sites))
    either = distance / (math.sqrt(sites) * sigma) + tau * math.sqrt(words)
    return min(either, math.sqrt(distance**2 / (sites * sigma**2) + tau * words / 2))


@pytest.mark.parametrize(("sites", "z"), [(5, 1.0), (100, 0.5), (100, 8.0)])
def test_the_papers_bound_is_that_of_the_gaussian_release_that_is_charged(
    sites: int, z: float
) -> None:
    words = form(sites, noise_multiplier=z)
    # Whatever is changed moves a clipped update by twice its norm, in whole steps.
    distance = 2 * words.work.clip_norm / words.step
    e = concentrated(distance, NOISE_STEPS, words.honest, 10**9)
    assert e == pytest.approx(1 / (z / 2), rel=1e-12)


def test_the_papers_term_counts_where_the_noise_is_coarse() -> None:
    assert concentrated(1.0, 0.5, 10, 100) > 1.05 * concentrated(1.0, 0.5, 10, 1)


def test_the_accounts_epsilon_is_within_the_bound_of_concentrated_privacy() -> None:
    # Bun and Steinke 2016, proposition 1.3: (1/2) e^2-CDP for T rounds is T e^2 / 2 zCDP, which is
    # (rho + 2 sqrt(rho log(1 / delta)), delta)-DP; the account's composition is tighter.
    charged = epsilon({GaussianRelease(4.0 / 2): 100}, 1e-5)
    rho = 100 * (1 / 2.0) ** 2 / 2
    assert charged == pytest.approx(33.1, abs=0.05)
    assert 0.8 * charged < charged <= rho + 2 * math.sqrt(rho * math.log(1e5))


# ---- terms ---------------------------------------------------------------------------------------


def test_another_model_another_attempt_another_round_are_other_terms() -> None:
    words = form(5)
    told = {"job": "ab" * 32, "round_name": "000001", "attempt": 1, "message": "cd" * 32}

    def made(**changes: object) -> bytes:
        people = [Participant(f"s{i}", f"key {i}") for i in range(5)]
        return terms(
            **{**told, **changes},  # type: ignore[arg-type]
            participants=people, threshold=words.threshold, minimum=words.minimum, sparse=False,
            words=words,
        ).digest  # fmt: skip

    others = [made(message="ef" * 32), made(attempt=2), made(round_name="000009"), made(job="0")]
    assert len({made(), *others}) == 5


def test_a_sparse_sum_counts_a_fifth_of_its_sites_as_dishonest() -> None:
    words = form(400, sparse=True)
    assert words.dishonest == math.floor(GAMMA * 400) == 80
    assert words.minimum == 320
    assert words.honest == 240
    people = [Participant(f"s{i}", f"key {i}") for i in range(400)]
    made = terms(
        job="ab" * 32, round_name="000001", attempt=1, message="cd" * 32, participants=people,
        threshold=words.threshold, minimum=words.minimum, sparse=True, words=words,
    )  # fmt: skip
    assert (made.degree, made.threshold, made.minimum) == (58, 37, 320)
