"""Merged over any partition, every statistic is the pooled one; NIST's certified values hold."""

from __future__ import annotations

import dataclasses
import math
import statistics
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract import wire_pb2 as wire
from contract.dictionary import Variable
from contract.errors import DocumentError
from contract.statistics import forms
from contract.statistics.answers import Part, answer_locally, check, merge_answers
from contract.statistics.summaries import Counts, Moments
from contract.work import Statistic
from tests.contract.world import World

# NIST Statistical Reference Datasets, univariate summary statistics: values, certified mean,
# certified sample standard deviation (to 15 digits), and how many of its digits float64 can hold.
NIST: dict[str, tuple[list[float], float, float, float]] = {
    "NumAcc1": ([10000001.0, 10000003.0, 10000002.0], 10000002.0, 1.0, 1e-14),
    "NumAcc2": ([1.2] + [1.1, 1.3] * 500, 1.2, 0.1, 1e-13),
    "NumAcc3": ([1000000.2] + [1000000.1, 1000000.3] * 500, 1000000.2, 0.1, 1e-9),
    "NumAcc4": ([10000000.2] + [10000000.1, 10000000.3] * 500, 10000000.2, 0.1, 1e-8),
}
# Michelson's speed of light: the hundred velocities (km/s, over 299,000) of the 1879 experiment, as
# NIST's Michelso lists them; certified for the values in Mm/s.
MICHELSON = [
    850, 740, 900, 1070, 930, 850, 950, 980, 980, 880, 1000, 980, 930, 650, 760, 810, 1000, 1000,
    960, 960, 960, 940, 960, 940, 880, 800, 850, 880, 900, 840, 830, 790, 810, 880, 880, 830, 800,
    790, 760, 800, 880, 880, 880, 860, 720, 720, 620, 860, 970, 950, 880, 910, 850, 870, 840, 840,
    850, 840, 840, 840, 890, 810, 810, 820, 800, 770, 760, 740, 750, 760, 910, 920, 890, 860, 880,
    720, 840, 850, 850, 780, 890, 840, 780, 810, 760, 810, 790, 810, 820, 850, 870, 870, 810, 740,
    810, 940, 950, 800, 810, 870,
]  # fmt: skip
NIST["Michelso"] = (
    [299 + v / 1000 for v in MICHELSON],
    299.852400000000,
    0.0790105478190518,
    1e-11,
)
# Lew (a beam's deflections), Lottery (draws of Maryland's Pick-3) and Mavro (a filter's
# transmittance: ten-thousandths over 2).
LEW = [
    -213, -564, -35, -15, 141, 115, -420, -360, 203, -338, -431, 194, -220, -513, 154, -125, -559,
    92, -21, -579, -52, 99, -543, -175, 162, -457, -346, 204, -300, -474, 164, -107, -572, -8, 83,
    -541, -224, 180, -420, -374, 201, -236, -531, 83, 27, -564, -112, 131, -507, -254, 199, -311,
    -495, 143, -46, -579, -90, 136, -472, -338, 202, -287, -477, 169, -124, -568, 17, 48, -568,
    -135, 162, -430, -422, 172, -74, -577, -13, 92, -534, -243, 194, -355, -465, 156, -81, -578,
    -64, 139, -449, -384, 193, -198, -538, 110, -44, -577, -6, 66, -552, -164, 161, -460, -344, 205,
    -281, -504, 134, -28, -576, -118, 156, -437, -381, 200, -220, -540, 83, 11, -568, -160, 172,
    -414, -408, 188, -125, -572, -32, 139, -492, -321, 205, -262, -504, 142, -83, -574, 0, 48, -571,
    -106, 137, -501, -266, 190, -391, -406, 194, -186, -553, 83, -13, -577, -49, 103, -515, -280,
    201, 300, -506, 131, -45, -578, -80, 138, -462, -361, 201, -211, -554, 32, 74, -533, -235, 187,
    -372, -442, 182, -147, -566, 25, 68, -535, -244, 194, -351, -463, 174, -125, -570, 15, 72, -550,
    -190, 172, -424, -385, 198, -218, -536, 96,
]  # fmt: skip
LOTTERY = [
    162, 671, 933, 414, 788, 730, 817, 33, 536, 875, 670, 236, 473, 167, 877, 980, 316, 950, 456,
    92, 517, 557, 956, 954, 104, 178, 794, 278, 147, 773, 437, 435, 502, 610, 582, 780, 689, 562,
    964, 791, 28, 97, 848, 281, 858, 538, 660, 972, 671, 613, 867, 448, 738, 966, 139, 636, 847,
    659, 754, 243, 122, 455, 195, 968, 793, 59, 730, 361, 574, 522, 97, 762, 431, 158, 429, 414, 22,
    629, 788, 999, 187, 215, 810, 782, 47, 34, 108, 986, 25, 644, 829, 630, 315, 567, 919, 331, 207,
    412, 242, 607, 668, 944, 749, 168, 864, 442, 533, 805, 372, 63, 458, 777, 416, 340, 436, 140,
    919, 350, 510, 572, 905, 900, 85, 389, 473, 758, 444, 169, 625, 692, 140, 897, 672, 288, 312,
    860, 724, 226, 884, 508, 976, 741, 476, 417, 831, 15, 318, 432, 241, 114, 799, 955, 833, 358,
    935, 146, 630, 830, 440, 642, 356, 373, 271, 715, 367, 393, 190, 669, 8, 861, 108, 795, 269,
    590, 326, 866, 64, 523, 862, 840, 219, 382, 998, 4, 628, 305, 747, 247, 34, 747, 729, 645, 856,
    974, 24, 568, 24, 694, 608, 480, 410, 729, 947, 293, 53, 930, 223, 203, 677, 227, 62, 455, 387,
    318, 562, 242, 428, 968,
]  # fmt: skip
MAVRO = [
    18, 17, 18, 19, 18, 17, 15, 14, 15, 15, 17, 18, 18, 19, 19, 21, 20, 16, 14, 13, 13, 15, 15, 16,
    15, 14, 13, 14, 15, 14, 15, 16, 15, 16, 19, 20, 20, 21, 22, 23, 24, 25, 27, 26, 26, 26, 27, 26,
    25, 24,
]  # fmt: skip
NIST["Lew"] = ([float(v) for v in LEW], -177.435, 277.332168044316, 1e-14)
NIST["Lottery"] = ([float(v) for v in LOTTERY], 518.958715596330, 291.699727470969, 1e-14)
NIST["Mavro"] = ([2 + v / 10_000 for v in MAVRO], 2.001856, 0.000429123454003053, 1e-11)

