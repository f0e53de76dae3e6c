"""Hazard ratios of merged counts are those of the pooled rows, by another implementation."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from lifelines.datasets import load_rossi, load_waltons
from numpy.typing import NDArray

from contract.dictionary import Variable
from contract.errors import DocumentError
from contract.statistics.hazard_ratios import HazardRatios, hazard_ratios
from contract.statistics.survival import LifeTable, life_tables
from tests.contract.fits import split

Ints = NDArray[np.int64]


def tables(time: Any, event: Any, group: Any, variable: Variable, groups: int) -> list[LifeTable]:
    """Life tables of a crosstab of rows, as sites would send it and the sum is."""
    assert variable.bins is not None and variable.minimum is not None
    assert variable.maximum is not None
    edges = np.linspace(variable.minimum, variable.maximum, variable.bins + 1)
    place = np.clip(np.searchsorted(edges, time, side="right") - 1, 0, variable.bins - 1)
    counts: Ints = np.zeros((variable.bins + 2, 2, groups), np.int64)
    np.add.at(counts, (place, np.asarray(event, int), np.asarray(group, int)), 1)
    return life_tables(counts.ravel(), variable, groups)


def merged(parts: list[list[LifeTable]]) -> list[LifeTable]:
    return [reduce(LifeTable.merge, own) for own in zip(*parts, strict=True)]


def same(found: HazardRatios, expected: Any) -> None:
    assert found.converged
    assert found.estimates == pytest.approx(np.asarray(expected.params), rel=1e-9)
    errors = np.sqrt(np.diag(found.covariance))
    assert errors == pytest.approx(np.asarray(expected.bse), rel=1e-8)


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_where_a_bin_holds_one_value_it_is_the_pooled_cox_model_of_statsmodels(ties: str) -> None:
    data = load_rossi()
    week = Variable(name="week", kind="number", whole=True, minimum=0, maximum=53, bins=53)
    group = data["fin"] + 2 * (data["wexp"] == 1)
    x = np.column_stack([group == at for at in (1, 2, 3)]).astype(float)
    parts = [
        tables(data["week"][rows], data["arrest"][rows], group[rows], week, 4)
        for rows in split(len(data), 5)
    ]
    expected = sm.PHReg(data["week"], x, status=data["arrest"], ties=ties).fit(
        method="newton", tol=1e-14
    )
    same(hazard_ratios(*[merged(parts)], ties=ties), expected)  # type: ignore[arg-type]


def test_on_a_coarse_grid_it_is_that_of_the_times_rounded_up() -> None:
    data = load_waltons()
    time = Variable(name="time", kind="number", minimum=0, maximum=80, bins=8)
    group = (data["group"] == "miR-137").to_numpy().astype(float)
    rounded = np.floor(data["T"] / 10) * 10
    expected = sm.PHReg(rounded, group[:, None], status=data["E"], ties="efron").fit(
        method="newton", tol=1e-14
    )
    found = hazard_ratios(tables(data["T"], data["E"], group, time, 2))
    same(found, expected)
    exact = sm.PHReg(data["T"], group[:, None], status=data["E"], ties="efron").fit()
    assert found.estimates == pytest.approx(np.asarray(exact.params), rel=0.1)


def test_strata_have_a_baseline_each() -> None:
    data = load_rossi()
    week = Variable(name="week", kind="number", whole=True, minimum=0, maximum=53, bins=53)
    strata = [data["race"] == 0, data["race"] == 1]
    expected = sm.PHReg(
        data["week"], data[["fin"]], status=data["arrest"], strata=data["race"], ties="efron"
    ).fit(method="newton", tol=1e-14)
    parts = [
        tables(data["week"][own], data["arrest"][own], data["fin"][own], week, 2) for own in strata
    ]
    same(hazard_ratios(*parts), expected)


def test_what_has_no_ratio_is_said() -> None:
    time = Variable(name="time", kind="number", minimum=0, maximum=10, bins=5)
    rows = np.array([1.0, 3, 5, 7])
    with pytest.raises(DocumentError, match="Nobody had"):
        hazard_ratios(tables(rows, [0, 0, 0, 0], [0, 1, 0, 1], time, 2))
    with pytest.raises(DocumentError, match="has nobody"):
        hazard_ratios(tables(rows, [1, 0, 1, 0], [0, 0, 0, 0], time, 2))
    with pytest.raises(DocumentError, match="two groups"):
        hazard_ratios(tables(rows, [1, 0, 1, 0], [0, 0, 0, 0], time, 1))
    # Only the second group has events: its ratio is infinite.
    assert not hazard_ratios(tables(rows, [0, 1, 0, 1], [0, 1, 0, 1], time, 2)).converged
