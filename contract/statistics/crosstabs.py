"""Tests of merged crosstabs: chi-squared, Fisher's exact, McNemar's, and a trend's.

A crosstab arrives as counts in C order; ``table_of`` gives it its shape. Tests by approximation
take counts with noise, and say so; exact ones refuse them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contract.errors import DocumentError
from contract.statistics import special
from contract.statistics.conditional_odds import conditional_odds_ratio
from contract.statistics.estimates import (
    CONFIDENCE,
    NOISY,
    Estimate,
    HypothesisTest,
    Table,
    cells,
    chi_squared_p,
    normal_p,
    undefined,
    z_quantile,
)

MAX_STEPS = 12_000_000
"""Of Fisher's exact test: two or three seconds on one core."""
MAX_SUBJECTS = 1_000_000
"""Of Fisher's exact test; of more the chi-squared test says the same."""
_SAME = 1e-7
"""Two tables are as probable when their logarithms differ by less (as in R)."""


@dataclass(frozen=True)
class Association:
    """A test of independence, with what was expected and how strong the association is.

    ``cramers_v`` is 0 to 1 (Cramér 1946), ``corrected_v`` is without its bias in small samples
    (Bergsma 2013). ``smallest_expected`` under 5 makes the p value doubtful.
    """

    test: HypothesisTest
    expected: Table
    smallest_expected: float
    cramers_v: float
    corrected_v: float


def table_of(counts: ArrayLike, shape: Sequence[int]) -> NDArray[np.float64]:
    """Return a crosstab's counts in its shape; ``DocumentError`` when they don't fit."""
    flat = np.asarray(counts, dtype=np.float64)
    if flat.size != math.prod(shape):
        raise DocumentError("A crosstab's counts don't fit its variables' levels.")
    return flat.reshape(tuple(shape))


def chi_squared(counts: ArrayLike, continuity: bool | None = None) -> Association:
    """Test independence in a table of two variables (Pearson 1900).

    ``continuity``: Yates' correction (1934); by default in a table of two by two only. V is always
    without it. Levels of nobody are left out.
    """
    name = "Pearson's chi-squared test"
    table, noisy = cells(counts, 2)
    whole = _expected(table)
    kept = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    rows, columns = kept.shape
    if min(rows, columns) < 2:
        test = undefined(name, "A variable has fewer than two levels with anybody.", noisy)
        return Association(test, whole, math.nan, math.nan, math.nan)
    expected = _expected(kept)
    plain = float(((kept - expected) ** 2 / expected).sum())
    statistic = plain
    small = kept.shape == (2, 2)
    if continuity and not small:
        raise DocumentError("Yates' correction is for tables of two by two.")
    if small and continuity is not False:
        name += " with Yates' correction"
        short = np.maximum(np.abs(kept - expected) - 0.5, 0.0)
        statistic = float((short**2 / expected).sum())
    degrees = (rows - 1) * (columns - 1)
    n = float(kept.sum())
    notes = [NOISY] if noisy else []
    smallest = float(expected.min())
    if smallest < 5:
        notes.append("An expected count is under 5.")
    least = min(rows, columns) - 1
    bias = max(0.0, plain / n - degrees / (n - 1)) if n > 1 else math.nan
    inner = min(rows - (rows - 1) ** 2 / (n - 1), columns - (columns - 1) ** 2 / (n - 1)) - 1
    return Association(
        HypothesisTest(
            name,
            statistic,
            chi_squared_p(statistic, degrees),
            (degrees,),
            note=" ".join(notes),
            approximate=noisy,
        ),
        whole,
        smallest,
        math.sqrt(plain / n / least),
        math.sqrt(bias / inner) if inner > 0 else math.nan,
    )