WORLD = World()
GRID = Variable(name="x", kind="number", minimum=0, maximum=100, bins=10)
# To a millionth: squares of far smaller numbers are below what float64 can hold.
FINITE = st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 6))


def parts_of(values: list[float], cuts: list[int]) -> list[list[float]]:
    """The values cut into consecutive parts, some of them empty."""
    places = [0, *sorted(c % (len(values) + 1) for c in cuts), len(values)]
    return [values[a:b] for a, b in pairwise(places)]


def moments(values: list[float]) -> Moments:
    return Moments.of(np.array(values, dtype=np.float64))


def merged(parts: list[Moments]) -> Moments:
    total = Moments()
    for part in parts:
        total = total.merge(part)
    return total


# ---- certified values --------------------------------------------------------------------------


@pytest.mark.parametrize("name", NIST)
def test_mean_and_deviation_are_those_that_nist_certified(name: str) -> None:
    values, mean, deviation, tolerance = NIST[name]
    found = moments(values)
    assert found.n == len(values)
    assert found.mean == pytest.approx(mean, rel=1e-15)
    assert found.standard_deviation == pytest.approx(deviation, rel=tolerance)


@pytest.mark.parametrize("name", NIST)
@settings(max_examples=30)
@given(cuts=st.lists(st.integers(0, 2000), max_size=8), seed=st.integers(0, 99))
def test_nists_values_hold_for_every_split_over_sites(
    name: str, cuts: list[int], seed: int
) -> None:
    values, mean, deviation, tolerance = NIST[name]
    shuffled = list(np.random.default_rng(seed).permutation(values))
    found = merged([moments(part) for part in parts_of(shuffled, cuts)])
    assert found.n == len(values)
    assert found.mean == pytest.approx(mean, rel=1e-14)
    # Merging may cost a digit of what the data's own float64 form leaves.
    assert found.standard_deviation == pytest.approx(deviation, rel=max(10 * tolerance, 1e-12))


