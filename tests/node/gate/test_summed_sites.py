"""A node counts over which sets of sites a job's sums are, and sums the same over one set only."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import wire_pb2 as wire
from contract.errors import Refused
from node.gate.summed_sites import SummedSites, digest_of_inputs

SITES = tuple("abcdefgh")
subsets = st.sets(st.sampled_from(SITES), min_size=3).map(lambda chosen: tuple(sorted(chosen)))


@given(st.lists(st.tuples(st.sampled_from("123"), subsets), max_size=20), st.integers(1, 4))
def test_whatever_is_asked_no_more_sets_are_summed_than_allowed(
    asked: list[tuple[str, tuple[str, ...]]], most: int
) -> None:
    known, summed = SummedSites(), []
    for inputs, sites in asked:
        try:
            known = SummedSites.read(known.join(inputs, sites, most).to_bytes())
        except Refused as refusal:
            assert refusal.code == "other-sites"
            continue
        summed.append((inputs, sites))
    assert len({sites for _, sites in summed}) <= most
    for inputs in "123":
        assert len({sites for said, sites in summed if said == inputs}) <= 1


@given(st.lists(subsets, min_size=1, max_size=2, unique=True))
def test_sums_over_s_sets_tell_the_parts_of_at_most_one_site_less(
    sets: list[tuple[str, ...]],
) -> None:
    """By rank: a site's part is told if its unit vector is a combination of the sets."""
    rows = np.array([[site in one for site in SITES] for one in sets], dtype=float)
    told = [
        place
        for place in range(len(SITES))
        if np.linalg.matrix_rank(np.vstack([rows, np.eye(len(SITES))[place]]))
        == np.linalg.matrix_rank(rows)
    ]
    assert len(told) <= len(sets) - 1


@pytest.mark.parametrize("sites", range(4, 40))
def test_fewer_than_twice_as_many_sets_are_learned_as_each_site_allows(sites: int) -> None:
    threshold = 2 * sites // 3 + 1
    for allowed, dishonest in itertools.product(range(1, 9), range(2 * threshold - sites)):
        honest = sites - dishonest
        assert allowed * honest // (threshold - dishonest) < 2 * allowed


def test_a_set_that_was_summed_may_be_summed_again() -> None:
    known = SummedSites().join("1", SITES, 1).join("2", SITES, 1)
    assert known.sets == (SITES,)
    with pytest.raises(Refused, match="as many sets"):
        known.join("3", SITES[1:], 1)
    with pytest.raises(Refused, match="over other sites before"):
        known.join("2", SITES[1:], 9)


def test_inputs_are_the_arrays_whatever_stands_beside_them() -> None:
    message = wire.RecordDict(tensors=wire.BlobReference(digest="00" * 32, size=4))
    other = wire.RecordDict(tensors=message.tensors)
    other.records.add(name="config", kind=wire.Record.CONFIG)
    assert digest_of_inputs("train", message, b"1") == digest_of_inputs("train", other, b"2")
    assert digest_of_inputs("train", message, b"1") != digest_of_inputs("evaluate", message, b"1")
    none = wire.RecordDict()
    assert digest_of_inputs("train", none, b"1") != digest_of_inputs("train", none, b"2")