def mutual_independence(counts: ArrayLike) -> HypothesisTest:
    """Test whether all variables of a table, two or more, are independent of one another.

    Pearson's chi-squared against the product of the single variables' shares, as of R's
    ``summary(table(...))``. Levels of nobody are left out.
    """
    name = "Test of mutual independence"
    table, noisy = cells(counts)
    sums = [
        table.sum(axis=tuple(a for a in range(table.ndim) if a != axis))
        for axis in range(table.ndim)
    ]
    kept = table[np.ix_(*(np.flatnonzero(one > 0) for one in sums))]
    degrees = math.prod(kept.shape) - sum(kept.shape) + kept.ndim - 1
    if degrees < 1 or not kept.size:
        return undefined(name, "Fewer than two variables have two levels with anybody.", noisy)
    n = float(kept.sum())
    expected = np.full(kept.shape, n)
    for axis, one in enumerate(sums):
        shape = [-1 if a == axis else 1 for a in range(kept.ndim)]
        expected *= (one[one > 0] / n).reshape(shape)
    statistic = float(((kept - expected) ** 2 / expected).sum())
    notes = [NOISY] if noisy else []
    if expected.min() < 5:
        notes.append("An expected count is under 5.")
    p = chi_squared_p(statistic, degrees)
    return HypothesisTest(name, statistic, p, (degrees,), note=" ".join(notes), approximate=noisy)


def _expected(table: Table) -> Table:
    total = table.sum()
    if total <= 0:
        return np.zeros_like(table)
    return np.asarray(np.outer(table.sum(axis=1), table.sum(axis=0)) / total)


def fisher_exact(
    counts: ArrayLike,
    max_steps: int = MAX_STEPS,
    simulate: np.random.Generator | None = None,
    simulations: int = 20_000,
    confidence: float = CONFIDENCE,
) -> HypothesisTest:
    """Test independence exactly, given the margins (Fisher 1935; Freeman and Halton 1951).

    The p value is the probability of all tables as probable as the one seen, or less. It is exact
    for every size: tables are enumerated, the last two columns at once. A table that would take
    more than ``max_steps`` gives NaN with the reason; or, with a generator to ``simulate`` by, the
    share of so many random tables with these margins (Patefield 1981), and the name says so. The
    statistic is the probability of the table seen; of two by two the estimate is the conditional
    odds ratio with its exact interval.

    ``DocumentError``: counts that aren't whole or are below zero, so carry noise.
    """
    name = "Fisher's exact test"
    table, noisy = cells(counts, 2)
    if noisy:
        raise DocumentError("Fisher's exact test needs exact counts; these carry noise.")
    kept = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0].astype(np.int64)
    if min(kept.shape) < 2:
        return undefined(name, "A variable has fewer than two levels with anybody.")
    if kept.shape[0] > kept.shape[1]:
        kept = kept.T
    # The largest columns last: they are the ones dealt with at once.
    kept = kept[:, np.argsort(kept.sum(axis=0), kind="stable")]
    rows, columns = kept.sum(axis=1), kept.sum(axis=0)
    if kept.sum() > MAX_SUBJECTS:
        return undefined(name, f"It is for {MAX_SUBJECTS} subjects at most.")
    factorials = special.gammaln(np.arange(int(kept.sum()) + 1) + 1)
    constant = float(factorials[rows].sum() + factorials[columns].sum() - factorials[-1])
    seen = -float(factorials[kept].sum())
    p = _as_improbable(rows, columns, seen, factorials, max_steps)
    note = ""
    if math.isnan(p) and simulate is not None:
        name = f"{name}, simulated"
        note = f"Of {simulations} random tables."
        p = _simulated(rows, columns, seen, factorials, simulate, simulations)
    elif math.isnan(p):
        note = "The table has too many like it to enumerate."
    estimate = None
    if table.shape == (2, 2):
        estimate = conditional_odds_ratio(table.astype(np.int64), confidence)
    return HypothesisTest(name, math.exp(seen + constant), p, estimate=estimate, note=note)


def _limit(seen: float) -> float:
    return seen + _SAME * max(1.0, abs(seen)) / 10