# ---- moments -----------------------------------------------------------------------------------


def exactly(values: list[float]) -> tuple[Fraction, Fraction]:
    """Mean and M2 in exact arithmetic: the oracle."""
    numbers = [Fraction(v) for v in values]
    mean = sum(numbers, Fraction()) / len(numbers)
    return mean, sum(((x - mean) ** 2 for x in numbers), Fraction())


def close(found: float, expected: Fraction, scale: float) -> bool:
    return abs(Fraction(found) - expected) <= Fraction(1e-9) * max(abs(expected), Fraction(scale))


@given(st.lists(FINITE, min_size=1, max_size=60), st.lists(st.integers(0, 60), max_size=6))
def test_moments_merged_over_any_partition_are_the_pooled_ones(
    values: list[float], cuts: list[int]
) -> None:
    found = merged([moments(part) for part in parts_of(values, cuts)])
    mean, m2 = exactly(values)
    size = max(map(abs, values))
    assert found.n == len(values)
    assert close(found.mean, mean, size * 1e-5)
    assert close(found.m2, m2, size * size * 1e-5)
    if len(values) > 1:
        assert found.standard_deviation == pytest.approx(
            statistics.stdev(map(Fraction, values)), rel=1e-9, abs=size * 1e-7
        )


@given(*(st.lists(FINITE, max_size=20) for _ in range(3)))
def test_merging_moments_is_associative_and_commutative(
    a: list[float], b: list[float], c: list[float]
) -> None:
    x, y, z = moments(a), moments(b), moments(c)
    size = max(map(abs, [*a, *b, *c, 1.0]))
    for one, other in ((x.merge(y), y.merge(x)), (x.merge(y).merge(z), x.merge(y.merge(z)))):
        assert (one.n, one.missing) == (other.n, other.missing)
        assert one.mean == pytest.approx(other.mean, rel=1e-9, abs=size * 1e-12)
        assert one.m2 == pytest.approx(other.m2, rel=1e-9, abs=size * size * 1e-11)


@given(st.lists(FINITE, max_size=20))
def test_a_site_without_subjects_changes_nothing(values: list[float]) -> None:
    found = moments(values)
    assert found.merge(Moments()) == found == Moments().merge(found)


@given(st.lists(st.none() | FINITE, max_size=40))
def test_missing_values_are_counted_and_not_averaged(values: list[float | None]) -> None:
    found = moments([math.nan if v is None else v for v in values])
    present = [v for v in values if v is not None]
    assert (found.n, found.missing) == (len(present), values.count(None))
    if present:
        assert found.mean == pytest.approx(statistics.fmean(present), rel=1e-9, abs=1e-6)


@given(FINITE, st.integers(1, 500))
def test_equal_values_have_no_spread(value: float, n: int) -> None:
    found = moments([value] * n)
    assert found.mean == pytest.approx(value, rel=1e-15)
    assert 0 <= found.m2 <= 1e-20 * max(value * value, 1)


def test_there_is_no_deviation_of_one_value() -> None:
    assert math.isnan(moments([1.0]).standard_deviation)
    assert math.isnan(Moments().variance)


# ---- counts ------------------------------------------------------------------------------------


@given(
    st.lists(FINITE | st.integers(-1, 11).map(lambda i: i * 10.0) | st.just(math.nan), max_size=60),
)
def test_a_histogram_has_numpys_edges(values: list[float]) -> None:
    found = Counts.of_histogram(np.array(values), GRID)
    present = [v for v in values if not math.isnan(v)]
    expected, _ = np.histogram(present, bins=10, range=(0, 100))
    assert list(found.counts) == list(expected)
    assert found.below == sum(v < 0 for v in present)
    assert found.above == sum(v > 100 for v in present)
    assert found.missing == len(values) - len(present)
    assert found.n + found.missing == len(values)


