"""Competing events are told as R's survival and cmprsk tell them, of counts on a grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from contract.dictionary import Variable
from contract.errors import DocumentError
from contract.statistics import competing, survival
from contract.statistics.hazard_ratios import hazard_ratios

MONTHS = Variable(name="months", kind="number", minimum=1, maximum=10, bins=9, whole=True)
GROUPS = (
    ((8, 15, 25), (3, 14, 7), (2, 7, 2), (2, 2, 0), (0, 1, 1), (0, 0, 0)),
    ((3, 20, 8), (4, 6, 3), (3, 6, 2), (0, 0, 2), (0, 2, 0), (0, 0, 0)),
    ((9, 19, 8), (0, 6, 3), (0, 2, 1), (1, 0, 0), (0, 2, 0), (1, 0, 0)),
)
"""By month: lost, with the event, with the other one."""
STRATA = (
    (
        ((8, 19, 12), (2, 9, 4), (3, 10, 1), (1, 0, 1), (0, 2, 1), (0, 0, 0)),
        ((4, 8, 2), (0, 4, 2), (0, 2, 1), (1, 0, 0), (0, 2, 0), (1, 0, 0)),
    ),
    (
        ((3, 16, 21), (5, 11, 6), (2, 3, 3), (1, 2, 1), (0, 1, 0), (0, 0, 0)),
        ((5, 11, 6), (0, 2, 1), (0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0)),
    ),
)


def table(rows: object) -> competing.CompetingTable:
    counts = np.array(rows).T
    times = np.arange(1.0, counts.shape[1] + 1)
    return competing.CompetingTable(times, int(counts.sum()), counts[1:], counts[0])


TABLES = [table(rows) for rows in GROUPS]


def test_curves_errors_and_intervals_are_those_of_survfit() -> None:
    """R 4.2, survival 3.5: summary(survfit(Surv(t, factor(status)) ~ group), times = c(1, 3))."""
    wanted = {
        (0, 0): ((0.168539325843, 0.280898876404), (0.0396804400187, 0.0476403541576)),
        (0, 2): ((0.467122338110, 0.406493318073), (0.0570139695921, 0.0546749461356)),
        (1, 0): ((0.338983050847, 0.135593220339), (0.0616267526771, 0.0445709677753)),
        (1, 2): ((0.594188861985, 0.239426957224), (0.0689453296086, 0.0586850239202)),
        (2, 5): ((0.685897435897, 0.274038461538), (0.0746078779992, 0.0692886261262)),
    }
    for (group, at), (values, errors) in wanted.items():
        held = TABLES[group]
        assert held.incidence[:, at] == pytest.approx(values, rel=1e-10)
        assert held.errors[:, at] == pytest.approx(errors, rel=1e-10)
    low, high = TABLES[0].band()
    assert (low[0, 2], high[0, 2]) == pytest.approx((0.352662317651, 0.573562887902), rel=1e-9)
    low, high = TABLES[0].band(scale="log")
    assert (low[0, 2], high[0, 2]) == pytest.approx((0.367737916684, 0.593366277617), rel=1e-9)


def test_grays_test_is_that_of_cmprsk() -> None:
    """R, cmprsk 2.2: cuminc(t, status, group)$Tests, with rho and with strata."""
    for kind, rho, statistic, p in (
        (0, 0, 6.09305889726, 0.0475235715139),
        (1, 0, 5.99698151939, 0.0498622657494),
        (0, 1, 7.62297270305, 0.0221152834306),
        (1, 1, 6.43149469456, 0.0401253350553),
    ):
        found = competing.gray(TABLES, kind=kind, rho=rho)
        assert (found.statistic, found.p_value) == pytest.approx((statistic, p), rel=1e-9)
        assert found.degrees == (2,)
    strata = [[table(rows) for rows in stratum] for stratum in STRATA]
    for kind, statistic in ((0, 3.35924810600), (1, 0.76887703814)):
        found = competing.gray(*strata, kind=kind)
        assert found.statistic == pytest.approx(statistic, rel=1e-9)


def test_a_test_that_could_have_come_out_in_no_other_way_is_undefined() -> None:
    """All who are left have the event together: R's cmprsk gives -1, its survdiff an error."""
    all_at_once = [table([(0, size, 0)]) for size in (2, 3)]
    found = competing.gray(all_at_once)
    assert np.isnan(found.p_value)
    assert "vary" in found.note
    assert np.isnan(survival.log_rank([one.of(0) for one in all_at_once]).statistic)


