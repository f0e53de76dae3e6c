"""Curves and tests from crosstabs on a grid: published ones, and others' on rounded times."""

from __future__ import annotations

from functools import reduce
from typing import Any

import lifelines
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines.datasets import load_rossi, load_waltons
from lifelines.utils import restricted_mean_survival_time

from contract.dictionary import Variable
from contract.errors import DocumentError
from contract.statistics import survival
from contract.statistics.summaries import Counts, place_codes, places
from contract.statistics.survival import LifeTable, life_tables, log_rank

WEEKS = Variable(name="week", kind="number", whole=True, minimum=0, maximum=54, bins=54)
"""Each bin but the last holds one week."""


def tables(
    time: Any, event: Any, variable: Variable, group: Any = None, groups: int = 1, sites: int = 3
) -> list[LifeTable]:
    """Return groups' life tables of the merged crosstabs of sites."""
    time, event = np.asarray(time, np.float64), np.asarray(event, np.int64)
    owner = np.random.default_rng(len(time)).integers(0, sites, len(time))
    codes = [place_codes(variable, time), event]
    widths = [places(variable), 2]
    if group is not None:
        codes.append(np.asarray(group, np.int64))
        widths.append(groups)
    parts = [Counts.of_crosstab([c[owner == s] for c in codes], widths) for s in range(sites)]
    return life_tables(reduce(Counts.merge, parts).counts, variable, groups)


def rossi(column: str | None = None) -> list[LifeTable]:
    data = load_rossi()
    if column is None:
        return tables(data["week"], data["arrest"], WEEKS)
    return tables(data["week"], data["arrest"], WEEKS, data[column], 2)


# ---- published values ----------------------------------------------------------------------------


def test_rossis_curve_is_that_of_r() -> None:
    """R 4.2.2, survival 3.5-3: survfit(Surv(week, arrest) ~ 1, conf.type = "log-log")."""
    [table] = rossi()
    low, high = table.band()
    for week, at_risk, s, low_r, high_r in (
        (10, 418, 0.965277777778, 0.94306460, 0.97892100),
        (26, 381, 0.875000000000, 0.83997541, 0.90280380),
        (52, 322, 0.736111111111, 0.69185972, 0.77506318),
    ):
        place = int(np.flatnonzero(table.times == week)[0])
        assert table.survival[place] == pytest.approx(s, rel=1e-11)
        assert table.at_risk[place] == at_risk
        assert (low[place], high[place]) == pytest.approx((low_r, high_r), abs=5e-9)
    week10 = int(np.flatnonzero(table.times == 10)[0])
    logs = [ends[week10] for ends in table.band(scale="log")]
    assert logs == pytest.approx((0.9481674518082, 0.9826968712063), rel=1e-9)
    plain = [ends[week10] for ends in table.band(0.9, "plain")]
    assert plain == pytest.approx((0.9507895490515, 0.9797660065041), rel=1e-9)
    with pytest.raises(DocumentError, match="log-log, log, plain"):
        table.band(scale="logit")  # type: ignore[arg-type]
    mean = table.restricted_mean(52)
    assert mean.value == pytest.approx(45.854166666667, rel=1e-12)
    assert mean.standard_error == pytest.approx(0.608509352265, rel=1e-11)
    assert table.quantile() == np.inf


def test_rossis_log_rank_tests_are_those_of_r() -> None:
    """R 4.2.2, survival 3.5-3: survdiff, with strata(race), with rho = 1."""
    found = log_rank(rossi("wexp"))
    assert found.statistic == pytest.approx(9.91041914249, rel=1e-11)
    assert (found.degrees, found.observed) == (1, (62, 52))
    assert log_rank(rossi("wexp"), rho=1).statistic == pytest.approx(10.9815007169, rel=1e-11)
    data = load_rossi()
    strata = [
        tables(some["week"], some["arrest"], WEEKS, some["wexp"], 2)
        for _, some in data.groupby("race")
    ]
    found = log_rank(*strata)
    assert found.statistic == pytest.approx(9.68021228097, rel=1e-11)
    assert found.expected == pytest.approx((45.781871, 68.218129), abs=5e-7)


# ---- another implementation ----------------------------------------------------------------------


@st.composite
def samples(draw: st.DrawFn) -> tuple[Any, Any, Variable]:
    """Times, events, and a grid that need not hold them all."""
    seed = draw(st.integers(0, 10**6))
    chance = np.random.default_rng(seed)
    n = draw(st.integers(1, 120))
    time = chance.exponential(10, n) + 0.01
    event = chance.random(n) < draw(st.sampled_from([0.0, 0.3, 0.9, 1.0]))
    bins = draw(st.integers(1, 40))
    grid = Variable(name="t", kind="number", minimum=0, maximum=float(bins), bins=bins)
    return time, event, grid