@given(
    st.floats(-1e9, 1e9),
    st.floats(1e-3, 1e9),
    st.integers(1, 1000),
    st.lists(st.floats(0, 1), max_size=30),
)
def test_a_value_on_or_beside_any_edge_falls_where_numpy_puts_it(
    low: float, width: float, bins: int, shares: list[float]
) -> None:
    high = low + width
    grid = Variable(name="x", kind="number", minimum=low, maximum=high, bins=bins)
    edges = np.linspace(low, high, bins + 1)
    around = [np.nextafter(edges, -np.inf), edges, np.nextafter(edges, np.inf)]
    values = np.concatenate([*around, low + np.array(shares) * width])
    inside = values[(values >= low) & (values <= high)]
    expected, _ = np.histogram(inside, bins=bins, range=(low, high))
    found = Counts.of_histogram(values, grid)
    assert list(found.counts) == list(expected)
    assert found.n == len(values)


def test_a_bin_holds_its_left_edge_and_only_the_last_one_its_right() -> None:
    values = np.array([0.0, 10.0, 99.9, 100.0, -0.1, 100.1, np.nan])
    assert Counts.of_histogram(values, GRID) == Counts((1, 1, 0, 0, 0, 0, 0, 0, 0, 2), 1, 1, 1)


@given(st.lists(st.integers(-1, 2), max_size=40), st.lists(st.integers(0, 40), max_size=4))
def test_levels_merged_over_any_partition_are_the_pooled_counts(
    codes: list[int], cuts: list[int]
) -> None:
    total = Counts((0, 0, 0))
    for part in parts_of(codes, cuts):  # type: ignore[arg-type]
        total = total.merge(Counts.of_levels(np.array(part, dtype=np.int64), 3))
    assert total == Counts(tuple(codes.count(i) for i in range(3)), codes.count(-1))


def test_a_code_beyond_the_levels_is_an_error_and_not_a_new_level() -> None:
    with pytest.raises(DocumentError):
        Counts.of_levels(np.array([0, 3]), 3)


def test_counts_of_different_grids_do_not_merge() -> None:
    with pytest.raises(DocumentError):
        Counts((1, 2)).merge(Counts((1, 2, 3)))


# ---- answers -----------------------------------------------------------------------------------

PROJECT = WORLD.project()
ASK = (
    Statistic(kind="moments", variable="age"),
    Statistic(kind="moments", variable="age", by="arm"),
    Statistic(kind="histogram", variable="age", by="arm"),
    Statistic(kind="levels", variable="arm"),
    Statistic(kind="count", variable="age"),
    Statistic(kind="count", variable="arm", by="arm"),
)


def columns(rows: list[tuple[float, int]]) -> dict[str, Any]:
    return {
        "age": np.array([r[0] for r in rows], dtype=np.float64),
        "arm": np.array([r[1] for r in rows], dtype=np.int64),
    }


ROWS = st.lists(st.tuples(st.floats(-10, 110) | st.just(math.nan), st.integers(-1, 1)), max_size=40)


