"""Who must have signed before a finished model may leave."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from contract.envelope import Envelope
from contract.errors import DocumentError, SignatureError
from contract.membership import MembershipReport
from contract.model_release import MODEL_RELEASE_TYPE, ModelRelease, read, unsigned, verify
from tests.contract.world import NOW, World

WORLD = World()
SITES = tuple(sorted(WORLD.sites))
ALL = frozenset(SITES)


def request(**changes: Any) -> Envelope:
    values: dict[str, Any] = {
        "consortium": WORLD.consortium,
        "issued_at": NOW - timedelta(days=1),
        "expires_at": NOW + timedelta(days=30),
        "project": "birth",
        "job": "a" * 64,
        "model": "b" * 64,
        "model_bytes": 1000,
        "sites": SITES,
        "researcher": "ana",
        "recipient": "everybody",
        "report": MembershipReport(attack="loss", auc=0.51, true_positive_rate=0.01),
    }
    return ModelRelease(**values | changes).seal(MODEL_RELEASE_TYPE)


def signed(envelope: Envelope, *by: str) -> bytes:
    for name in by:
        envelope = envelope.sign(WORLD.stewards[name])
    return envelope.to_bytes()


def test_a_model_leaves_when_every_site_that_contributed_has_signed() -> None:
    data = signed(request(), *SITES)
    release = verify(data, WORLD.roster(), ALL, NOW)
    assert release.model == "b" * 64
    assert unsigned(data, WORLD.roster()) == []


@pytest.mark.parametrize("missing", SITES)
def test_a_threshold_of_stewards_is_not_enough(missing: str) -> None:
    data = signed(request(), *(s for s in SITES if s != missing))
    assert len(SITES) - 1 >= WORLD.threshold
    assert unsigned(data, WORLD.roster()) == [missing]
    with pytest.raises(SignatureError, match=missing):
        verify(data, WORLD.roster(), ALL, NOW)


def test_a_site_that_contributed_can_not_be_left_out() -> None:
    data = signed(request(sites=SITES[1:]), *SITES[1:])
    verify(data, WORLD.roster(), ALL - {SITES[0]}, NOW)
    with pytest.raises(DocumentError, match=SITES[0]):
        verify(data, WORLD.roster(), ALL, NOW)


def test_signatures_of_sites_researchers_and_former_stewards_count_for_nothing() -> None:
    for keys in (WORLD.sites, World().stewards):
        envelope = request()
        for key in keys.values():
            envelope = envelope.sign(key)
        assert unsigned(envelope.to_bytes(), WORLD.roster()) == list(SITES)
    # One steward's key under all names is one signature.
    assert len(unsigned(signed(request(), SITES[0]), WORLD.roster())) == len(SITES) - 1


def test_a_release_is_of_one_model_one_consortium_and_its_time() -> None:
    data = signed(request(), *SITES)
    other = read(signed(request(model="c" * 64)))[0]
    moved = other.with_signatures(Envelope.parse(data).signatures).to_bytes()
    assert unsigned(moved, WORLD.roster()) == list(SITES)
    with pytest.raises(DocumentError, match="expired"):
        verify(data, WORLD.roster(), ALL, NOW + timedelta(days=31))
    with pytest.raises(DocumentError, match="consortium"):
        verify(data, World(consortium="other").roster(), ALL, NOW)
    with pytest.raises(DocumentError, match="no request"):
        read(WORLD.signed_roster())


def test_a_request_needs_a_report() -> None:
    with pytest.raises(ValueError, match="report"):
        request(report=None)
    for bad in ({"auc": 1.2}, {"auc": float("nan")}, {"true_positive_rate": -0.1}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            MembershipReport(**{"attack": "x", "auc": 0.5, "true_positive_rate": 0.0} | bad)
