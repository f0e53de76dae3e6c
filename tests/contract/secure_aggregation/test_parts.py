"""Sharing, masks, fixed point and graph, each against an independent computation."""

from __future__ import annotations

import contextlib
import itertools
import secrets

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from contract.errors import DocumentError
from contract.secure_aggregation import FixedPoint, degree
from contract.secure_aggregation.graph import neighbours
from contract.secure_aggregation.masking import add_mask
from contract.secure_aggregation.sharing import PRIME, Combiner, split


@settings(max_examples=40, deadline=None)
@given(secret=st.binary(min_size=32, max_size=32), data=st.data(), holders=st.integers(1, 12))
def test_any_threshold_of_shares_give_the_secret(
    secret: bytes, data: st.DataObject, holders: int
) -> None:
    threshold = data.draw(st.integers(1, holders))
    points = data.draw(
        st.lists(st.integers(1, 500), min_size=holders, max_size=holders, unique=True)
    )
    shares = dict(zip(points, split(secret, points, threshold, secrets.token_bytes), strict=True))
    chosen = data.draw(st.permutations(points))[:threshold]
    assert Combiner(chosen).combine(shares) == secret


def test_fewer_shares_fit_every_secret_alike() -> None:
    """With one share less, each secret has exactly one polynomial: nothing is told."""
    shares = split(b"a" * 32, [1, 2, 3], 3, secrets.token_bytes)
    for other in (b"b" * 32, bytes(32)):
        at_zero = int.from_bytes(other, "big")
        one, two = (int.from_bytes(share, "big") for share in shares[:2])
        # The third point that makes `other` the secret, by Lagrange at 3 from 0, 1 and 2.
        third = (at_zero - 3 * one + 3 * two) % PRIME
        forged = {1: shares[0], 2: shares[1], 3: third.to_bytes(33, "big")}
        assert Combiner([1, 2, 3]).combine(forged) == other


def test_the_field_is_a_prime_one() -> None:
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37):
        assert pow(base, PRIME - 1, PRIME) == 1
    assert PRIME > 1 << 256


def test_wrong_shares_are_refused_or_give_another_secret() -> None:
    shares = dict(zip([1, 2, 3], split(b"a" * 32, [1, 2, 3], 2, secrets.token_bytes), strict=True))
    shares[2] = bytes(33)
    with contextlib.suppress(DocumentError):
        assert Combiner([1, 2]).combine(shares) != b"a" * 32
    with pytest.raises(DocumentError):
        Combiner([1, 1])
    with pytest.raises(DocumentError):
        Combiner([1, 2]).combine({1: b"short", 2: shares[2]})


@pytest.mark.parametrize("width", [2, 4, 8])
@pytest.mark.parametrize("length", [1, 7, 32_768, 32_769, 200_000])
def test_a_mask_is_aes_in_counter_mode(width: int, length: int) -> None:
    seed = bytes(range(32))
    vector = np.zeros(length, np.dtype(f"u{width}"))
    add_mask(vector, seed)
    stream = Cipher(algorithms.AES256(seed), modes.CTR(bytes(16))).encryptor()
    assert vector.tobytes() == stream.update(bytes(length * width))
    add_mask(vector, seed, subtract=True)
    assert not vector.any()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.floats(-20, 20), min_size=5, max_size=5), min_size=1, max_size=9),
    st.integers(8, 40),
)
def test_a_sum_in_fixed_point_is_right_within_its_step(rows: list[list[float]], bits: int) -> None:
    form = FixedPoint(bound=10.0, bits=bits, sites=len(rows))
    words = [form.encode(np.array(row)) for row in rows]
    total = form.decode(np.sum(words, axis=0, dtype=words[0].dtype))
    expected = np.clip(np.array(rows), -10, 10).sum(axis=0)
    assert np.abs(total - expected).max() <= len(rows) * form.step / 2 * (1 + 1e-6)


def test_what_can_not_be_summed_is_refused() -> None:
    with pytest.raises(DocumentError):
        FixedPoint(10.0, 16, 3).encode(np.array([np.nan]))
    with pytest.raises(DocumentError):
        FixedPoint(0.0, 16, 3)
    with pytest.raises(DocumentError):
        FixedPoint(1.0, 48, 1 << 17)


@pytest.mark.parametrize(
    ("sites", "gamma", "delta"), [(200, 0.2, 0.1), (400, 0.2, 0.1), (1000, 1 / 3, 0.05)]
)
def test_the_degree_keeps_its_bounds_and_is_the_smallest_that_does(
    sites: int, gamma: float, delta: float
) -> None:
    def keeps(neighbours: int, threshold: int) -> bool:
        read, gone = int(gamma * sites), int(delta * sites)
        connected = sites * (gamma + delta) ** (neighbours / 2) <= 2.0**-40
        private = sites * hypergeom.sf(threshold - 1, sites - 1, read, neighbours) <= 2.0**-40
        lasting = sites * hypergeom.sf(neighbours - threshold, sites - 1, gone, neighbours)
        return bool(connected and private and lasting <= 2.0**-20)

    found = degree(sites, gamma, delta)
    assert keeps(found.neighbours, found.threshold)
    smaller = found.neighbours - 2
    assert not any(keeps(smaller, threshold) for threshold in range(1, smaller + 1))


def test_neighbours_are_mutual_and_as_many_as_the_degree() -> None:
    near = neighbours(31, 6, b"seed")
    assert all(len(some) == 6 and one not in some for one, some in enumerate(near))
    assert all(one in near[other] for one, some in enumerate(near) for other in some)
    assert near != neighbours(31, 6, b"another")
    assert neighbours(4, 0, b"") == [tuple(o for o in range(4) if o != one) for one in range(4)]
    reached, edge = {0}, [0]
    while edge:
        edge = [o for o in itertools.chain(*(near[e] for e in edge)) if o not in reached]
        reached |= set(edge)
    assert len(reached) == 31