def test_hazards_of_a_cause_take_other_events_for_losses() -> None:
    """R: survdiff(Surv(t, status == k) ~ group), coxph of the same by Efron's ties."""
    for kind, chi_squared, logs in (
        (0, 2.7421061071, (0.248222768082, 0.390286691265)),
        (1, 4.06358674556, (-0.529987718982, -0.503492485518)),
    ):
        lives = [one.of(kind) for one in TABLES]
        assert survival.log_rank(lives).statistic == pytest.approx(chi_squared, rel=1e-9)
        assert hazard_ratios(lives).estimates == pytest.approx(logs, rel=1e-8)


COUNTS = arrays(np.int64, (2, 5, 3), elements=st.integers(0, 6))


@settings(deadline=None, max_examples=60)
@given(COUNTS, st.integers(0, 20))
def test_incidences_and_survival_add_up_to_one_and_no_interval_leaves_a_probability(
    counts: np.ndarray, living: int
) -> None:
    held = table(counts[0])
    held = competing.CompetingTable(held.times, held.n + living, held.events, held.lost)
    known = held.at_risk > 0
    total = held.incidence.sum(axis=0) + held.of_any.survival
    assert total[known] == pytest.approx(np.ones(known.sum()))
    assert (held.errors[:, known] >= 0).all()
    for ends in held.band():
        assert ((ends[:, known] >= 0) & (ends[:, known] <= 1))[held.incidence[:, known] < 1].all()


@settings(deadline=None, max_examples=60)
@given(COUNTS)
def test_of_one_kind_alone_it_is_one_less_kaplan_and_meiers_and_grays_test_is_defined(
    counts: np.ndarray,
) -> None:
    counts = counts.copy()
    counts[:, :, 2] = 0
    tables = [table(rows) for rows in counts]
    one = tables[0]
    np.testing.assert_allclose(one.incidence[0], 1 - one.of(0).survival, atol=1e-12)
    found = competing.gray(tables)
    assert np.isnan(found.statistic) or found.statistic >= -1e-9


def test_merged_tables_are_those_of_all_subjects() -> None:
    whole = TABLES[0].merge(TABLES[1]).merge(TABLES[2])
    assert whole.n == sum(one.n for one in TABLES)
    assert (whole.events == sum(one.events for one in TABLES)).all()
    with pytest.raises(DocumentError, match="grids"):
        whole.merge(competing.CompetingTable(whole.times + 1, 0, whole.events * 0, whole.lost * 0))


def test_a_crosstab_is_read_by_its_levels_and_what_is_below_the_grid_is_at_its_beginning() -> None:
    cells = np.zeros((11, 3, 2), dtype=np.int64)
    cells[0, :, 0], cells[9, 2, 1], cells[10, 0, 1] = (1, 2, 3), 4, 5
    first, second = competing.competing_tables(cells, MONTHS, 3, 2)
    assert first.times.tolist() == [1, *range(1, 9), 10]
    assert (first.n, first.events[:, 1].tolist(), first.lost[1]) == (6, [2, 3], 1)
    assert (second.n, second.events[1, 0], int(second.at_risk[-1])) == (9, 4, 5)
    for wrong in (cells[:-1], -cells):
        with pytest.raises(DocumentError):
            competing.competing_tables(wrong, MONTHS, 3, 2)
    with pytest.raises(DocumentError, match="three levels"):
        competing.competing_tables(cells, MONTHS, 2, 3)
    with pytest.raises(DocumentError, match="two groups"):
        competing.gray([first])