def _as_improbable(
    rows: NDArray[np.int64], columns: NDArray[np.int64], seen: float, factorials: Table, steps: int
) -> float:
    """Return the probability of tables with these margins whose log is at most ``seen``.

    Column by column; tables so far are alike when they leave the same rows, in any order, and
    are as probable. Of each kind only its logarithm and how many ways lead to it are kept.
    """
    states: dict[tuple[int, ...], dict[float, float]] = {tuple(sorted(rows)): {0.0: 1.0}}
    for column in columns[:-2]:
        following: dict[tuple[int, ...], dict[float, float]] = {}
        for state, paths in states.items():
            fills = _fills(np.array(state), int(column), steps)
            if fills is None or (steps := steps - 10 * len(fills) * (1 + len(paths))) < 0:
                return math.nan
            logs = -factorials[fills].sum(axis=1)
            for left, log in zip(np.sort(np.array(state) - fills, axis=1), logs, strict=True):
                held = following.setdefault(tuple(left.tolist()), {})
                for past, ways in paths.items():
                    key = round(past + float(log), 9)
                    held[key] = held.get(key, 0.0) + ways
        states = following
    constant = float(factorials[rows].sum() + factorials[columns].sum() - factorials[-1])
    total = 0.0
    for state, paths in states.items():
        last = _last_two(state, int(columns[-2]), factorials, steps)
        if last is None or (steps := steps - last.size) < 0:
            return math.nan
        last.sort()
        # Shares of the likeliest: without them, exponents of large tables leave float64's range.
        peak = float(last[-1])
        running = np.concatenate([[0.0], np.cumsum(np.exp(last - peak))])
        pasts = np.array(list(paths))
        places = np.searchsorted(last, _limit(seen) - pasts, side="right")
        weights = np.array(list(paths.values())) * np.exp(pasts + (peak + constant))
        total += float(weights @ running[places])
    return min(total, 1.0)


def _last_two(
    rows: Sequence[int], column: int, factorials: Table, steps: int
) -> NDArray[np.float64] | None:
    """Return the logarithm of each way to deal two columns over rows; None: too many."""
    logs = np.zeros(1)
    left = np.array([column])
    after = sum(rows)
    for most in rows:
        after -= most
        low = np.maximum(left - after, 0)
        chosen, value = _spread(low, np.minimum(left, most) - low + 1, steps)
        if chosen is None or value is None:
            return None
        logs = logs[chosen] - factorials[value] - factorials[most - value]
        left = left[chosen] - value
    return logs


def _fills(rows: NDArray[np.int64], column: int, steps: int) -> NDArray[np.int64] | None:
    """Return each way to deal a column over rows that hold so many at most; None: too many."""
    dealt = np.zeros((1, 0), dtype=np.int64)
    left = np.array([column])
    after = int(rows.sum())
    for most in rows:
        after -= int(most)
        low = np.maximum(left - after, 0)
        chosen, value = _spread(low, np.minimum(left, most) - low + 1, steps)
        if chosen is None or value is None:
            return None
        dealt = np.column_stack([dealt[chosen], value])
        left = left[chosen] - value
    return dealt