@settings(max_examples=60, deadline=None)
@given(samples())
def test_curves_are_those_of_times_rounded_up_to_the_grid(
    sample: tuple[Any, Any, Variable],
) -> None:
    time, event, grid = sample
    [table] = tables(time, event, grid)
    assert grid.maximum is not None
    rounded = np.where(time > grid.maximum, grid.maximum + 1, np.floor(time) + 1)
    known = np.flatnonzero(table.at_risk > 0)
    at = table.times[known]
    fitter = lifelines.KaplanMeierFitter().fit(rounded, event)
    assert table.survival[known] == pytest.approx(
        fitter.survival_function_at_times(at).to_numpy(), rel=1e-12, abs=1e-14
    )
    hazard = lifelines.NelsonAalenFitter(nelson_aalen_smoothing=False).fit(rounded, event)
    assert table.cumulative_hazard[known] == pytest.approx(
        hazard.cumulative_hazard_at_times(at).to_numpy(), rel=1e-12, abs=1e-14
    )
    until = float(at[-1])
    if not np.isnan(table.survival[known]).any():
        mean = restricted_mean_survival_time(fitter, until)
        found = table.restricted_mean(until)
        assert found.value == pytest.approx(mean, rel=1e-9)
        assert found.at_least <= found.value + 1e-12
    if (np.abs(table.survival[known] - 0.5) < 1e-8).any():
        assert fitter.median_survival_time_ <= table.quantile()
    else:
        assert table.quantile() == fitter.median_survival_time_ or table.quantile() > at[-1]


def test_a_curve_that_stays_at_a_half_has_its_median_in_the_middle() -> None:
    # quantile(survfit(Surv(t, d) ~ 1)) of R's survival 3.
    grid = Variable(name="T", kind="number", whole=True, minimum=0, maximum=20, bins=20)
    for times, events, wanted in (
        ((1, 2, 3, 4), (1, 1, 1, 1), (1.5, 2.5, 3.5)),
        ((1, 2, 3, 8), (1, 1, 0, 0), (1.5, 5, np.inf)),
        ((1, 2, 2, 5), (1, 1, 0, 1), (1.5, 3.5, 5)),
        ((1, 2), (1, 0), (1, 1.5, np.inf)),
        ((1, 2, 3, 4, 5, 6, 7, 8), (1, 1, 0, 1, 1, 0, 0, 1), (3, 5, 8)),
    ):
        [table] = tables(np.array(times), np.array(events), grid)
        assert tuple(table.quantile(share) for share in (0.25, 0.5, 0.75)) == wanted


@settings(max_examples=60, deadline=None)
@given(samples())
def test_the_curve_of_the_times_themselves_is_within_what_is_said(
    sample: tuple[Any, Any, Variable],
) -> None:
    time, event, grid = sample
    [table] = tables(time, event, grid)
    fitter = lifelines.KaplanMeierFitter().fit(time, event)
    # Just before a bin's end: the last one's alone belongs to it.
    exact = fitter.survival_function_at_times(np.nextafter(table.times, 0)).to_numpy()
    known = table.at_risk > 0
    assert (exact[known] <= table.survival[known] + 1e-12).all()
    assert (exact[known] >= table.lower[known] - 1e-12).all()
    if known.all():
        mean = restricted_mean_survival_time(fitter, float(table.times[-1]))
        found = table.restricted_mean(float(table.times[-1]))
        assert found.at_least - 1e-9 <= mean <= found.value + 1e-9


def test_the_interval_of_the_median_is_lifelines() -> None:
    data = load_waltons()
    grid = Variable(name="T", kind="number", whole=True, minimum=0, maximum=80, bins=80)
    [table] = tables(data["T"], data["E"], grid)
    fitter = lifelines.KaplanMeierFitter().fit(data["T"], data["E"])
    from lifelines.utils import median_survival_times

    expected = median_survival_times(fitter.confidence_interval_).to_numpy()[0]
    assert table.quantile() == fitter.median_survival_time_
    assert table.quantile_interval() == pytest.approx(tuple(expected))


@pytest.mark.parametrize(("rho", "gamma"), [(0, 0), (1, 0), (0, 1), (0.5, 2)])
def test_weighted_log_rank_tests_are_lifelines(rho: float, gamma: float) -> None:
    data = load_waltons()
    grid = Variable(name="T", kind="number", whole=True, minimum=0, maximum=80, bins=80)
    control = (data["group"] == "control").to_numpy()
    found = log_rank(tables(data["T"], data["E"], grid, control, 2), rho=rho, gamma=gamma)
    expected = lifelines.statistics.logrank_test(
        data["T"][control], data["T"][~control], data["E"][control], data["E"][~control],
        weightings="fleming-harrington", p=rho, q=gamma,
    )  # fmt: skip
    assert found.statistic == pytest.approx(expected.test_statistic, rel=1e-9)
    assert found.p == pytest.approx(expected.p_value, rel=1e-7)


