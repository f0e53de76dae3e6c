"""Consents in force, and refusals."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from node.catalog.sources import CatalogClinicalStore
from node.catalog.store import Catalog
from node.deid.pseudonyms import Pseudonyms
from node.home import NodeHome
from node.intake.fhir.export import FhirSource, export_files
from node.intake.records import take_in
from tests.node.intake.fhir.making import Take, coded, consent, patient, purpose, write_export


@pytest.fixture
def who(pseudonyms: Pseudonyms) -> str:
    return pseudonyms.subject("MRN1")


def kept(take: Take, *consents: dict[str, Any]) -> list[tuple[Any, ...]]:
    _, store = take(patient(), *consents)
    return [row[1:] for row in store.kept("consents")]


def test_a_consent_has_basis_purposes_and_moved_period(
    take: Take, pseudonyms: Pseudonyms, who: str
) -> None:
    period = {"start": "2020-01-02", "end": "2025-01-02T10:00:00Z"}
    given = {"type": "permit", "purpose": purpose("HRESCH", "TREAT"), "period": period}
    _, store = take(patient(), consent(provision=given))
    days = timedelta(days=pseudonyms.days(who))
    first, last = date(2020, 1, 2) - days, date(2025, 1, 2) - days
    assert store.kept("consents") == [(who, "research", ["HRESCH", "TREAT"], first, last)]


def test_an_end_in_a_distant_century_is_none(take: Take) -> None:
    period = {"start": "2020-01-02", "end": "9999-12-31"}
    assert kept(take, consent(provision={"type": "permit", "period": period}))[0][3] is None


@pytest.mark.parametrize(
    "exception",
    [
        {"provision": [{"type": "deny"}]},
        {"actor": [{"role": {}}]},
        {"class": [{"code": "x"}]},
        {"data": [{"meaning": "instance"}]},
        {"dataPeriod": {"start": "2020-01-01"}},
    ],
)
def test_a_consent_with_exceptions_is_none(take: Take, exception: dict[str, Any]) -> None:
    assert kept(take, consent(provision={"type": "permit", **exception})) == []
    _, store = take(patient(), consent(provision={"type": "permit", **exception}))
    assert store.found() == {"consent-conditional": 1}


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"status": "inactive"}, "consent-not-active"),
        ({"status": "draft"}, "consent-not-active"),
        ({"provision": {}}, "consent-conditional"),
        ({"provision": "permit"}, "consent-conditional"),
        ({"provision": {"type": "permit", "period": {"end": "soon"}}}, "date-unreadable"),
        ({"provision": {"type": "permit", "period": {"end": "2025-01"}}}, "date-unreadable"),
        ({"provision": {"type": "permit", "purpose": "all"}}, "code-system-not-taken"),
        (
            {"provision": {"type": "permit", "purpose": coded("http://x.y", "z")["coding"]}},
            "code-system-not-taken",
        ),
        ({"provision": {"type": "permit", "purpose": [None]}}, "code-system-not-taken"),
    ],
)
def test_what_is_not_read_whole_is_no_consent(
    take: Take, change: dict[str, Any], rule: str
) -> None:
    _, store = take(patient(), consent(**change))
    assert store.kept("consents") == []
    assert store.found() == {rule: 1}


def test_a_refusal_is_kept_and_outweighs_consents(take: Take) -> None:
    permit = consent(provision={"type": "permit", "purpose": purpose("HRESCH")})
    everything = consent(provision={"type": "deny"})
    assert kept(take, permit, everything) == [("refused", [], None, None)]
    rejected = consent(status="rejected")
    assert kept(take, permit, rejected) == [("refused", [], None, None)]


def test_a_refusal_of_other_purposes_leaves_a_consent(take: Take) -> None:
    permit = consent(provision={"type": "permit", "purpose": purpose("HRESCH")})
    other = consent(provision={"type": "deny", "purpose": purpose("HMARKT")})
    assert kept(take, permit, other) == [
        ("research", ["HRESCH"], None, None),
        ("refused", ["HMARKT"], None, None),
    ]
    whole = consent()
    assert kept(take, whole, other) == [("refused", ["HMARKT"], None, None)]


def test_a_refusal_that_ended_before_the_consent_began_leaves_it(take: Take) -> None:
    period = {"start": "2022-01-01"}
    permit = consent(provision={"type": "permit", "period": period})
    ended = {"type": "deny", "period": {"end": "2021-01-01"}}
    assert [row[0] for row in kept(take, permit, consent(provision=ended))] == [
        "research",
        "refused",
    ]
    unreadable = {"type": "deny", "period": {"end": "long ago"}}
    assert [row[0] for row in kept(take, permit, consent(provision=unreadable))] == ["refused"]


def test_a_refusal_is_no_consent_to_a_selection_unless_it_is_asked_for(
    tmp_path: Path, home: NodeHome, catalog: Catalog, pseudonyms: Pseudonyms, now: datetime
) -> None:
    from node.catalog.cohorts import Cohorts
    from node.catalog.selection import ConsentFilter, Selection, SubjectFilter

    permit = consent(provision={"type": "permit", "purpose": purpose("HRESCH")})
    refusal = consent("2", provision={"type": "deny"})
    folder = write_export(tmp_path / "e", patient(), patient("2"), patient("3"), permit, refusal)
    store = CatalogClinicalStore(catalog)
    take_in(FhirSource(export_files(folder), pseudonyms), "s", home, store, pseudonyms, now=now)

    def count(wanted: SubjectFilter) -> int:
        with catalog.snapshot() as connection:
            return Cohorts(connection, now.date()).count(Selection(subjects=wanted)).subjects

    refused = SubjectFilter(consent=ConsentFilter(basis=("refused",)))
    assert count(SubjectFilter(consent=ConsentFilter())) == 1
    assert count(SubjectFilter(consent=ConsentFilter(purpose=("HRESCH",)))) == 1
    assert count(refused) == 1
    assert count(SubjectFilter(not_=refused)) == 2
