"""However rows lie at sites, answers are the pooled ones, or say in a sentence why there are none.

One strategy draws tables with what goes wrong in practice, and partitions of them: empty sites,
constant columns, perfect separation, a site with a single event, ties, missing values.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Protocol, Self

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from contract.dictionary import Variable
from contract.errors import DocumentError
from contract.statistics.fit import Fit
from contract.statistics.least_squares import Factor
from contract.statistics.regression import Sums, sums
from contract.statistics.summaries import CoMoments, Counts, Moments, Shape
from contract.statistics.survival import LifeTable, life_tables, log_rank
from tests.contract.fits import Rows, category, fit, number
from tests.examples import examples

Floats = NDArray[np.float64]
SITES = ("a", "b", "c", "d")
DICTIONARY = (
    number("x", -50, 50), number("z", -50, 50), number("y", -500, 500), number("count", 0, 100),
    number("time", 1, 12), category("ill", "no", "yes"), category("died", "no", "yes"),
    category("site", *SITES),
)  # fmt: skip
MONTHS = Variable(name="time", kind="number", whole=True, minimum=1, maximum=13, bins=12)


@dataclass(frozen=True)
class Table:
    """A table's columns, some values missing, and at which site each row is."""

    columns: dict[str, NDArray[Any]]
    owner: NDArray[np.int64]
    hard: frozenset[str]

    @property
    def sites(self) -> list[Rows]:
        """Each site's rows; some sites have none."""
        return [np.flatnonzero(self.owner == site) for site in range(len(SITES))]

    def complete(self) -> Table:
        """Return it without the rows in which anything is missing, as an analysis set is."""
        kept = ~np.isnan(self.columns["x"]) & ~np.isnan(self.columns["y"])
        kept &= self.columns["ill"] >= 0
        return Table(
            {name: column[kept] for name, column in self.columns.items()},
            self.owner[kept],
            self.hard,
        )


HARD = ("empty", "constant", "collinear", "separated", "single event", "no event", "ties",
        "missing", "few")  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Draw a table with any of the hard cases in it, and a partition."""
    hard = draw(st.frozensets(st.sampled_from(HARD), max_size=3))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(3, 8)) if "few" in hard else draw(st.integers(30, 90))
    x, z = random.normal(0, 3, n), random.normal(0, 3, n)
    if "ties" in hard:
        x, z = np.rint(x), np.rint(z)
    if "constant" in hard:
        z = np.full(n, 2.0)
    if "collinear" in hard:
        z = 3 * x - 1
    y = 1 + 0.5 * x - 0.2 * np.nan_to_num(z) + random.normal(0, 2, n)
    ill = (random.random(n) < 1 / (1 + np.exp(-0.4 * x))).astype(np.int64)
    if "separated" in hard:
        ill = (x > np.median(x)).astype(np.int64)
    owner = random.integers(0, len(SITES), n)
    if "empty" in hard:
        owner[np.isin(owner, random.choice(len(SITES), 2, replace=False))] = 0
    died = (random.random(n) < 0.6).astype(np.int64)
    if "single event" in hard:
        there = np.flatnonzero(owner == owner[0])
        died[there] = 0
        died[there[0]] = 1
    if "no event" in hard:
        died[:] = 0
    time = np.ceil(random.exponential(5, n)).clip(1, 12)
    columns: dict[str, NDArray[Any]] = {
        "x": x, "z": z, "y": y, "count": random.poisson(np.exp(0.1 * x).clip(0, 20)).astype(float),
        "time": time, "ill": ill, "died": died, "site": owner,
    }  # fmt: skip
    if "missing" in hard:
        columns["x"] = np.where(random.random(n) < 0.2, np.nan, x)
        columns["y"] = np.where(random.random(n) < 0.2, np.nan, y)
        columns["ill"] = np.where(random.random(n) < 0.2, -1, ill)
    return Table(columns, owner, hard)


# ---- merging -------------------------------------------------------------------------------------


class Mergeable(Protocol):
    """A summary."""

    def merge(self, other: Self, /) -> Self:
        """Return both parts'."""
        ...


def moments(t: Table, rows: Rows) -> Moments:
    return Moments.of(t.columns["x"][rows])


def shape(t: Table, rows: Rows) -> Shape:
    return Shape.of(t.columns["x"][rows])


def comoments(t: Table, rows: Rows) -> CoMoments:
    return CoMoments.of([t.columns[name][rows] for name in ("x", "y", "z")])


def counts(t: Table, rows: Rows) -> Counts:
    return Counts.of_levels(t.columns["ill"][rows], 2)


def factor(t: Table, rows: Rows) -> Factor:
    c = t.columns
    design = np.column_stack([np.ones(len(rows)), c["z"][rows], c["count"][rows]])
    return Factor.of(design, c["time"][rows])


def glm_sums(t: Table, rows: Rows) -> Sums:
    c = t.columns
    design = np.column_stack([np.ones(len(rows)), c["z"][rows]])
    return sums("poisson", design, c["count"][rows], np.array([0.2, 0.05]))


def life_table(t: Table, rows: Rows) -> LifeTable:
    crossed = [t.columns["time"][rows].astype(np.int64) - 1, t.columns["died"][rows]]
    (found,) = life_tables(Counts.of_crosstab(crossed, [14, 2]).counts, MONTHS)
    return found


def plain(summary: Any) -> list[Floats]:
    """A summary's figures, of a factor its products."""
    if isinstance(summary, Factor):
        return [np.array([summary.n]), summary.r.T @ summary.r]
    return [np.asarray(value, np.float64) for value in summary.__dict__.values()]


