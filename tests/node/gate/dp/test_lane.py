"""The dp lane: charged first, drawn once, useful, and the same whoever is in the cohort."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from contract.cohorts import Cohort
from contract.dictionary import Variable
from contract.errors import Refused, StorageError
from contract.statistics import answers, forms
from contract.statistics.noisy import estimate, estimate_comoments, estimate_shape
from contract.statistics.summaries import CoMoments, Counts, Moments, Shape
from contract.work import Statistic
from node.catalog import schema
from node.gate.dp.measure import measure
from node.gate.dp.mechanism import discrete_laplace
from node.gate.dp.parts import noisy_part
from tests.contract.world import World
from tests.node.gate.dp.conftest import ANA, BEN, COUNT, PLENTY, RELEASE, VARIABLES, Lane

MEAN = Statistic(kind="moments", variable="age")
OLD = Cohort(variable="age", at_least=65)
WOMEN = Cohort(variable="sex", levels=("f",))


def test_a_count_is_within_its_stated_interval_in_19_of_20_draws(lane: Lane) -> None:
    true = measure(COUNT, lane.project, lane.columns, lane.columns["sex"] == 0)
    assert 900 < true.counts[0] < 1100
    hits, draws = 0, 1000
    for _ in range(draws):
        part = noisy_part(COUNT, lane.project, true, 0.5, discrete_laplace)
        assert part.noise is not None
        assert part.noise.epsilon == 0.5
        term = next(t for t in part.noise.terms if t.figure == "counts")
        assert term.half_width == 6
        hits += abs(part.groups[""].n - true.counts[0]) <= term.half_width
    assert hits >= 0.95 * draws - 36  # fewer in 1 of 1,000,000 runs


def test_a_mean_and_a_standard_deviation_are_useful(lane: Lane) -> None:
    ages = lane.columns["age"]
    true = float(np.nanmean(ages))
    spread = float(np.nanstd(ages, ddof=1))
    exact = measure(MEAN, lane.project, lane.columns, None)
    within, draws = np.zeros(2), 600
    for _ in range(draws):
        part = noisy_part(MEAN, lane.project, exact, 0.5, discrete_laplace)
        moments = part.groups[""]
        assert isinstance(moments, Moments)
        assert part.noise is not None
        said = estimate(moments, part.noise, 18, 98)
        assert said.mean_half_width < 0.5
        assert said.standard_deviation_half_width < 1.0
        within += (
            abs(said.mean - true) <= said.mean_half_width,
            abs(said.standard_deviation - spread) <= said.standard_deviation_half_width,
        )
    assert (within >= 0.95 * draws - 28).all()  # fewer in 1 of 1,000,000 runs


def test_moments_by_group_and_a_histogram_are_near_the_truth(lane: Lane) -> None:
    asked = (
        Statistic(kind="moments", variable="age", by="arm"),
        Statistic(kind="histogram", variable="age"),
        Statistic(kind="levels", variable="relapse", by="arm"),
    )
    exact = answers.answer_locally(asked, lane.project, lane.columns)
    noisy = lane.ask(*asked, epsilon=3.0).parts
    assert forms.fits(noisy, asked, lane.project)
    for level in ("a", "b", "c"):
        found, truth = noisy[0].groups[level], exact[0].groups[level]
        assert isinstance(found, Moments)
        assert isinstance(truth, Moments)
        assert found.mean == pytest.approx(truth.mean, abs=3)
        assert found.n == pytest.approx(truth.n, abs=60)
    for part, true in zip(noisy[1:], exact[1:], strict=True):
        for level, counts in part.groups.items():
            against = true.groups[level]
            assert isinstance(counts, Counts)
            assert isinstance(against, Counts)
            assert counts.counts == pytest.approx(against.counts, abs=25)
            assert counts.missing == pytest.approx(against.missing, abs=25)


def test_crosstabs_shapes_and_comoments_are_near_the_truth(lane: Lane) -> None:
    asked = (
        Statistic(kind="crosstab", variable="sex", across=("relapse", "age")),
        Statistic(kind="crosstab", variable="sex", across=("relapse",), by="arm"),
        Statistic(kind="shape", variable="age", by="sex"),
        Statistic(kind="comoments", variable="age", across=("weight",)),
    )
    ages = lane.columns["age"]
    noise = np.random.default_rng(3).normal(0, 8, ages.size)
    lane.columns["weight"] = np.clip(ages / 2 + 45 + noise, 40, 140)
    weight = Variable(name="weight", kind="number", minimum=40, maximum=140)
    lane.project = World().project(variables=(*VARIABLES, weight))
    exact = answers.answer_locally(asked, lane.project, lane.columns)
    noisy = lane.ask(*asked, epsilon=8.0).parts
    assert forms.fits(noisy, asked, lane.project)
    for part, true in zip(noisy[:2], exact[:2], strict=True):
        for level, counts in part.groups.items():
            against = true.groups[level]
            assert isinstance(counts, Counts)
            assert isinstance(against, Counts)
            assert counts.counts == pytest.approx(against.counts, abs=25)
            assert counts.missing == pytest.approx(against.missing, abs=25)
    for level, shape in noisy[2].groups.items():
        truth = exact[2].groups[level]
        assert isinstance(shape, Shape)
        assert isinstance(truth, Shape)
        assert noisy[2].noise is not None
        said = estimate_shape(shape, noisy[2].noise, 18, 98)
        assert said.skewness_half_width < 0.5
        assert said.skewness == pytest.approx(truth.skewness, abs=3 * said.skewness_half_width)
        assert said.kurtosis == pytest.approx(truth.kurtosis, abs=3 * said.kurtosis_half_width)
    both, truly = noisy[3].groups[""], exact[3].groups[""]
    assert isinstance(both, CoMoments)
    assert isinstance(truly, CoMoments)
    assert noisy[3].noise is not None
    found = estimate_comoments(both, noisy[3].noise, [(18, 98), (40, 140)])
    there = ~np.isnan(ages)
    truth_r = np.corrcoef(ages[there], lane.columns["weight"][there])[0, 1]
    width = found.correlation_half_width[0, 1]
    assert width < 0.2
    assert found.correlation[0, 1] == pytest.approx(truth_r, abs=3 * width)


def test_a_project_is_not_shown_an_answer_with_more_epsilon_than_it_may_spend(lane: Lane) -> None:
    bought = lane.ask(COUNT, epsilon=2.0, payer=BEN).parts
    own = lane.ask(COUNT, epsilon=2.0, payer=ANA, most=0.1)
    assert own.epsilon == pytest.approx(0.1)
    assert own.parts[0].noise is not None
    assert own.parts[0].noise.epsilon == pytest.approx(0.1)
    again = lane.ask(COUNT, epsilon=2.0, payer=ANA, most=0.1)
    assert (again.parts, again.epsilon) == (own.parts, 0)
    # The better one stays for those who may see it.
    assert lane.ask(COUNT, epsilon=1.0, payer=BEN).parts == bought
    assert sorted(s.project for s in lane.account.spends()) == [ANA.project, BEN.project]


def test_the_epsilon_of_a_question_is_shared_by_need_and_charged_before(lane: Lane) -> None:
    asked = (MEAN, COUNT, Statistic(kind="histogram", variable="age"), COUNT)
    answered = lane.ask(*asked, epsilon=0.6)
    assert answered.epsilon == pytest.approx(0.6)
    assert [p.noise.epsilon if p.noise else 0 for p in answered.parts] == pytest.approx(
        [0.3, 0.15, 0.15, 0.15]
    )
    assert answered.parts[1] == answered.parts[3]
    assert len(lane.account.spends()) == 3
    assert answered.standing.epsilon_project == pytest.approx(0.6, abs=1e-3)


def test_no_question_gets_more_than_the_policy_gives_one(lane: Lane) -> None:
    asked = replace(lane.asked(COUNT, epsilon=8.0), most=0.25)
    answered = lane.lane.answer(asked, lambda: (lane.columns, None))
    assert answered.epsilon == 0.25


def test_one_question_has_one_answer_however_worded_whoever_asks_and_after_a_restart(
    lane: Lane,
) -> None:
    first = lane.ask(MEAN, COUNT, cohort=OLD & WOMEN)
    spent = len(lane.account.spends())
    for cohort in (
        WOMEN & OLD,
        ~(~OLD | ~WOMEN),
        (OLD & WOMEN) | (WOMEN & OLD),
        Cohort(variable="sex", levels=("f",)) & ~Cohort(variable="sex", levels=("m",)) & OLD,
    ):
        for payer in (ANA, BEN):
            again = lane.ask(MEAN, COUNT, cohort=cohort, payer=payer)
            assert again.parts == first.parts
            assert again.epsilon == 0
    lane.restart()
    # Another dictionary's words for the same variables make no other question either.
    lane.project = World().project(
        variables=tuple(v.model_copy(update={"meaning": "said otherwise"}) for v in VARIABLES)
    )
    assert lane.ask(MEAN, COUNT, cohort=OLD & WOMEN, payer=BEN).parts == first.parts
    assert len(lane.account.spends()) == spent
    assert lane.looks == 1


def test_asking_for_less_gets_what_was_drawn_and_for_more_is_charged_in_full(lane: Lane) -> None:
    first = lane.ask(COUNT, epsilon=0.5)
    assert lane.ask(COUNT, epsilon=0.1).parts == first.parts
    better = lane.ask(COUNT, epsilon=1.0)
    assert better.epsilon == 1.0
    assert better.parts[0].noise is not None
    assert better.parts[0].noise.epsilon == 1.0
    assert lane.account.standing(ANA, PLENTY, lane.now).epsilon_project == pytest.approx(
        1.5, abs=1e-2
    )
    assert lane.ask(COUNT, epsilon=0.5).parts == better.parts
    assert lane.ask(COUNT, epsilon=1.0).epsilon == 0


def test_other_questions_have_draws_and_costs_of_their_own(lane: Lane) -> None:
    lane.ask(MEAN, COUNT, cohort=OLD)
    others = [
        lane.asked(COUNT),
        lane.asked(COUNT, cohort=OLD, release="f" * 64),
        lane.asked(COUNT, cohort=WOMEN),
        lane.asked(Statistic(kind="count", variable="sex", by="arm"), cohort=OLD),
        lane.asked(Statistic(kind="levels", variable="sex"), cohort=OLD),
    ]
    for asked in others:
        before = len(lane.account.spends())
        lane.lane.answer(asked, lambda: (lane.columns, None))
        assert len(lane.account.spends()) == before + 1


def test_another_grid_is_another_question(lane: Lane) -> None:
    lane.ask(MEAN)
    lane.project = World().project(
        variables=(Variable(name="age", kind="number", minimum=18, maximum=80, bins=8),)
    )
    assert lane.ask(MEAN).epsilon == 0.5


def test_a_refusal_spends_nothing_and_looks_at_nothing(lane: Lane) -> None:
    lane.limits = replace(PLENTY, epsilon_project=0.4)
    with pytest.raises(Refused) as caught:
        lane.ask(COUNT, epsilon=0.5)
    assert caught.value.code == "privacy-budget"
    unbounded = Variable(name="age", kind="number")
    lane.project = World().project(variables=(unbounded, *VARIABLES[1:]))
    with pytest.raises(Refused):
        lane.ask(MEAN, COUNT, epsilon=0.1)
    assert lane.account.spends() == []
    assert lane.looks == 0


@pytest.mark.parametrize("epsilon", [5e-324, 1e-9, 9e-5])
def test_what_would_tell_nothing_is_refused_and_costs_nothing(lane: Lane, epsilon: float) -> None:
    with pytest.raises(Refused) as caught:
        lane.ask(COUNT, epsilon=epsilon)
    assert caught.value.code == "little-epsilon"
    assert lane.account.spends() == []
    assert lane.ask(COUNT, epsilon=1e-4).epsilon == 1e-4


def test_the_account_is_charged_before_the_data_is_looked_at(lane: Lane) -> None:
    def look() -> object:
        assert len(lane.account.spends()) == 1
        raise StorageError("The disk went away.")

    with pytest.raises(StorageError):
        lane.lane.answer(lane.asked(COUNT), look)  # type: ignore[arg-type]
    assert len(lane.account.spends()) == 1
    lane.restart()
    assert lane.ask(COUNT).epsilon == 0.5
    assert len(lane.account.spends()) == 2


def test_a_preview_tells_what_answering_leads_to(lane: Lane) -> None:
    asked = lane.asked(MEAN, COUNT, cohort=OLD)
    after = lane.lane.after(asked)
    assert lane.account.spends() == []
    assert lane.ask(MEAN, COUNT, cohort=OLD).standing == after
    assert lane.lane.after(asked) == after


def test_nobody_one_and_nearly_enough_are_answered_alike(lane: Lane) -> None:
    asked = (
        MEAN,
        COUNT,
        Statistic(kind="histogram", variable="age"),
        Statistic(kind="levels", variable="relapse", by="arm"),
    )
    seen = []
    for size in (0, 1, 19, 20):
        lane.columns = {name: column[:size] for name, column in lane.columns.items()}
        lane.columns |= {k: np.resize(v, size) for k, v in lane.columns.items() if v.size < size}
        answered = lane.ask(*asked, release=f"{size:064x}", epsilon=1.0)
        assert forms.fits(answered.parts, asked, lane.project)
        assert not any(part.withheld for part in answered.parts)
        seen.append(
            [
                (
                    part.noise,
                    [(type(s), len(getattr(s, "counts", ()))) for s in part.groups.values()],
                )
                for part in answered.parts
            ]
        )
    assert all(form == seen[0] for form in seen)


def test_what_noise_says_of_nobody_is_nothing(lane: Lane) -> None:
    lane.columns = {name: column[:0] for name, column in lane.columns.items()}
    part = lane.ask(MEAN).parts[0]
    moments = part.groups[""]
    assert isinstance(moments, Moments)
    assert part.noise is not None
    said = estimate(replace(moments, n=5), part.noise, 18, 98)
    assert math.isnan(said.mean)
    assert math.isnan(said.standard_deviation_half_width)


def test_sites_noisy_moments_add_up_without_bias(lane: Lane) -> None:
    parts = [[lane.ask(MEAN, epsilon=4.0, release=f"{site:064x}").parts[0]] for site in range(4)]
    merged = answers.merge_answers(parts)[0]
    moments = merged.groups[""]
    assert isinstance(moments, Moments)
    assert merged.noise is not None
    exact = Moments.of(np.tile(lane.columns["age"], 4))
    said = estimate(moments, merged.noise, 18, 98)
    assert moments.n == pytest.approx(exact.n, abs=40)
    assert said.mean == pytest.approx(exact.mean, abs=0.5)
    assert said.standard_deviation == pytest.approx(exact.standard_deviation, abs=0.5)
    one = lane.ask(MEAN, epsilon=4.0, release=f"{0:064x}").parts[0].noise
    assert one is not None
    assert merged.noise.epsilon == one.epsilon
    assert merged.noise.terms[0].scale == pytest.approx(2 * one.terms[0].scale)


def test_what_is_kept_is_only_what_left(lane: Lane) -> None:
    answered = lane.ask(COUNT, cohort=OLD)
    with lane.catalog.engine.connect() as connection:
        row = connection.execute(schema.privacy_draws.select()).one()
    assert row.answer == forms.encode(answered.parts).SerializeToString(deterministic=True)
    assert RELEASE not in row.question
