"""Sites that see nobody's part take coefficients from totals that they work out themselves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import statsmodels.api as sm

from contract import wire_pb2 as wire
from contract.errors import DocumentError, Refused
from contract.secure_aggregation import encoding
from contract.secure_aggregation.masking import Words
from contract.statistics import summed_steps
from contract.statistics.steps import MOST_RESTARTS
from contract.statistics.summed_steps import VECTORS, SumTask
from tests.contract.world import SITES
from tests.node.work.summing import LOGISTIC, Summed

FIRST = SITES[0]
FORMULAS = (LOGISTIC, ("score ~ age + arm", "linear"), ("Surv(days, ill) ~ age + arm", "cox"))


@pytest.mark.parametrize("asked", FORMULAS, ids=[family for _, family in FORMULAS])
def test_the_fit_of_sums_is_the_pooled_one(asked: tuple[str, str]) -> None:
    sites = Summed(asked)
    found, data = sites.fit(), sites.pooled()
    x = np.column_stack([np.ones(len(data["age"])), data["age"], data["arm"] == 1])
    match asked[1]:
        case "logistic":
            expected = sm.GLM(data["ill"], x, family=sm.families.Binomial()).fit(tol=1e-14)
        case "linear":
            expected = sm.OLS(data["score"], x).fit()
        case _:
            strata = np.repeat(np.arange(len(SITES)), len(data["age"]) // len(SITES))
            expected = sm.PHReg(
                data["days"], x[:, 1:], status=data["ill"], strata=strata, ties="efron"
            ).fit(method="newton", tol=1e-14)
            assert found.pairs[0] > 0 and found.proportionality[-1] > 0
    assert found.converged
    assert found.n == len(x)
    assert found.coefficients == pytest.approx(np.asarray(expected.params), rel=1e-9)
    assert found.standard_errors == pytest.approx(np.asarray(expected.bse), rel=1e-8)


def test_all_sites_are_at_the_same_coefficients_to_the_bit() -> None:
    sites = Summed()
    total, record = sites.sum_up(SumTask(0))
    sites.sum_up(SumTask(1), digest(total), record)
    found = {walk._now.beta.tobytes() for walk in sites.walks.values() if walk._now}
    assert len(found) == 1


def test_no_sites_part_is_in_what_is_sent() -> None:
    sites = Summed()
    sites.fit()
    assert sites.parts
    told = b"".join(sites.sent.values())
    for part in sites.parts.values():
        own = part.astype("<u8").tobytes()
        for at in range(0, len(own) - 16, 8):
            run = own[at : at + 16]  # two words of a part, as they would stand in clear
            assert run == bytes(16) or run == b"\xff" * 16 or run not in told


# ---- a coordinator that lies ---------------------------------------------------------------------


def digest(total: Words) -> bytes:
    return summed_steps.digest_of(total, b"")


def swapped_vector(sites: Summed, record: wire.SumRecord) -> None:
    """A vector of the coordinator's under a true receipt: the sum would be its choice."""
    words = encoding.answer(record.vectors[1].payload, 1, 64)
    chosen = words.words + np.uint64(1)  # type: ignore[union-attr]
    record.vectors[1].payload = wire.SumReply(words=chosen.tobytes()).SerializeToString()


def without_a_site(sites: Summed, record: wire.SumRecord) -> None:
    del record.vectors[2], record.seeds[2]


def a_site_twice(sites: Summed, record: wire.SumRecord) -> None:
    record.vectors[2].CopyFrom(record.vectors[1])


def another_seed(sites: Summed, record: wire.SumRecord) -> None:
    record.seeds[1] = bytes(32)


def of_another_step(sites: Summed, record: wire.SumRecord) -> None:
    payload = record.vectors[1].payload
    record.vectors[1].CopyFrom(sites.signed(SITES[1], "sum-7.0.3", payload))


def of_another_job(sites: Summed, record: wire.SumRecord) -> None:
    name = SumTask(0, 0, VECTORS).name
    payload = record.vectors[1].payload
    record.vectors[1].CopyFrom(sites.signed(SITES[1], name, payload, job="12" * 32))


def signed_by_a_stranger(sites: Summed, record: wire.SumRecord) -> None:
    name = SumTask(0, 0, VECTORS).name
    payload = record.vectors[1].payload
    record.vectors[1].CopyFrom(Summed().signed(SITES[1], name, payload, job=sites.digest))


def ours_changed(sites: Summed, record: wire.SumRecord) -> None:
    """As if this very site had sent something else: its key is stolen, say."""
    name = SumTask(0, 0, VECTORS).name
    words = encoding.answer(record.vectors[0].payload, 0, 64)
    chosen = wire.SumReply(words=(words.words + np.uint64(1)).tobytes())  # type: ignore[union-attr]
    record.vectors[0].CopyFrom(sites.signed(FIRST, name, chosen.SerializeToString()))


def too_long(sites: Summed, record: wire.SumRecord) -> None:
    record.vectors[1].payload += bytes(100_000)


@pytest.mark.parametrize(
    "lie",
    [
        swapped_vector,
        without_a_site,
        a_site_twice,
        another_seed,
        of_another_step,
        of_another_job,
        signed_by_a_stranger,
        ours_changed,
        too_long,
    ],
)
def test_a_sum_that_is_not_the_sites_own_is_not_gone_on_from(
    lie: Callable[[Summed, wire.SumRecord], None],
) -> None:
    sites = Summed()
    total, record = sites.sum_up(SumTask(0))
    lie(sites, record)
    with pytest.raises((DocumentError, Refused)):
        sites.sum_up(SumTask(1), digest(total), record)


