"""Parts written as words add up to the pooled answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.dictionary import Variable
from contract.documents import Project
from contract.errors import DocumentError
from contract.statistics import words
from contract.statistics.answers import Part, Summary, answer_locally
from contract.statistics.summaries import Codes, CoMoments, Counts, Moments, Numbers, Shape
from contract.work import Statistic
from tests.contract.world import World

VARIABLES = (
    Variable(name="age", kind="number", minimum=0, maximum=120, bins=12),
    Variable(name="pressure", kind="number", minimum=1000, maximum=1001, bins=4),
    Variable(name="arm", kind="category", levels=("A", "B", "C")),
    Variable(name="ill", kind="category", levels=("no", "yes")),
    Variable(name="free", kind="number"),
)
ASK = tuple(
    Statistic.model_validate({"kind": kind, "variable": variable, "across": across, "by": by})
    for kind, variable, *across in (
        ("moments", "age"), ("moments", "pressure"), ("histogram", "age"), ("levels", "arm"),
        ("count", "age"), ("count", "arm"), ("shape", "age"), ("shape", "pressure"),
        ("crosstab", "ill", "age"), ("crosstab", "ill", "age", "pressure"),
        ("comoments", "age", "pressure"),
    )
    for by in (None, "arm")
    if variable != by
)  # fmt: skip


@pytest.fixture(scope="module")
def project() -> Project:
    return World().project(variables=VARIABLES)


def table(generator: np.random.Generator, rows: int) -> dict[str, Numbers | Codes]:
    age = generator.uniform(0, 120, rows)
    age[generator.random(rows) < 0.1] = np.nan
    return {
        "age": age,
        "pressure": generator.normal(1000.5, 1e-3, rows),
        "arm": generator.integers(-1, 3, rows),
        "ill": generator.integers(-1, 2, rows),
    }


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32), st.lists(st.integers(0, 60), min_size=1, max_size=6))
def test_the_sum_of_sites_words_is_the_pooled_answer(
    project: Project, seed: int, sizes: list[int]
) -> None:
    generator = np.random.default_rng(seed)
    tables = [table(generator, rows) for rows in sizes]
    encoded = [words.encode(answer_locally(ASK, project, t), ASK, project) for t in tables]
    assert {e.shape for e in encoded} == {(words.length(ASK, project),)}
    total = np.sum(encoded, axis=0, dtype=np.uint64)
    merged, absent = words.decode(total, ASK, project, len(sizes))
    pooled = answer_locally(
        ASK, project, {n: np.concatenate([t[n] for t in tables]) for n in tables[0]}
    )
    assert all(not any(of.values()) for of in absent)
    apart = [answer_locally(ASK, project, t) for t in tables]
    for place, (found, expected) in enumerate(zip(merged, pooled, strict=True)):
        assert list(found.groups) == list(expected.groups)
        for level, summary in found.groups.items():
            wanted = expected.groups[level]
            assert type(summary) is type(wanted)
            assert (summary.n, summary.missing) == (wanted.n, wanted.missing)
            if isinstance(summary, Counts):
                assert summary == wanted
                continue
            assert_close(summary, wanted)
            sites = [
                s for site in apart if isinstance(s := site[place].groups[level], Moments | Shape)
            ]
            for name, value in exactly_merged(sites).items():
                assert getattr(summary, name) == pytest.approx(value, rel=1e-15, abs=1e-20), name


def assert_close(found: Summary, wanted: Summary) -> None:
    """Of a sum of powers about the mean, what counts is the size of what is added up."""
    for name, value in vars(wanted).items():
        size = 1e-3
        if name in ("m3", "m4") and wanted.n:
            assert isinstance(wanted, Shape)
            size = 1e-9 + wanted.n * (wanted.m2 / wanted.n) ** (int(name[1]) / 2)
        if isinstance(wanted, CoMoments) and name == "products":
            size += float(np.diag(wanted.matrix).max())
        assert getattr(found, name) == pytest.approx(value, rel=1e-9, abs=1e-9 * size), name


def exactly_merged(sites: Sequence[Moments | Shape]) -> dict[str, float]:
    """What they merge to without any rounding."""
    n = sum(site.n for site in sites)
    if n == 0:
        return {}
    low = [site.mean_low if isinstance(site, Moments) else 0.0 for site in sites]
    held = [
        (site.n, Fraction(site.mean) + Fraction(rest), Fraction(site.m2))
        for site, rest in zip(sites, low, strict=True)
    ]
    mean = sum((count * of for count, of, _ in held), Fraction(0)) / n
    m2 = sum((squares + count * (of - mean) ** 2 for count, of, squares in held), Fraction(0))
    found = {"mean": float(mean), "m2": float(m2)}
    if isinstance(sites[0], Shape):
        third = fourth = Fraction(0)
        for site, (count, of, squares) in zip(sites, held, strict=True):
            assert isinstance(site, Shape)  # as the first is
            d, cubes = of - mean, Fraction(site.m3)
            third += cubes + 3 * d * squares + count * d**3
            fourth += Fraction(site.m4) + 4 * d * cubes + 6 * d**2 * squares + count * d**4
        found |= {"m3": float(third), "m4": float(fourth)}
    return found


@pytest.mark.parametrize("order", [0, 1])
def test_the_order_of_sites_changes_no_bit(project: Project, order: int) -> None:
    generator = np.random.default_rng(order)
    encoded = [
        words.encode(answer_locally(ASK, project, table(generator, 40)), ASK, project)
        for _ in range(5)
    ]
    one, _ = words.decode(np.sum(encoded, axis=0, dtype=np.uint64), ASK, project, 5)
    shuffled = [encoded[at] for at in generator.permutation(5)]
    other, _ = words.decode(np.sum(shuffled, axis=0, dtype=np.uint64), ASK, project, 5)
    assert one == other


def test_a_million_sites_overflow_no_word(project: Project) -> None:
    age = (Statistic(kind="shape", variable="age"),)
    most = Shape(2**40, 5, 119.0, 1e10, -1e12, 1e15)
    one = words.encode([Part({"": most})], age, project)
    total = one * np.uint64(words.SITES)
    [part], _ = words.decode(total, age, project, words.SITES)
    found = part.groups[""]
    assert isinstance(found, Shape)
    assert found.n == 2**60
    assert found.mean == pytest.approx(119.0, rel=1e-15)
    assert found.m4 == pytest.approx(1e15 * words.SITES, rel=1e-9)


def test_a_withheld_part_leaves_numerator_and_denominator(project: Project) -> None:
    generator = np.random.default_rng(3)
    one, two = (answer_locally(ASK, project, table(generator, 50)) for _ in range(2))
    hidden = [Part({}, withheld=True) for _ in ASK]
    fewer = [Part({k: v for k, v in p.groups.items() if k != "B"}) for p in two]
    total = sum(words.encode(p, ASK, project) for p in (one, hidden, fewer))
    merged, absent = words.decode(np.asarray(total), ASK, project, 3)
    for place, statistic in enumerate(ASK):
        assert {level: n for level, n in absent[place].items() if n != 1} == (
            {"B": 2} if statistic.by else {}
        )
        for level, summary in merged[place].groups.items():
            sites = (one, fewer) if level != "B" else (one,)
            expected = sum(s[place].groups[level].n for s in sites)
            assert summary.n == expected, statistic


def test_a_statistic_that_every_site_withholds_is_withheld(project: Project) -> None:
    hidden = [Part({}, withheld=True) for _ in ASK]
    total = words.encode(hidden, ASK, project) * np.uint64(2)
    merged, absent = words.decode(total, ASK, project, 2)
    assert all(part.withheld and not part.groups for part in merged)
    assert all(set(of.values()) == {2} for of in absent)


def test_what_can_not_be_summed_exactly_is_refused(project: Project) -> None:
    free = (Statistic(kind="moments", variable="free"),)
    with pytest.raises(DocumentError, match="no range"):
        words.length(free, project)
    age = (Statistic(kind="moments", variable="age"),)
    for mean in (1e30, math.inf):
        with pytest.raises(DocumentError, match="too far"):
            words.encode([Part({"": Moments(10, 0, mean, 0.0)})], age, project)
    with pytest.raises(DocumentError, match="exact"):
        words.encode([Part({"": Moments(10, 0, 1.0, 0.0)}, lane="dp")], age, project)
    with pytest.raises(DocumentError, match="length"):
        words.decode(np.zeros(3, np.uint64), age, project, 2)
