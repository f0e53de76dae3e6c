"""A coordinator that lies to steer a fit whose steps are summed, or to learn a hospital's part."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from contract import wire_pb2 as wire
from contract.errors import DocumentError, Refused
from contract.keys import SigningKey
from contract.secure_aggregation import encoding
from contract.secure_aggregation.messages import MaskedVector
from contract.statistics import model_words, steps, summed_steps
from contract.statistics.regression import Sums
from contract.statistics.summed_steps import SumTask
from node.work.summed_coefficients import SummedCoefficients
from tests.contract.world import SITES
from tests.node.work.summing import Summed

ATTACKS = (
    (
        "A sum of the coordinator's choice",
        "the fit's coefficients follow from it: whoever chooses these can weigh one row above all",
        "a site adds up the masked vectors itself, each under its own site's receipt, and takes "
        "off masks by the seeds that sites committed to; off with it: receipts unchecked",
        "test_a_sum_of_the_coordinators_choice",
    ),
    (
        "One step's sum with and without a hospital",
        "So et al., Securing secure aggregation, AAAI 2023: the difference is its part",
        "once a site has confirmed a sum of a fit, it takes part in none over other sites",
        "test_the_same_step_with_and_without_a_hospital",
    ),
)
STEERED, VICTIM = 1, SITES[3]
SCORE_AT = model_words._COUNTS + model_words.WORDS * 6
"""Where the score's first figure is, of a model of three coefficients."""
ONE = 1 << (model_words.UNIT_BITS - 2 * model_words.WORD_BITS)
"""What 1.0 is in a figure's third word."""


def test_a_sum_of_the_coordinators_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """It adds to one site's masked vector what it likes, under a receipt of its own making."""

    def steered(sites: Summed) -> NDArray[np.float64]:
        _, record = sites.sum_up(SumTask(0))
        said = encoding.answer(record.vectors[STEERED].payload, STEERED, 64)
        assert isinstance(said, MaskedVector)
        words = said.words.copy()
        words[SCORE_AT + 2] += np.uint64(40 * ONE)
        payload = wire.SumReply(words=words.tobytes()).SerializeToString()
        sites.world.sites[SITES[STEERED]] = SigningKey.generate()  # not the one on the roster
        name = SumTask(0, 0, summed_steps.VECTORS).name
        record.vectors[STEERED].CopyFrom(sites.signed(SITES[STEERED], name, payload))
        terms = wire.SumTerms(sites=SITES, minimum=len(SITES), before=record)
        sites.tell(SITES[0], SumTask(1), wire.SumStep(terms=terms))
        now = sites.walks[SITES[0]]._now
        assert now is not None
        return now.beta

    def believed(part: wire.SignedPart, task: str, terms: steps.Terms) -> str:
        return names.pop(0)

    honest = Summed()
    total, record = honest.sum_up(SumTask(0))
    honest.sum_up(SumTask(1), summed_steps.digest_of(total, b""), record)
    walk = honest.walks[SITES[0]]._now
    assert walk is not None
    with monkeypatch.context() as undefended:
        names = list(SITES)
        sites = Summed()
        sites.terms = _fixed(sites)  # type: ignore[method-assign]
        undefended.setattr(summed_steps, "signed_by", believed)
        assert abs(steered(sites)[0] - walk.beta[0]) > 0.5
    sites = Summed()
    sites.terms = _fixed(sites)  # type: ignore[method-assign]
    with pytest.raises(DocumentError, match="receipt"):
        steered(sites)


def _fixed(sites: Summed) -> Callable[[], steps.Terms]:
    """The roster as it was, whatever keys are made later."""
    known = sites.terms()
    for walk in sites.walks.values():
        walk._terms = lambda: known
    return lambda: known


def test_the_same_step_with_and_without_a_hospital(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that the hospital dropped out, and has the others sum again."""

    def difference(sites: Summed) -> Sums:
        whole, _ = sites.sum_up(SumTask(0))
        rest, _ = sites.sum_up(SumTask(0, 1), sites=tuple(s for s in SITES if s != VICTIM))
        found = model_words.decode(whole - rest, sites.model, sites.width, sites.powers)
        assert isinstance(found, Sums)
        return found

    with monkeypatch.context() as undefended:
        undefended.setattr(
            SummedCoefficients, "_settled", property(lambda _: None, lambda *_: None), raising=False
        )
        sites = Summed()
        found = difference(sites)
        own = sites.words(VICTIM, np.zeros(sites.width), False)
        expected = model_words.decode(own, sites.model, sites.width, sites.powers)
        assert isinstance(expected, Sums)
        assert found.score == pytest.approx(expected.score, rel=1e-12)
        assert found.n == len(sites.rows[VICTIM]["age"])
    with pytest.raises(Refused, match="other sites"):
        difference(Summed())


def test_what_a_hospital_sends_of_an_honest_fit_is_as_good_as_random() -> None:
    """Each bit of a masked word is set about half of the time."""
    sites = Summed()
    sites.fit()
    vectors = b"".join(
        encoding.answer(said, 0, 64).words.tobytes()  # type: ignore[union-attr]
        for (site, task), said in sites.sent.items()
        if site == SITES[0] and task.endswith(".3")
    )
    bits = np.unpackbits(np.frombuffer(vectors, np.uint8))
    # 5 standard deviations of so many fair coins, of each of a word's bits.
    words = bits.reshape(-1, 64)
    assert np.abs(words.mean(axis=0) - 0.5).max() < 5 * 0.5 / np.sqrt(len(words))
