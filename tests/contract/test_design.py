"""Columns are those of R's model.matrix: of other implementations, and of R itself."""

from __future__ import annotations

from typing import Any

import formulaic
import numpy as np
import pandas as pd
import patsy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.dictionary import Variable
from contract.errors import DocumentError
from contract.statistics import design, recoding, splines
from researcher.formulas import parse
from tests.contract.fits import category, number
from tests.contract.world import World

DICTIONARY = (
    category("a", "p", "q", "r"),
    category("b", "x", "y"),
    category("c", "u", "v"),
    number("n", 0, 10),
    number("m", 1, 5),
)
PROJECT = World().project(variables=DICTIONARY)


def values(rows: int = 60) -> dict[str, Any]:
    """Return rows in which every combination of levels occurs."""
    chance = np.random.default_rng(5)
    at = np.arange(rows)
    return {
        "a": at % 3,
        "b": at // 3 % 2,
        "c": at // 6 % 2,
        "n": chance.uniform(0, 10, rows),
        "m": chance.uniform(1, 5, rows),
    }


def frame(data: dict[str, Any]) -> pd.DataFrame:
    found = pd.DataFrame({name: data[name] for name in ("n", "m")})
    for variable in DICTIONARY[:3]:
        levels = pd.Index(variable.levels)
        found[variable.name] = pd.Categorical(levels[data[variable.name]], categories=levels)
    return found


def made(formula: str, data: dict[str, Any] | None = None) -> tuple[list[str], Any]:
    """Return the names and the matrix of a formula's columns."""
    model = parse(f"y ~ {formula}", "linear")
    data = values() if data is None else data
    columns = design.columns(model.terms, PROJECT, intercept=model.intercept)
    return [c.name for c in columns], design.matrix(columns, data, len(data["n"]))


@st.composite
def right_sides(draw: st.DrawFn) -> str:
    """Write terms of up to three of the variables."""
    names = st.lists(st.sampled_from("abcnm"), min_size=1, max_size=3, unique=True)
    terms = draw(st.lists(names, min_size=1, max_size=4))
    without = draw(st.sampled_from(["", "0 + "]))
    return without + " + ".join(":".join(term) for term in terms)


@settings(max_examples=60, deadline=None)
@given(right_sides())
def test_the_columns_are_those_of_two_other_implementations(right: str) -> None:
    """As sets: their order is another matter."""
    _, ours = made(right)
    data = frame(values())
    for theirs in (
        np.asarray(patsy.dmatrix(right, data)),
        formulaic.model_matrix(right, data).to_numpy(),
    ):
        assert ours.shape == theirs.shape
        assert np.linalg.matrix_rank(ours) == ours.shape[1] == np.linalg.matrix_rank(theirs)
        both = np.column_stack([ours, theirs])
        assert np.linalg.matrix_rank(both) == ours.shape[1]


@pytest.mark.parametrize(
    ("right", "names"),
    [
        # R 4.2.2: colnames(model.matrix(...)), with brackets around levels.
        ("a*b", ["(Intercept)", "a[q]", "a[r]", "b[y]", "a[q]:b[y]", "a[r]:b[y]"]),
        ("0 + a + b", ["a[p]", "a[q]", "a[r]", "b[y]"]),
        ("a:n", ["(Intercept)", "a[p]:n", "a[q]:n", "a[r]:n"]),
        ("n + n:a", ["(Intercept)", "n", "n:a[q]", "n:a[r]"]),
        ("b/a", ["(Intercept)", "b[y]", "b[x]:a[q]", "b[y]:a[q]", "b[x]:a[r]", "b[y]:a[r]"]),
        ("C(a, ref = 'r') + n", ["(Intercept)", "a[p]", "a[q]", "n"]),
        ("n*poly(m, 2, raw = TRUE)", ["(Intercept)", "n", "poly(m, 2, raw=TRUE)1",
                                       "poly(m, 2, raw=TRUE)2",
                          "n:poly(m, 2, raw=TRUE)1", "n:poly(m, 2, raw=TRUE)2"]),
        ("1", ["(Intercept)"]),
    ],
)  # fmt: skip
def test_columns_are_called_and_ordered_as_r_has_them(right: str, names: list[str]) -> None:
    assert made(right)[0] == names