def _spread(
    low: NDArray[np.int64], ways: NDArray[np.int64], steps: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | tuple[None, None]:
    """Return, for each way from ``low`` up, whose it is and its value; None: too many."""
    if 10 * int(ways.sum()) > steps:
        return None, None
    chosen = np.repeat(np.arange(low.size), ways)
    starts = np.repeat(np.cumsum(ways) - ways - low, ways)
    return chosen, np.arange(chosen.size) - starts


def _simulated(
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    seen: float,
    factorials: Table,
    generator: np.random.Generator,
    count: int,
) -> float:
    """Return the share of random tables as improbable as the one seen, itself among them."""
    from scipy.stats import random_table

    drawn = random_table(rows, columns).rvs(count, random_state=generator)
    logs = -factorials[drawn.astype(np.int64)].sum(axis=(1, 2))
    return (1 + int(np.count_nonzero(logs <= _limit(seen)))) / (count + 1)


def mcnemar(counts: ArrayLike, exact: bool | None = None) -> HypothesisTest:
    """Test whether two yes-or-no judgements of the same subjects have one rate (McNemar 1947).

    ``counts``: two by two, of the first by the second. Exact (binomial) when fewer than 25
    subjects differ and the counts are whole, else chi-squared with Edwards' correction (1948).
    The estimate is the ratio b / c of those who differ one way and the other.
    """
    name = "McNemar's test"
    table, noisy = cells(counts, 2)
    if table.shape != (2, 2):
        raise DocumentError("McNemar's test needs a table of two by two.")
    if exact and noisy:
        raise DocumentError("McNemar's exact test needs exact counts; these carry noise.")
    b, c = float(table[0, 1]), float(table[1, 0])
    if b + c == 0:
        return undefined(name, "Nobody was judged differently.", noisy)
    estimate = Estimate("ratio of discordant pairs", b / c if c else math.inf)
    if exact if exact is not None else (b + c < 25 and not noisy):
        p = min(1.0, 2 * float(special.bdtr(min(b, c), int(b + c), 0.5)))
        return HypothesisTest(f"{name}, exact", min(b, c), p, estimate=estimate)
    statistic = max(abs(b - c) - 1, 0.0) ** 2 / (b + c)
    return HypothesisTest(
        name,
        statistic,
        chi_squared_p(statistic, 1),
        (1,),
        estimate,
        NOISY if noisy else "",
        noisy,
    )


def trend(counts: ArrayLike, scores: ArrayLike | None = None) -> HypothesisTest:
    """Test whether a share rises or falls over ordered levels (Cochran 1954, Armitage 1955).

    ``counts``: two rows (with and without), a column for each level. ``scores``: the levels'
    numbers, 0, 1, 2 ... by default. The statistic is z; above zero the first row's share rises.
    """
    name = "Cochran and Armitage's test for trend"
    table, noisy = cells(counts, 2)
    if table.shape[0] != 2:
        raise DocumentError("A test for trend needs a table of two rows.")
    given = np.arange(table.shape[1]) if scores is None else scores
    at = np.asarray(given, dtype=np.float64)
    if at.shape != (table.shape[1],):
        raise DocumentError("A test for trend needs one score for each level.")
    size = table.sum(axis=0)
    n = float(size.sum())
    if n == 0 or min(table.sum(axis=1)) == 0:
        return undefined(name, "Everybody or nobody has it.", noisy)
    share = float(table[0].sum()) / n
    centred = at - float(at @ size) / n
    spread = float(size @ centred**2) * share * (1 - share)
    if spread <= 0:
        return undefined(name, "Fewer than two levels hold anybody.", noisy)
    z = float(centred @ table[0]) / math.sqrt(spread)
    result = HypothesisTest(name, z, normal_p(z))
    return replace(result, note=NOISY, approximate=True) if noisy else result


def goodman_kruskal_gamma(counts: ArrayLike, confidence: float = CONFIDENCE) -> Estimate:
    """Return gamma, (C - D) / (C + D) of ordered levels' concordant and discordant pairs.

    Goodman and Kruskal 1954; the standard error is theirs of 1972 (not under independence).
    """
    table, noisy = cells(counts, 2)
    concordant, discordant = _concordance(table)
    c, d = float((table * concordant).sum()), float((table * discordant).sum())
    if c + d == 0:
        return Estimate("gamma", math.nan, note="No pair is ordered.", approximate=noisy)
    squares = float((table * (d * concordant - c * discordant) ** 2).sum())
    error = 4 / (c + d) ** 2 * math.sqrt(squares)
    value, half = (c - d) / (c + d), z_quantile(confidence) * error
    return Estimate(
        "gamma", value, error, max(value - half, -1.0), min(value + half, 1.0), confidence,
        NOISY if noisy else "", noisy,
    )  # fmt: skip


def gamma_test(counts: ArrayLike, confidence: float = CONFIDENCE) -> HypothesisTest:
    """Test whether gamma is 0, by its standard error where it is (Brown and Benedetti 1977)."""
    name = "Goodman and Kruskal's test"
    gamma = goodman_kruskal_gamma(counts, confidence)
    table, noisy = cells(counts, 2)
    if math.isnan(gamma.value):
        return replace(undefined(name, gamma.note, noisy), estimate=gamma)
    concordant, discordant = _concordance(table)
    apart = concordant - discordant
    pairs = float((table * (concordant + discordant)).sum())
    square = float((table * apart**2).sum()) - float((table * apart).sum()) ** 2 / table.sum()
    if square <= 0:
        return replace(undefined(name, "Its statistic doesn't vary.", noisy), estimate=gamma)
    z = gamma.value * pairs / (2 * math.sqrt(square))
    return HypothesisTest(name, z, normal_p(z), (), gamma, gamma.note, noisy)


def kendall_tau_b(counts: ArrayLike) -> Estimate:
    """Return tau-b of two ordered variables (Kendall 1945), ties within cells' levels counted."""
    table, noisy = cells(counts, 2)
    concordant, discordant = _concordance(table)
    n = float(table.sum())
    ties = [n * n - float((table.sum(axis=axis) ** 2).sum()) for axis in (0, 1)]
    if min(ties) <= 0:
        return Estimate("tau-b", math.nan, note="A variable doesn't vary.", approximate=noisy)
    value = float((table * (concordant - discordant)).sum()) / math.sqrt(ties[0] * ties[1])
    return Estimate("tau-b", value, note=NOISY if noisy else "", approximate=noisy)


def kendall_test(counts: ArrayLike) -> HypothesisTest:
    """Test whether two ordered variables go together, by the normal law of tau-b's numerator.

    Its variance under independence counts ties (Kendall 1970), as R's ``cor.test`` has it without
    a correction for continuity. The estimate is tau-b.
    """
    name = "Kendall's test"
    tau = kendall_tau_b(counts)
    table, noisy = cells(counts, 2)
    n = float(table.sum())
    if math.isnan(tau.value) or n < 3:
        return replace(undefined(name, tau.note or "It needs three subjects.", noisy), estimate=tau)
    sums = [table.sum(axis=axis) for axis in (0, 1)]
    pairs = [float((t * (t - 1)).sum()) for t in sums]
    threes = [float((t * (t - 1) * (t - 2)).sum()) for t in sums]
    ties = sum(float((t * (t - 1) * (2 * t + 5)).sum()) for t in sums)
    variance = (
        (n * (n - 1) * (2 * n + 5) - ties) / 18
        + pairs[0] * pairs[1] / (2 * n * (n - 1))
        + threes[0] * threes[1] / (9 * n * (n - 1) * (n - 2))
    )
    ordered = [(n * (n - 1) - of) / 2 for of in pairs]
    z = tau.value * math.sqrt(ordered[0] * ordered[1] / variance)
    return HypothesisTest(name, z, normal_p(z), (), tau, tau.note, noisy)


def _concordance(table: Table) -> tuple[Table, Table]:
    """Return, for each cell, how many subjects lie concordant and discordant with it."""
    rows, columns = table.shape
    corner = np.zeros((rows + 1, columns + 1))
    corner[1:, 1:] = table.cumsum(axis=0).cumsum(axis=1)
    before, total = corner[:-1, :-1], corner[-1, -1]
    right = corner[-1, None, :] - corner  # below-left sums by rows from the end
    upper_right = corner[:-1, -1][:, None] - corner[:-1, 1:]
    lower_left = right[1:, :-1]
    after = total - corner[1:, -1][:, None] - corner[-1, 1:][None, :] + corner[1:, 1:]
    return before + after, upper_right + lower_left
