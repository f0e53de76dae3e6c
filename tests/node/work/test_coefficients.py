"""A site works out coefficients from what all sites said, and from nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import statsmodels.api as sm

from contract import wire_pb2 as wire
from contract.errors import DocumentError, Refused
from contract.models import Model
from contract.statistics import models, steps
from contract.statistics.models import Fitting
from contract.statistics.regression import Sums
from contract.statistics.steps import MOST_RESTARTS, Step
from node.work.coefficients import OwnCoefficients, Place
from tests.contract.world import RELEASE, SITES
from tests.node.work.walking import MODEL, ROWS, WIDTH, Array, Sites


def pooled(sites: Sites) -> Array:
    x = np.vstack([sites.rows[s][0] for s in SITES])
    y = np.concatenate([sites.rows[s][1] for s in SITES])
    return np.asarray(sm.GLM(y, x, family=sm.families.Binomial()).fit(tol=1e-14).params)


def test_coefficients_that_sites_work_out_end_at_the_pooled_estimate() -> None:
    sites = Sites()
    assert sites.fit().coefficients == pytest.approx(pooled(sites), rel=1e-9)


@pytest.mark.parametrize("size", [1e-15, 1e-12])
def test_processors_that_differ_in_the_last_digits_change_nothing(size: float) -> None:
    sites, chance = Sites(), np.random.default_rng(3)
    fit = sites.fit(nudge=lambda beta: beta * (1 + size * chance.normal(size=beta.shape)))
    assert fit.converged
    assert fit.coefficients == pytest.approx(pooled(sites), rel=1e-9)


def test_a_site_whose_own_fit_has_ended_goes_on_where_it_is() -> None:
    sites = Sites()
    told, step = sites.begun(), Step(0)
    for _ in range(12):
        step = Step(step.number + 1)
        told = sites.take(step, told)
    place = sites.walks[SITES[0]].at(
        Step(step.number + 1), wire.ModelStep(parts=told).SerializeToString()
    )
    assert place.beta == pytest.approx(pooled(sites), rel=1e-9)


def test_the_first_step_is_told_nothing() -> None:
    sites = Sites()
    place = sites.walks[SITES[0]].at(Step(0), b"")
    assert not place.beta.any()
    with pytest.raises(DocumentError):
        sites.walks[SITES[0]].at(
            Step(0), wire.ModelStep(parts=[wire.SignedPart()]).SerializeToString()
        )


def forged(sites: Sites, told: list[wire.SignedPart]) -> list[wire.SignedPart]:
    """Another payload under a true receipt."""
    chosen = models.encode(Sums(ROWS, np.eye(WIDTH), np.full(WIDTH, 9.0), 1.0, 1.0))
    other = wire.SignedPart(payload=chosen.SerializeToString(), receipt=told[1].receipt)
    return [told[0], other, *told[2:]]


def signed_by_another(sites: Sites, told: list[wire.SignedPart]) -> list[wire.SignedPart]:
    """A receipt under a key that isn't on the roster."""
    stranger = Sites().signed(SITES[1], Step(0), told[1].payload, job=sites.digest)
    return [told[0], stranger, *told[2:]]


def without_ours(sites: Sites, told: list[wire.SignedPart]) -> list[wire.SignedPart]:
    return told[1:]


def ours_twice(sites: Sites, told: list[wire.SignedPart]) -> list[wire.SignedPart]:
    return [told[0], *told]


def a_fellow_twice(sites: Sites, told: list[wire.SignedPart]) -> list[wire.SignedPart]:
    return [*told, told[1]]


def of_another_job(sites: Sites, told: list[wire.SignedPart]) -> list[wire.SignedPart]:
    return [told[0], sites.signed(SITES[1], Step(0), told[1].payload, job="12" * 32), *told[2:]]


def of_another_step(sites: Sites, told: list[wire.SignedPart]) -> list[wire.SignedPart]:
    return [told[0], sites.signed(SITES[1], Step(1), told[1].payload), *told[2:]]


def of_another_release(sites: Sites, told: list[wire.SignedPart]) -> list[wire.SignedPart]:
    assert RELEASE != "34" * 32
    part = sites.signed(SITES[1], Step(0), told[1].payload, release="34" * 32)
    return [told[0], part, *told[2:]]


def of_another_consortium(sites: Sites, told: list[wire.SignedPart]) -> list[wire.SignedPart]:
    return [told[0], sites.signed(SITES[1], Step(0), told[1].payload, consortium="x"), *told[2:]]


def another_answer_of_ours(sites: Sites, told: list[wire.SignedPart]) -> list[wire.SignedPart]:
    """As if this very site had answered otherwise: its key is stolen, say."""
    other = sites.part(SITES[0], np.ones(WIDTH))
    return [sites.signed(SITES[0], Step(0), other), *told[1:]]


def too_large(sites: Sites, told: list[wire.SignedPart]) -> list[wire.SignedPart]:
    return told * 100


@pytest.mark.parametrize(
    "change",
    [
        forged,
        signed_by_another,
        without_ours,
        ours_twice,
        a_fellow_twice,
        of_another_job,
        of_another_step,
        of_another_release,
        of_another_consortium,
        another_answer_of_ours,
        too_large,
    ],
)
def test_a_step_that_is_not_what_the_sites_said_is_not_taken(
    change: Callable[[Sites, list[wire.SignedPart]], list[wire.SignedPart]],
) -> None:
    sites = Sites()
    told = sites.begun()
    assert sites.objection(Step(1), change(sites, told))
    sites.take(Step(1), told)  # what they said is taken afterwards