def assert_alike(found: list[Part], expected: list[Part]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert list(one.groups) == list(other.groups)
        for level, summary in one.groups.items():
            pooled = other.groups[level]
            if isinstance(summary, Counts):
                assert summary == pooled
                continue
            assert isinstance(pooled, Moments)
            assert (summary.n, summary.missing) == (pooled.n, pooled.missing)
            assert summary.mean == pytest.approx(pooled.mean, rel=1e-9, abs=1e-9)
            assert summary.m2 == pytest.approx(pooled.m2, rel=1e-9, abs=1e-7)


@given(ROWS, st.lists(st.integers(0, 40), min_size=1, max_size=4))
def test_a_merged_answer_is_the_one_of_all_rows_together(
    rows: list[tuple[float, int]], cuts: list[int]
) -> None:
    places = [0, *sorted(c % (len(rows) + 1) for c in cuts), len(rows)]
    local = [answer_locally(ASK, PROJECT, columns(rows[a:b])) for a, b in pairwise(places)]
    assert all(forms.fits(part, ASK, PROJECT) for part in local)
    assert_alike(merge_answers(local), answer_locally(ASK, PROJECT, columns(rows)))


@given(ROWS)
def test_an_answer_comes_back_from_the_wire_as_it_was(rows: list[tuple[float, int]]) -> None:
    parts = answer_locally(ASK, PROJECT, columns(rows))
    parts[2] = Part({}, withheld=True)
    data = forms.encode(parts).SerializeToString()
    # Who is in no group is for disclosure control alone and never on the wire.
    sent = [dataclasses.replace(part, rest=None) for part in parts]
    assert forms.decode(wire.StatisticsAnswer.FromString(data)) == sent


def test_a_withheld_part_leaves_the_statistic_whole() -> None:
    rows = [(float(i), i % 2) for i in range(20)]
    held = [Part({}, withheld=True)] * len(ASK)
    whole = answer_locally(ASK, PROJECT, columns(rows))
    assert merge_answers([held, whole, held]) == whole
    assert merge_answers([held, held]) == held
    assert merge_answers([]) == []


def test_answers_of_different_forms_do_not_merge() -> None:
    one = answer_locally(ASK, PROJECT, columns([(1.0, 0)]))
    with pytest.raises(DocumentError):
        merge_answers([one, one[:-1]])
    with pytest.raises(DocumentError):
        merge_answers([[one[0]], [one[1]]])
    with pytest.raises(DocumentError):
        merge_answers([[one[0]], [one[4]]])


@pytest.mark.parametrize(
    ("kind", "variable", "by"),
    [
        ("moments", "height", None),
        ("moments", "arm", None),
        ("histogram", "arm", None),
        ("histogram", "weight", None),
        ("levels", "age", None),
        ("moments", "age", "age"),
        ("moments", "age", "sex"),
    ],
)
def test_what_the_dictionary_does_not_give_is_not_asked(
    kind: Any, variable: str, by: str | None
) -> None:
    with pytest.raises(DocumentError):
        check(Statistic(kind=kind, variable=variable, by=by), PROJECT)


# ---- the declared form -------------------------------------------------------------------------

GOOD = answer_locally(ASK, PROJECT, columns([(float(i), i % 2) for i in range(60)]))


def test_an_answer_of_the_declared_form_fits() -> None:
    assert forms.fits(GOOD, ASK, PROJECT)
    assert forms.fits([Part({}, withheld=True)] * len(ASK), ASK, PROJECT)


def mutations(part: Part) -> list[Part]:
    """Every small change of form of one part."""
    level, summary = next(iter(part.groups.items()))
    rest = {k: v for k, v in part.groups.items() if k != level}
    other = [Counts((1,)), Counts(()), Counts((1,) * 7), Moments(1, 0, 0.0, 0.0)]
    changed: list[Any] = [s for s in other if type(s) is not type(summary)]
    if isinstance(summary, Moments):
        for field, values in {
            "mean": (math.nan, math.inf),
            "m2": (math.nan, math.inf, -1.0),
        }.items():
            changed += [
                dataclasses.replace(summary, **{field: v})  # type: ignore[arg-type]
                for v in values
            ]
    else:
        changed += [
            dataclasses.replace(summary, counts=(*summary.counts, 0)),
            dataclasses.replace(summary, counts=summary.counts[:-1]),
        ]
        if len(summary.counts) != 10:
            changed += [
                dataclasses.replace(summary, below=1),
                dataclasses.replace(summary, above=1),
            ]
    return [
        *(Part({level: c} | rest) for c in changed),
        *([] if rest else [Part({})]),
        Part(part.groups | {"patient 17": summary}),
        Part(rest | {level + "x": summary}),
        Part(part.groups, withheld=True),
        Part({}),
        *([Part(dict(reversed(part.groups.items())))] if rest else []),
    ]


@pytest.mark.parametrize("place", range(len(ASK)))
def test_no_other_form_fits(place: int) -> None:
    for wrong in mutations(GOOD[place]):
        parts = [*GOOD[:place], wrong, *GOOD[place + 1 :]]
        assert not forms.fits(parts, ASK, PROJECT), wrong


@pytest.mark.parametrize("change", [lambda p: p[:-1], lambda p: [*p, p[0]], lambda p: p[::-1]])
def test_an_answer_has_as_many_parts_as_were_asked_and_in_their_order(change: Any) -> None:
    assert not forms.fits(change(GOOD), ASK, PROJECT)