def test_three_groups_are_compared_as_lifelines_does() -> None:
    data = load_rossi()
    group = np.minimum(data["prio"], 2)
    found = log_rank(tables(data["week"], data["arrest"], WEEKS, group, 3))
    expected = lifelines.statistics.multivariate_logrank_test(data["week"], group, data["arrest"])
    assert found.statistic == pytest.approx(expected.test_statistic, rel=1e-9)
    assert found.degrees == 2


# ---- edges ---------------------------------------------------------------------------------------


def test_at_a_time_those_are_at_risk_who_outlive_it() -> None:
    [table] = rossi()
    data = load_rossi()
    for week in (0, 10, 51, 52):
        assert table.at(week) == int((data["week"] > week).sum())


def test_who_lies_outside_the_grid_is_counted_at_its_ends() -> None:
    grid = Variable(name="t", kind="number", minimum=10, maximum=20, bins=2)
    [table] = tables([5, 12, 17, 30], [1, 1, 0, 1], grid)
    assert table.times.tolist() == [10, 15, 20]
    assert table.n == 4
    assert table.survival.tolist() == pytest.approx([0.75, 0.5, 0.5])
    assert table.at(20) == 1


def test_tables_of_parts_merge_to_the_table_of_all() -> None:
    data = load_rossi()
    half = len(data) // 2
    [whole] = rossi()
    [first] = tables(data["week"][:half], data["arrest"][:half], WEEKS)
    [second] = tables(data["week"][half:], data["arrest"][half:], WEEKS)
    merged = first.merge(second)
    assert merged.n == whole.n
    assert merged.survival == pytest.approx(whole.survival, rel=1e-12, nan_ok=True)


def test_what_can_not_be_a_curve_is_said() -> None:
    with pytest.raises(DocumentError, match="not of a time"):
        life_tables([1, 2, 3], WEEKS)
    with pytest.raises(DocumentError, match="without noise"):
        life_tables([-1] * 112, WEEKS)
    with pytest.raises(DocumentError, match="no grid"):
        survival.last_values(Variable(name="t", kind="number"))
    with pytest.raises(DocumentError, match="two groups"):
        log_rank(rossi())
    [table] = rossi()
    with pytest.raises(DocumentError, match="isn't known"):
        table.restricted_mean(60)
    empty = LifeTable(table.times, 0, table.events * 0, table.lost * 0)
    assert np.isnan(log_rank([table, empty]).statistic)


AML = LifeTable(
    np.array([9.0, 13, 18, 23, 28, 31, 34, 45, 48, 161]),
    11,
    np.array([1, 1, 1, 1, 0, 1, 1, 0, 1, 0]),
    np.array([0, 1, 0, 0, 1, 0, 0, 1, 0, 1]),
)
"""Miller 1997, table 1.1: acute myelogenous leukaemia, maintained chemotherapy."""
CHAZ = [
    0.0909090909090909, 0.1909090909090909, 0.3159090909090909, 0.4587662337662338,
    0.4587662337662338, 0.6587662337662338, 0.9087662337662338, 0.9087662337662338,
    1.4087662337662339, 1.4087662337662339,
]  # fmt: skip
"""``cumhaz`` and ``std.chaz`` of R's survival 3.5, ``survfit(Surv(time, status) ~ 1)``."""
STD_CHAZ = [
    0.0909090909090909, 0.1351460795210773, 0.1840909090909091, 0.2330185101557889,
    0.2330185101557889, 0.3070791853500062, 0.3959767999204291, 0.3959767999204291,
    0.6378068877608829, 0.6378068877608829,
]  # fmt: skip


def test_cumulative_hazards_and_their_errors_are_those_of_r() -> None:
    assert AML.cumulative_hazard == pytest.approx(CHAZ, rel=1e-12)
    assert np.sqrt(AML.hazard_variance) == pytest.approx(STD_CHAZ, rel=1e-12)
    low, high = AML.hazard_band(0.9)
    reach = 1.6448536269514722 * np.array(STD_CHAZ) / CHAZ
    assert low == pytest.approx(CHAZ * np.exp(-reach), rel=1e-12)
    assert high == pytest.approx(CHAZ * np.exp(reach), rel=1e-12)
    empty = LifeTable(AML.times[:1], 3, np.array([0]), np.array([1]))
    assert [float(one[0]) for one in empty.hazard_band()] == [0, 0]
