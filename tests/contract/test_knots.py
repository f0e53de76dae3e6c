"""A spline's knots lie where its formula has them, or evenly, at edges of the grid."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.dictionary import Variable
from contract.errors import DocumentError
from contract.statistics import knots
from contract.terms import Spline

AGE = Variable(name="age", kind="number", minimum=15, maximum=95, bins=16)


def spline(**said: object) -> Spline:
    return Spline.model_validate({"variable": "age", "basis": "ns", **said})


def test_given_knots_stay() -> None:
    assert knots.of(spline(knots=(41.5,)), (15, 95), AGE) == (41.5,)


def test_open_knots_are_at_the_edges_nearest_to_even_ones() -> None:
    # Even ones would be at 41.67 and 68.33; edges are at 15, 20, ... 95.
    assert knots.of(spline(df=3), (15, 95), AGE) == (40, 70)
    assert knots.of(spline(df=2), (15, 95), AGE) == (55,)
    assert knots.of(spline(df=1), (15, 95), AGE) == ()
    assert knots.of(spline(basis="bs", df=5), (15, 95), AGE) == (40, 70)


def test_without_a_grid_they_are_even() -> None:
    plain = AGE.model_copy(update={"bins": None})
    assert knots.of(spline(df=3), (15, 95), plain) == pytest.approx((15 + 80 / 3, 15 + 160 / 3))


def test_boundary_knots_are_no_inner_ones() -> None:
    assert knots.inner_edges(AGE, (40, 55)) == (45, 50)


def test_a_grid_of_too_few_bins_is_said() -> None:
    coarse = AGE.model_copy(update={"bins": 3})
    with pytest.raises(DocumentError, match="3 knots needs a grid of 4 bins"):
        knots.of(spline(df=4), (15, 95), coarse)


@given(
    st.lists(st.floats(-10, 110), min_size=1, max_size=12),
    st.lists(st.integers(0, 100), min_size=12, max_size=40, unique=True),
)
def test_as_many_edges_are_taken_as_places_in_order(wanted: list[float], grid: list[int]) -> None:
    edges = sorted(map(float, grid))
    found = knots.on_edges(sorted(wanted), edges)
    assert len(found) == len(wanted)
    assert set(found) <= set(edges)
    assert all(a < b for a, b in itertools.pairwise(found))