def same(one: object, other: object) -> None:
    for a, b in zip(plain(one), plain(other), strict=True):
        scale = max(1.0, float(np.abs(a).max(initial=0.0)))
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * scale)


@pytest.mark.parametrize(
    "of", [moments, shape, comoments, counts, factor, glm_sums, life_table],
    ids=lambda of: of.__name__,
)  # fmt: skip
@settings(max_examples=examples(10, 60))
@given(table=tables())
def test_merging_is_associative_and_commutative_and_gives_the_pooled_summary(
    of: Callable[[Table, Rows], Mergeable], table: Table
) -> None:
    parts: Sequence[Any] = [of(table, rows) for rows in table.sites]
    pooled = of(table, np.arange(len(table.owner)))
    a, b, c, d = parts
    same(a.merge(b), b.merge(a))
    same(a.merge(b).merge(c), a.merge(b.merge(c)))
    same(a.merge(b).merge(c.merge(d)), pooled)
    for order in itertools.islice(itertools.permutations(parts), 0, 24, 5):
        same(reduce(lambda one, other: one.merge(other), order), pooled)


# ---- fitting -------------------------------------------------------------------------------------

Outcome = Fit | str


def fitted(table: Table, formula: str, family: str, sites: Sequence[Rows]) -> Outcome:
    """A fit, or why there is none: one sentence."""
    try:
        return fit(formula, family, DICTIONARY, table.columns, sites)[1]
    except DocumentError as error:
        assert str(error).endswith(".")
        assert "\n" not in str(error)
        return str(error)


def both(table: Table, formula: str, family: str) -> Outcome:
    """The federated outcome, having checked that it is the pooled one."""
    there = fitted(table, formula, family, table.sites)
    pooled = fitted(table, formula, family, [np.arange(len(table.owner))])
    if isinstance(there, str) or isinstance(pooled, str):
        assert there == pooled
        return there
    assert there.converged == pooled.converged
    assert there.n == pooled.n == len(table.owner)
    if there.converged:
        assert there.coefficients == pytest.approx(pooled.coefficients, rel=1e-9, abs=1e-9)
        assert there.standard_errors == pytest.approx(pooled.standard_errors, rel=1e-9)
        assert there.deviance == pytest.approx(pooled.deviance, rel=1e-9, abs=1e-9)
    return there


def design(table: Table) -> Floats:
    return np.column_stack([np.ones(len(table.owner)), table.columns["x"], table.columns["z"]])


def is_singular(table: Table) -> bool:
    return np.linalg.matrix_rank(design(table)) < 3


@settings(max_examples=examples(15, 100))
@given(tables())
def test_a_linear_model_is_that_of_numpy_or_says_which_column_is_to_blame(table: Table) -> None:
    table = table.complete()
    found = both(table, "y ~ x + z", "linear")
    if isinstance(found, str):
        assert is_singular(table) or len(table.owner) <= 3
        assert "singular" in found or "as many coefficients" in found or "No site" in found
        return
    true = np.linalg.lstsq(design(table), table.columns["y"])[0]
    assert found.coefficients == pytest.approx(true, rel=1e-7, abs=1e-9)


@settings(max_examples=examples(15, 100))
@given(tables())
def test_a_logistic_model_is_that_of_statsmodels_or_says_that_it_did_not_converge(
    table: Table,
) -> None:
    table = table.complete()
    found = both(table, "ill ~ x + z", "logistic")
    if isinstance(found, str):
        return
    if "separated" in table.hard:
        assert not found.converged
        return
    if found.converged:
        true = sm.GLM(table.columns["ill"], design(table), sm.families.Binomial()).fit(tol=1e-14)
        assert found.coefficients == pytest.approx(true.params, rel=1e-6, abs=1e-8)


@settings(max_examples=examples(10, 60))
@given(tables())
def test_a_poisson_model_is_the_pooled_one_or_says_why_there_is_none(table: Table) -> None:
    both(table.complete(), "count ~ x + z", "poisson")


@settings(max_examples=examples(10, 60))
@given(tables())
def test_a_cox_model_stratified_by_site_is_that_of_all_rows_with_strata(table: Table) -> None:
    table = table.complete()
    there = fitted(table, "Surv(time, died) ~ x", "cox", table.sites)
    whole = [np.arange(len(table.owner))]
    pooled = fitted(table, "Surv(time, died) ~ x + strata(site)", "cox", whole)
    if isinstance(there, str) or isinstance(pooled, str):
        assert there == pooled
        return
    assert there.converged == pooled.converged
    if there.converged:
        assert there.coefficients == pytest.approx(pooled.coefficients, rel=1e-9, abs=1e-9)
        assert there.standard_errors == pytest.approx(pooled.standard_errors, rel=1e-9)


@settings(max_examples=examples(10, 60))
@given(tables())
def test_curves_and_their_test_are_those_of_all_rows(table: Table) -> None:
    def curves(rows: Rows) -> list[LifeTable]:
        groups = (table.columns["z"] > 0).astype(np.int64)
        return [life_table(table, rows[groups[rows] == group]) for group in (0, 1)]

    each = [curves(rows) for rows in table.sites]
    merged = [reduce(LifeTable.merge, own) for own in zip(*each, strict=True)]
    pooled = curves(np.arange(len(table.owner)))
    for one, other in zip(merged, pooled, strict=True):
        np.testing.assert_array_equal(one.survival, other.survival)
    assert log_rank(merged).statistic == pytest.approx(
        log_rank(pooled).statistic, rel=1e-9, nan_ok=True
    )