def test_what_is_done_with_a_number_is_what_patsy_does() -> None:
    data = values()
    for ours, theirs in (
        ("log(m)", "np.log(m)"),
        ("log1p(n) + sqrt(n) + log2(m) + log10(m)",
         "np.log1p(n) + np.sqrt(n) + np.log2(m) + np.log10(m)"),
        ("I(((n - 5)/2)^3)", "I(((n - 5)/2)**3)"),
        ("poly(n, 3, raw = TRUE)", "n + I(n**2) + I(n**3)"),
        ("bs(n, knots = c(2, 6), Boundary.knots = c(0, 10))",
         "bs(n, knots=[2, 6], lower_bound=0, upper_bound=10)"),
        ("bs(n, df = 4, degree = 2)", "bs(n, knots=[10/3, 20/3], degree=2, lower_bound=0,"
                                      " upper_bound=10)"),
    ):  # fmt: skip
        expected = np.asarray(patsy.dmatrix(theirs, frame(data)))
        assert made(ours)[1] == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_natural_splines_are_those_of_r() -> None:
    """R 4.2.2: ns(x, knots = c(1.5, 3), Boundary.knots = c(0, 5)), the first and last outside."""
    x = np.array([-1, 0, 0.5, 1.2, 2, 3.3, 4, 5, 6])
    expected = [
        [0.185495558, -0.51011279, 0.324617227],
        [0.000000000, 0.00000000, 0.000000000],
        [-0.084406773, 0.24739640, -0.157434075],
        [-0.107288602, 0.50624365, -0.322155053],
        [0.135865719, 0.54859149, -0.344774674],
        [0.533361940, 0.34630466, -0.020038033],
        [0.368394276, 0.33691574, 0.266118555],
        [-0.150537634, 0.41397849, 0.736559140],
        [-0.731182796, 0.51075269, 1.220430108],
    ]
    assert splines.natural(x, [1.5, 3], (0, 5)) == pytest.approx(np.array(expected), abs=1e-8)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10**6))
def test_a_natural_spline_spans_what_one_of_truncated_powers_does(knots: int, seed: int) -> None:
    """Hastie, Tibshirani, Friedman, The elements of statistical learning, 5.2.1."""
    inner = np.sort(np.random.default_rng(seed).uniform(0.5, 9.5, knots))
    row = [0.0, *inner, 10.0]
    x = np.linspace(-2, 12, 57)

    def power(at: float) -> Any:
        return np.maximum(x - at, 0) ** 3

    last = [(power(k) - power(row[-1])) / (row[-1] - k) for k in row[:-1]]
    other = np.column_stack([x, *(one - last[-1] for one in last[:-1])])
    ours = splines.natural(x, list(inner), (0, 10))
    assert ours.shape[1] == knots + 1
    ones = np.ones(len(x))
    both = np.column_stack([ones, ours, other / np.abs(other).max(axis=0)])
    sizes = np.linalg.svd(both, compute_uv=False)
    assert sizes[knots + 2] < 1e-9 * sizes[0]


@given(st.integers(1, 10), st.floats(-100, 100), st.floats(0.5, 200))
def test_the_way_back_from_chebyshevs_polynomials_is_exact(
    degree: int, low: float, width: float
) -> None:
    variable = number("t", low, low + width)
    project = World().project(variables=(variable,))
    model = parse(f"y ~ poly(t, {degree}, raw = TRUE)", "linear")
    columns = design.columns(model.terms, project)
    degrees = design.chebyshev_degrees(columns, least=1)
    x = {"t": np.linspace(low, low + width, 9)}
    back = recoding.way_back(degree + 1, design.polynomials(columns, degrees), 0)
    inner = design.matrix(columns, x, 9, degrees)
    own = design.matrix(columns, x, 9)
    size = np.abs(own).max(axis=0) @ np.abs(back)
    assert np.abs(own @ back - inner).max() <= 1e-13 * size.max()


@pytest.mark.parametrize(
    ("formula", "says"),
    [
        ("q", "not in the project's dictionary"),
        ("log(n)", "isn't defined"),
        ("log(a)", "is of a category"),
        ("C(a, ref = 'z')", "no level z"),
        ("C(n, ref = '1')", "is a number"),
        ("a + C(a, ref = 'q'):n", "two references"),
        ("ns(n, knots = c(11, 12))", "outside its boundary"),
        ("bs(n, df = 4, Boundary.knots = c(1, 9))", "doesn't reach"),
        ("0", "needs a term"),
        ("n + I(n)", None),
    ],
)
def test_what_can_not_be_a_column_is_said(formula: str, says: str | None) -> None:
    if says is None:
        assert made(formula)[0] == ["(Intercept)", "n", "I(n)"]
        return
    with pytest.raises(DocumentError, match=says):
        made(formula)


def test_a_number_without_a_range_makes_no_spline() -> None:
    project = World().project(variables=(Variable(name="w", kind="number"),))
    model = parse("y ~ ns(w, df = 3)", "linear")
    with pytest.raises(DocumentError, match="no range"):
        design.columns(model.terms, project)
