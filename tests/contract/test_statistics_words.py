"""Parts written as words add up to the pooled answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.documents import Project, Statistic, Variable
from contract.errors import DocumentError
from contract.statistics import words
from contract.statistics.answers import Part, answer_locally
from contract.statistics.summaries import Codes, Counts, Moments, Numbers
from tests.contract.world import World

VARIABLES = (
    Variable(name="age", kind="number", minimum=0, maximum=120, bins=12),
    Variable(name="pressure", kind="number", minimum=1000, maximum=1001, bins=4),
    Variable(name="arm", kind="category", levels=("A", "B", "C")),
    Variable(name="free", kind="number"),
)
ASK = tuple(
    Statistic(kind=kind, variable=variable, by=by)
    for kind, variable in (
        ("moments", "age"), ("moments", "pressure"), ("histogram", "age"), ("levels", "arm"),
        ("count", "age"), ("count", "arm"),
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
    }


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
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
    assert absent == [0] * len(ASK)
    for found, expected in zip(merged, pooled, strict=True):
        assert list(found.groups) == list(expected.groups)
        for level, summary in found.groups.items():
            wanted = expected.groups[level]
            if isinstance(summary, Counts):
                assert summary == wanted
                continue
            assert isinstance(wanted, Moments)
            assert (summary.n, summary.missing) == (wanted.n, wanted.missing)
            assert summary.mean == pytest.approx(wanted.mean, rel=1e-12, abs=1e-12)
            assert summary.m2 == pytest.approx(wanted.m2, rel=1e-9, abs=1e-12)


def test_a_withheld_part_leaves_numerator_and_denominator(project: Project) -> None:
    generator = np.random.default_rng(3)
    one, two = (answer_locally(ASK, project, table(generator, 50)) for _ in range(2))
    hidden = [Part({}, withheld=True) for _ in ASK]
    fewer = [Part({k: v for k, v in p.groups.items() if k != "B"}) for p in two]
    total = sum(words.encode(p, ASK, project) for p in (one, hidden, fewer))
    merged, absent = words.decode(np.asarray(total), ASK, project, 3)
    for place, statistic in enumerate(ASK):
        assert absent[place] == 1
        for level, summary in merged[place].groups.items():
            sites = (one, fewer) if level != "B" else (one,)
            expected = sum(s[place].groups[level].n for s in sites)
            assert summary.n == expected, statistic


def test_a_statistic_that_every_site_withholds_is_withheld(project: Project) -> None:
    hidden = [Part({}, withheld=True) for _ in ASK]
    total = words.encode(hidden, ASK, project) * np.uint64(2)
    merged, absent = words.decode(total, ASK, project, 2)
    assert all(part.withheld and not part.groups for part in merged)
    assert absent == [2] * len(ASK)


def test_what_can_not_be_summed_exactly_is_refused(project: Project) -> None:
    free = (Statistic(kind="moments", variable="free"),)
    with pytest.raises(DocumentError, match="no range"):
        words.length(free, project)
    age = (Statistic(kind="moments", variable="age"),)
    with pytest.raises(DocumentError, match="too far"):
        words.encode([Part({"": Moments(10, 0, 1e20, 0.0)})], age, project)
    with pytest.raises(DocumentError, match="exact"):
        words.encode([Part({"": Moments(10, 0, 1.0, 0.0)}, lane="dp")], age, project)
    with pytest.raises(DocumentError, match="length"):
        words.decode(np.zeros(3, np.uint64), age, project, 2)