def test_a_sum_without_one_site_is_never_unmasked() -> None:
    sites = Summed()
    with pytest.raises(Refused, match="Too few"):
        sites.sum_up(SumTask(0), without={VECTORS: SITES[2]})
    assert all(walk._settled is None for walk in sites.walks.values())


def test_a_sum_that_not_all_sites_confirmed_is_not_unmasked() -> None:
    """Else who isn't bound to it yet could be summed with fewer sites."""
    sites = Summed()
    with pytest.raises(Refused):  # there is no total yet
        sites.sum_up(SumTask(0), until=4)
    said = [
        encoding.answer(sites.sent[name, "sum-0.0.4"], place, 64)
        for place, name in enumerate(SITES)
    ]
    for some in (said[:3], [*said[:3], said[0]]):
        step = encoding.encode_confirmations(some)  # type: ignore[arg-type]
        with pytest.raises(Refused, match="confirm"):
            sites.tell(FIRST, SumTask(0, 0, 5), step)


def test_a_site_that_confirmed_a_sum_is_in_none_over_fewer_sites() -> None:
    sites = Summed()
    with pytest.raises(Refused):  # one is silent, and yet the others could be unmasked
        sites.sum_up(SumTask(0), without={4: SITES[3]})
    with pytest.raises(Refused, match="other sites"):
        sites.sum_up(SumTask(0, 1), sites=SITES[:3])


def test_a_fit_that_confirmed_a_sum_goes_on_over_the_same_sites_only() -> None:
    sites = Summed()
    total, record = sites.sum_up(SumTask(0))
    with pytest.raises(Refused, match="other sites"):
        sites.sum_up(SumTask(0, 1), sites=SITES[:3])
    with pytest.raises(Refused, match="other sites"):
        sites.sum_up(SumTask(1), digest(total), record, sites=SITES[:3])
    with pytest.raises(Refused, match="another order"):
        sites.sum_up(SumTask(0, 1))


def test_before_anything_is_unmasked_a_fit_begins_again_without_who_left() -> None:
    sites = Summed()
    with pytest.raises(Refused):
        sites.sum_up(SumTask(0), without={VECTORS: SITES[3]})
    total, record = sites.sum_up(SumTask(0, 1), sites=SITES[:3])
    sites.sum_up(SumTask(1, 1), digest(total), record, sites=SITES[:3])
    # Who left can't be brought back in, and attempts are counted.
    with pytest.raises(Refused):
        sites.sum_up(SumTask(0, 2))
    with pytest.raises(Refused):
        Summed().sum_up(SumTask(0, MOST_RESTARTS + 1))


def test_a_sum_that_two_sites_are_told_of_differently_comes_to_nothing() -> None:
    sites = Summed()
    begin = wire.SumStep(terms=wire.SumTerms(sites=SITES, minimum=len(SITES)))
    fewer = wire.SumStep(terms=wire.SumTerms(sites=SITES[:3], minimum=3))
    keys = []
    for place, name in enumerate(SITES):
        said = sites.tell(name, SumTask(0), fewer if place < 2 else begin)
        keys.append(encoding.answer(said, place, 64))
    step = encoding.encode_introduction(encoding.Introduction(tuple(keys)))  # type: ignore[arg-type]
    with pytest.raises(Refused, match="signed"):
        sites.tell(SITES[3], SumTask(0, 0, 2), step)


def test_a_replayed_phase_and_a_later_one_are_out_of_order() -> None:
    sites = Summed()
    total, record = sites.sum_up(SumTask(0))
    begin = wire.SumStep(terms=wire.SumTerms(sites=SITES, minimum=len(SITES), before=record))
    for task in (SumTask(2), SumTask(1, 1), SumTask(0)):
        with pytest.raises((DocumentError, Refused)):
            sites.tell(FIRST, task, begin)
    sites.sum_up(SumTask(1), digest(total), record)
    with pytest.raises(Refused, match="order"):
        sites.tell(FIRST, SumTask(1), begin)


def test_nothing_follows_a_linear_models_step_or_a_fits_checks() -> None:
    linear = Summed(FORMULAS[1])
    total, record = linear.sum_up(SumTask(0))
    with pytest.raises(Refused, match="order"):
        linear.sum_up(SumTask(1), digest(total), record)
    cox = Summed(FORMULAS[2])
    total, record = cox.sum_up(SumTask(0))
    follows = digest(total)
    total, record = cox.sum_up(SumTask(1), follows, record, check=True)
    with pytest.raises(Refused, match="order"):
        cox.sum_up(SumTask(2), follows, record)


def test_a_sum_over_fewer_sites_than_the_policy_or_the_job_wants_is_refused() -> None:
    with pytest.raises(Refused, match="fewer sites"):
        Summed().sum_up(SumTask(0), sites=SITES[:2])
    with pytest.raises(Refused, match="fewer sites"):
        Summed(minimum=4).sum_up(SumTask(0), sites=SITES[:3])
    sites = Summed()
    for said in (
        wire.SumTerms(sites=SITES, minimum=3),  # a sum from which one could be missing
        wire.SumTerms(sites=SITES[1:], minimum=3),
        wire.SumTerms(sites=SITES, minimum=4, check=True),
    ):
        with pytest.raises((DocumentError, Refused)):
            sites.tell(FIRST, SumTask(0), wire.SumStep(terms=said))


@pytest.mark.parametrize("name", ["sum-0.0.0", "sum-0.0.6", "sum-01.0.1", "step-0", "sum-0.10.1"])
def test_another_name_is_no_task(name: str) -> None:
    with pytest.raises(DocumentError):
        SumTask.read(name)