def test_the_sites_stay_the_same_through_the_fit() -> None:
    sites = Sites()
    first = sites.begun()
    second = sites.take(Step(1), first)
    assert "other sites" in sites.objection(Step(2), second[:3])
    again = Sites(world=sites.world)
    some = again.take(Step(1), again.begun()[:3], SITES[:3])
    more = [*some, again.signed(SITES[3], Step(1), again.part(SITES[3], np.ones(WIDTH)))]
    assert "other sites" in again.objection(Step(2), more)


def test_sites_that_were_told_different_steps_take_no_further_one() -> None:
    sites = Sites()
    first = sites.begun()
    some = sites.take(Step(1), first[:3], SITES[:3])
    last = sites.take(Step(1), first, SITES[3:])
    whole = wire.ModelStep(parts=[*some, *last]).SerializeToString()
    with pytest.raises(DocumentError, match="follows from other parts"):
        sites.walks[SITES[3]].at(Step(2), whole)
    sites.take(Step(2), some, SITES[:3])  # these were told the same


def test_steps_are_taken_in_their_order_and_once() -> None:
    sites = Sites()
    assert "order" in sites.objection(Step(1), [])
    first = sites.begun()
    assert "order" in sites.objection(Step(0), [])
    assert "order" in sites.objection(Step(2), first)
    sites.take(Step(1), first)
    assert "order" in sites.objection(Step(1), first)


def test_fewer_sites_than_the_job_wants_are_not_enough() -> None:
    sites = Sites(minimum=3)
    first = sites.begun()
    assert "fewer sites" in sites.objection(Step(1), first[:2])
    sites.take(Step(1), first[:3], SITES[:3])


def test_a_fit_begins_again_without_those_who_left_and_never_with_more() -> None:
    sites = Sites()
    first = sites.begun()
    second = sites.take(Step(1), first)
    assert "other sites" in sites.objection(Step(1, 1), first)  # nobody left
    assert "order" in sites.objection(Step(2, 1), second[:3])
    told = sites.take(Step(1, 1), first[:3], SITES[:3])
    sites.take(Step(2, 1), told, SITES[:3])
    assert "other sites" in sites.objection(Step(1, 2), first)
    sites.take(Step(1, 2), first[:2], SITES[:2])
    sites.take(Step(1, 3), first[:1], SITES[:1])
    assert "order" in sites.objection(Step(1, MOST_RESTARTS + 1), first[:1])


def test_a_fit_begun_again_is_that_of_the_sites_that_are_left() -> None:
    sites, left = Sites(), SITES[:3]
    first = sites.begun()
    sites.take(Step(1), first)
    fitting, step, told = Fitting(MODEL, WIDTH), Step(0), first[:3]
    fit = None
    while fit is None:
        parts = [models.decode(wire.ModelPart.FromString(p.payload), MODEL, WIDTH) for p in told]
        fit = fitting.take(parts)
        step = Step(step.number + 1, 1)
        told = sites.take(step, told, left) if fit is None else told
    x = np.vstack([sites.rows[s][0] for s in left])
    y = np.concatenate([sites.rows[s][1] for s in left])
    expected = sm.GLM(y, x, family=sm.families.Binomial()).fit(tol=1e-14)
    assert fit.coefficients == pytest.approx(expected.params, rel=1e-9)


def test_a_linear_model_has_one_step() -> None:
    model = Model.model_validate({"family": "linear", "outcome": "age", "terms": [["arm"]]})
    sites = Sites()
    walk = OwnCoefficients(model, WIDTH, SITES[0], sites.terms)
    place = walk.at(Step(0), b"")
    walk.answered(Place(place.step, place.fitting, None), b"part")
    with pytest.raises(Refused):
        walk.at(Step(1), b"")


@pytest.mark.parametrize(
    ("step", "name"), [(Step(0), "step-0"), (Step(7), "step-7"), (Step(12, 3), "step-12.3")]
)
def test_a_steps_name_says_which_it_is(step: Step, name: str) -> None:
    assert step.task == name
    assert Step.read(name) == step


@pytest.mark.parametrize("name", ["step-0.1", "step-01", "step-", "step-1.0", "1", "step-1\n"])
def test_another_name_is_no_step(name: str) -> None:
    with pytest.raises(DocumentError):
        Step.read(name)


def test_merging_is_in_the_order_of_names_whoever_sends() -> None:
    sites = Sites()
    first = sites.begun()
    walk = sites.walks[SITES[0]]
    one = walk.at(Step(1), wire.ModelStep(parts=first).SerializeToString())
    other = walk.at(Step(1), wire.ModelStep(parts=first[::-1]).SerializeToString())
    assert one.beta.tobytes() == other.beta.tobytes()


def test_a_step_of_sites_is_no_larger_than_its_limit() -> None:
    sites = Sites()
    size = len(wire.ModelStep(parts=sites.begun()).SerializeToString())
    assert size < steps.most_bytes(WIDTH, len(SITES))
