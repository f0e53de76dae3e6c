"""Small sites: six centres of a rare disease, of which one has nine patients. In secure sums alone.

What only a total over all of them tells is told; anything else of such a release is refused, in the
words in which it would be if nothing were declared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm

from contract import wire_pb2 as wire
from contract.cohorts import Cohort
from contract.dictionary import Variable
from contract.errors import Refused
from contract.statistics.hazard_ratios import hazard_ratios
from contract.statistics.summaries import CoMoments, Shape
from contract.statistics.survival import life_tables
from contract.work import Statistic, StatisticsWork
from node.catalog.strata import StratumWish
from tests.sessions.centres import (
    ASK,
    IN_A_SUM,
    RARE,
    SMALL,
    SUM,
    allowing,
    open_centres,
    patients,
    tables,
)
from tests.sessions.hospitals import (
    Session,
    counts,
    moments,
    open_sites,
    standard,
)


@pytest.fixture(scope="module")
def centres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    made = open_centres(tmp_path_factory.mktemp("centres"))
    yield made
    for site in made.sites:
        site.hospital.catalog.close()


def test_a_site_with_nine_patients_takes_part(
    centres: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    age, score, shape, both = centres.sum("six centres", *ASK, **SUM)
    told = "analysis:main"
    here = centres.sites[SMALL]
    assert here.size == 9
    assert here.told[told].sum() == 9
    ages, scores = centres.values("age", told), centres.values("score", told)
    assert moments(age).n == len(ages) > 200
    assert moments(age).mean == pytest.approx(np.mean(ages), rel=1e-12)
    assert moments(age).standard_deviation == pytest.approx(np.std(ages, ddof=1), rel=1e-12)
    for arm in ("active", "control"):
        own = centres.values("score", told, arm=arm)
        assert moments(score, arm).n == len(own)
        assert moments(score, arm).mean == pytest.approx(np.mean(own), rel=1e-12)
    found = shape.groups[""]
    assert isinstance(found, Shape)
    assert found.skewness == pytest.approx(Shape.of(np.array(scores)).skewness, rel=1e-9)
    products = both.groups[""]
    assert isinstance(products, CoMoments)
    assert products.matrix / (products.n - 1) == pytest.approx(np.cov(ages, scores), rel=1e-9)
    with capsys.disabled():
        print("\n" + centres.show("Six centres of a rare disease"))


def test_counts_over_all_centres_are_summed_too(centres: Session) -> None:
    [levels] = centres.sum("levels", Statistic(kind="levels", variable="ill"), **SUM)
    there = centres.values("ill", "analysis:main")
    assert counts(levels).counts == (there.count("no"), there.count("yes"))


DELIVERY = (
    Variable(name="arm", kind="category", levels=("control", "treated")),
    Variable(name="days", kind="number", whole=True, minimum=203, maximum=287, bins=3),
    Variable(name="early", kind="category", levels=("no", "yes")),
)


def births(seed: int) -> dict[str, list[Any]]:
    """Forty births of a clinic: in each arm some early, three to six of them in each interval."""
    chance = np.random.default_rng(seed)
    days, arms = [], []
    for arm in ("control", "treated"):
        very, rather = chance.integers(3, 6, 2) + (arm == "control")
        days += [int(one) for one in chance.integers(203, 231, very)]
        days += [int(one) for one in chance.integers(231, 259, rather)]
        days += [int(one) for one in chance.integers(259, 280, 20 - very - rather)]
        arms += [arm] * 20
    return {"arm": arms, "days": days, "early": [("no", "yes")[one < 259] for one in days]}


def test_a_hazard_ratio_with_one_baseline_is_told_of_totals_that_no_site_has(
    tmp_path: Path,
) -> None:
    """Each clinic has fewer events in an interval than ``standard`` lets anybody count."""
    clinics = [births(seed) for seed in range(6)]
    strata, analyses = [StratumWish("arm")], {"main": ("arm", "days", "early")}
    named: dict[str, Any] = {"policy": allowing(), "small": True}
    session = Session(open_sites(tmp_path, clinics, DELIVERY, strata, analyses, **named))
    asked = Statistic(kind="crosstab", variable="days", across=("early",), by="arm")
    [part] = session.sum("births", asked, **SUM)
    tables_of = {arm: life_tables(counts(part, arm).counts, DELIVERY[1])[0] for arm in part.groups}
    for table in tables_of.values():
        assert min(table.events[table.events > 0]) >= standard().disclosure.minimum_cell
    whole = {name: np.concatenate([clinic[name] for clinic in clinics]) for name in clinics[0]}
    rounded = np.searchsorted([230, 258, 300], whole["days"])
    treated = (whole["arm"] == "treated").astype(float)
    cox = sm.PHReg(rounded, treated[:, None], status=whole["early"] == "yes", ties="efron")
    expected = cox.fit(method="newton", tol=1e-14)
    found = hazard_ratios([tables_of["control"], tables_of["treated"]])
    assert found.estimates == pytest.approx(expected.params, rel=1e-9)
    for site in session.sites:
        site.hospital.catalog.close()


def refused(site: Any, envelope: bytes) -> tuple[str, str]:
    sealed = site.desk.offered(site.member, envelope)
    decision = sealed.message.decision
    assert not decision.accepted, sealed.message
    return decision.code, decision.sentence


@pytest.mark.parametrize(
    "terms",
    [
        {},
        {"analysis": "main"},
        {"analysis": "main", "lane": "exact"},
        {"analysis": "main", "lane": "exact", "secure": True},
        {"lane": "exact", "secure": True},
    ],
)
def test_anything_else_of_such_a_release_is_refused_as_if_nothing_were_declared(
    centres: Session, tmp_path: Path, terms: dict[str, Any]
) -> None:
    policy = allowing()
    policy = policy.model_copy(
        update={"privacy": policy.privacy.model_copy(update={"allowed": False})}
    )
    plain = Session(
        open_sites(tmp_path, [patients(32, 9), patients(30, 60)], RARE, [], {}, policy=policy)
    )
    work = StatisticsWork(ask=(Statistic(kind="moments", variable="age"),), **terms)
    for place, beside in ((SMALL, plain.sites[0]), (0, plain.sites[1])):
        site = centres.sites[place]
        site.hospital.policy = policy
        try:
            said = refused(site, centres.job(work))
        finally:
            site.hospital.policy = allowing()
        assert said[0] in ("cohort-too-small", "not-declared")
        if terms.get("analysis"):
            assert said == refused(beside, plain.job(work))


@pytest.mark.parametrize(
    "cohort", [Cohort(variable="arm", levels=("active",)), Cohort(variable="age", at_least=40)]
)
def test_no_part_of_the_set_is_summed_by_itself(centres: Session, cohort: Cohort) -> None:
    work = StatisticsWork(ask=ASK[:1], cohort=cohort, **IN_A_SUM)
    assert refused(centres.sites[SMALL], centres.job(work))[0] == "not-declared"


def test_a_release_of_its_own_answers_no_sum_with_small_sites(tmp_path: Path) -> None:
    """Its answers in clear could be taken out of the total."""
    own = open_centres(tmp_path, tables()[:1], small=False)
    work = StatisticsWork(ask=ASK[:1], **IN_A_SUM)
    assert refused(own.sites[0], own.job(work))[0] == "not-declared"


def test_where_the_policy_does_not_allow_it_nothing_is_answered(centres: Session) -> None:
    site = centres.sites[SMALL]
    work = StatisticsWork(ask=ASK[:1], **IN_A_SUM)
    site.hospital.policy = standard()
    try:
        assert refused(site, centres.job(work))[0] == "not-declared"
    finally:
        site.hospital.policy = allowing()


# ---- a coordinator that lies ---------------------------------------------------------------------


def begin(session: Session, envelope: bytes, named: Sequence[str], minimum: int) -> wire.FromNode:
    """Offer a job to the small site, and its terms with these sites."""
    site = session.sites[SMALL]
    sealed = site.desk.offered(site.member, envelope)
    assert sealed is not None
    assert sealed.message.decision.accepted, sealed.message
    step = wire.SumStep(terms=wire.SumTerms(sites=list(named), minimum=minimum))
    task = wire.Task(
        job=sealed.message.decision.job,
        task="1",
        message_type="step",
        payload=step.SerializeToString(),
    )
    return site.desk.task(site.member, task, lambda *_: None).message


def test_a_coordinator_cannot_leave_sites_out_or_let_them_drop_out(centres: Session) -> None:
    names = [site.member.site for site in centres.sites]
    work = StatisticsWork(ask=ASK[:1], **IN_A_SUM)
    for named, minimum in (
        (names[:5], 5),  # fewer than the job asks
        (names, 5),  # one may drop out: the difference to the sum over all is that one's part
        (names[1:4], 3),  # fewer than the policy wants
        ([*names[:5], "ghost"], 6),  # not on the roster
        ([*names[:5], names[4]], 6),  # one counted twice
    ):
        said = begin(centres, centres.job(work), named, minimum)
        assert said.HasField("failed"), (named, minimum)
    assert begin(centres, centres.job(work), names, 6).HasField("reply")


def test_a_total_is_never_of_fewer_sites_than_the_policy_wants(tmp_path: Path) -> None:
    four = open_centres(tmp_path, tables()[1:5])
    with pytest.raises(Refused) as caught:
        four.sum("four", ASK[0], **SUM)
    assert caught.value.code == "too-few-sites"
