"""What FHIR resources become, element by element."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import pytest

from node.deid.pseudonyms import Pseudonyms
from node.intake.clinical import ABOVE_89, BIRTH_YEAR, DECEASED, RACE, SEX
from tests.node.intake.fhir.making import (
    HL7,
    LOINC,
    SNOMED,
    Take,
    coded,
    condition,
    observation,
    patient,
    quantity,
)

SBP = f"{LOINC}|8480-6"
ACTIVE = f"{HL7}/condition-clinical|active"


@pytest.fixture
def who(pseudonyms: Pseudonyms) -> str:
    return pseudonyms.subject("MRN1")


@pytest.fixture
def days(pseudonyms: Pseudonyms, who: str) -> timedelta:
    return timedelta(days=pseudonyms.days(who))


def values(take: Take, *resources: Any, code: str = SBP) -> list[tuple[Any, ...]]:
    """Rows of a code: number, value, unit and time."""
    _, store = take(patient(), *resources)
    return [row[2:] for row in store.kept("observations") if row[1] == code]


def test_a_patient_becomes_sex_and_moved_birth_year(take: Take, who: str, days: timedelta) -> None:
    _, store = take(patient())
    sex = "http://hl7.org/fhir/administrative-gender|female"
    year = float((date(1970, 5, 6) - days).year)
    assert store.kept("observations") == [
        (who, SEX, None, sex, "", None),
        (who, BIRTH_YEAR, year, None, "", None),
    ]


def test_death_and_race_are_kept_and_ethnicity_is_not(
    take: Take, who: str, days: timedelta
) -> None:
    category = {"system": "urn:oid:2.16.840.1.113883.6.238", "code": "2106-3"}
    race = {
        "url": "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race",
        "extension": [{"url": "ombCategory", "valueCoding": category}],
    }
    _, store = take(patient(extension=[race], deceasedDateTime="2021-02-03T10:00:00Z"))
    rows = {row[1]: row for row in store.kept("observations")}
    assert rows[DECEASED][5] == datetime(2021, 2, 3) - days
    assert rows[RACE][3] == "urn:oid:2.16.840.1.113883.6.238|2106-3"


def test_above_89_there_is_no_birth_year_and_no_date_that_tells_it(take: Take, who: str) -> None:
    old = condition(onsetDateTime="1931-01-01")
    _, store = take(patient(birthDate="1930-01-01"), old, condition())
    rows = store.kept("observations")
    assert BIRTH_YEAR not in {row[1] for row in rows}
    assert (who, ABOVE_89, 1.0, None, "", None) in rows
    times = [row[5] for row in rows if row[1] == f"{SNOMED}|44054006"]
    assert sorted(time is None for time in times) == [False, True]
    assert store.found() == {"age-above-89": 1, "date-tells-age": 1, "no-time": 1}


def test_of_a_year_of_birth_the_earliest_day_decides_on_the_age(take: Take, who: str) -> None:
    for written, above in (("1936", True), ("1936-03", True), ("1937", False), ("1936-04", False)):
        _, store = take(patient(birthDate=written))
        codes = {row[1] for row in store.kept("observations")}
        assert (ABOVE_89 in codes, BIRTH_YEAR in codes) == (above, not above), written


def test_who_died_before_90_keeps_birth_year_and_dates(take: Take) -> None:
    died = patient(birthDate="1927-05-21", deceasedDateTime="1989-05-09")
    _, store = take(died, condition(onsetDateTime="1930-01-01"))
    rows = {row[1]: row for row in store.kept("observations")}
    assert BIRTH_YEAR in rows
    assert rows[f"{SNOMED}|44054006"][5] is not None
    assert store.found() == {}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"valueQuantity": quantity(120.5)}, (120.5, None, "mm[Hg]")),
        ({"valueQuantity": {"value": 120, "unit": "mmHg"}}, (120.0, None, "mm[Hg]")),
        (
            {"valueQuantity": quantity(5, "mg/L", comparator="<")},
            (5.0, "http://hl7.org/fhir/quantity-comparator|<", "mg/L"),
        ),
        ({"valueCodeableConcept": coded(SNOMED, "10828004")}, (None, f"{SNOMED}|10828004", "")),
        ({"valueBoolean": True}, (1.0, None, "")),
        ({"valueInteger": 7}, (7.0, None, "")),
        (
            {"valueRatio": {"numerator": quantity(3, "mg"), "denominator": quantity(2, "g")}},
            (1.5, None, "mg/g"),
        ),
    ],
)
def test_values_are_kept_with_their_unit(
    take: Take, days: timedelta, value: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    time = datetime(2020, 3, 4, 5, 6, 7) - days
    assert values(take, observation(**value)) == [(*expected, time)]


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ({"valueString": "Jane Doe"}, "value-not-taken"),
        ({"valueQuantity": quantity(120, "Jane Doe")}, "unit-unknown"),
        ({"valueQuantity": quantity("120")}, "value-mistyped"),
        ({"valueQuantity": quantity(1e300)}, "value-mistyped"),
        ({"valueQuantity": quantity(True)}, "value-mistyped"),
        ({"valueCodeableConcept": coded("http://jane.doe", "x")}, "code-system-not-taken"),
        ({"valueCodeableConcept": {"text": "Jane Doe"}}, "value-not-taken"),
        ({"valueInteger": 1.5}, "value-mistyped"),
        ({"valueSampledData": {"data": "1 2 3"}}, "value-not-taken"),
        ({}, "no-value"),
    ],
)
def test_what_is_no_value_is_counted_and_left_out(
    take: Take, value: dict[str, Any], rule: str
) -> None:
    _, store = take(patient(), observation(**value))
    assert SBP not in {row[1] for row in store.kept("observations")}
    assert store.found() == {rule: 1}


def test_components_are_observations_of_the_panels_time(take: Take) -> None:
    panel = observation(
        "85354-9",
        component=[
            {"code": coded(LOINC, "8480-6"), "valueQuantity": quantity(120)},
            {"code": coded(LOINC, "8462-4"), "valueQuantity": quantity(80)},
        ],
    )
    _, store = take(patient(), panel)
    rows = [row for row in store.kept("observations") if row[5] is not None]
    assert [(row[1][-6:], row[2]) for row in rows] == [("8480-6", 120.0), ("8462-4", 80.0)]
    assert store.found() == {}


def test_a_number_outside_its_reported_range_is_kept_and_counted(take: Take) -> None:
    given = observation(
        valueQuantity=quantity(190), referenceRange=[{"high": quantity(140), "low": quantity(90)}]
    )
    _, store = take(patient(), given)
    assert store.found() == {"out-of-range": 1}
    assert 190.0 in {row[2] for row in store.kept("observations")}


def test_ages_above_89_are_one_group_in_observations_too(take: Take) -> None:
    age = f"{LOINC}|30525-0"
    old = observation("30525-0", valueQuantity=quantity(97, "a"))
    assert values(take, old, code=age)[0][0] == 90
    plain = observation("30525-0", valueInteger=97)
    assert values(take, plain, code=age)[0][0] == 90


def test_a_date_of_birth_is_not_taken_as_an_observation(take: Take) -> None:
    _, store = take(patient(), observation("21112-8", valueDateTime="1970-05-06"))
    assert store.found() == {"value-not-taken": 1}


def test_the_preferred_of_several_codes_is_taken(take: Take) -> None:
    both = {"coding": [*coded(SNOMED, "271649006")["coding"], *coded(LOINC, "8480-6")["coding"]]}
    assert len(values(take, observation(code=both, valueQuantity=quantity(1)))) == 1


def test_a_local_code_is_taken_when_the_hospital_adds_its_system(take: Take) -> None:
    local = observation(code=coded("http://lab.example", "CRP"), valueQuantity=quantity(1, "mg/L"))
    _, store = take(patient(), local)
    assert store.found() == {"code-system-not-taken": 1}
    _, store = take(patient(), local, code_systems=("http://lab.example",))
    assert "http://lab.example|CRP" in {row[1] for row in store.kept("observations")}


def test_a_condition_has_a_row_for_onset_and_one_for_its_end(take: Take, days: timedelta) -> None:
    ended = condition(
        abatementDateTime="2019-06-07",
        clinicalStatus=coded(f"{HL7}/condition-clinical", "resolved"),
    )
    assert values(take, ended, code=f"{SNOMED}|44054006") == [
        (None, ACTIVE, "", datetime(2019, 1, 2) - days),
        (None, f"{HL7}/condition-clinical|resolved", "", datetime(2019, 6, 7) - days),
    ]
    refuted = condition(verificationStatus=coded(f"{HL7}/condition-ver-status", "refuted"))
    assert values(take, refuted, code=f"{SNOMED}|44054006") == []


def test_an_imaging_study_links_to_its_images_by_the_remapped_uid(
    take: Take, pseudonyms: Pseudonyms, who: str, days: timedelta
) -> None:
    study = {
        "resourceType": "ImagingStudy",
        "status": "available",
        "subject": {"reference": "Patient/1"},
        "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2.840.99.1"}],
        "started": "2020-03-04",
        "modality": [{"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "CT"}],
        "description": "CT of Jane Doe",
    }
    _, store = take(patient(), study)
    time = datetime(2020, 3, 4) - days
    assert store.kept("studies") == [(who, pseudonyms.uid("1.2.840.99.1"), time)]
    assert values(take, study, code="http://dicom.nema.org/resources/ontology/DCM|CT") == [
        (None, None, "", time)
    ]


def test_a_specimen_is_its_type_and_site(take: Take, days: timedelta) -> None:
    specimen = {
        "resourceType": "Specimen",
        "subject": {"reference": "Patient/1"},
        "type": coded(SNOMED, "119376003"),
        "collection": {
            "collectedDateTime": "2020-03-04",
            "bodySite": coded(SNOMED, "76752008"),
            "collector": {"display": "Dr Jane Doe"},
        },
        "accessionIdentifier": {"value": "A-4711"},
    }
    time = datetime(2020, 3, 4) - days
    assert values(take, specimen, code=f"{SNOMED}|119376003") == [
        (None, f"{SNOMED}|76752008", "", time)
    ]


@pytest.mark.parametrize(
    ("written", "rule"),
    [
        ("2020-03", "date-partial"),
        ("2020", "date-partial"),
        ("tomorrow", "date-unreadable"),
        ("2020-02-31", "date-unreadable"),
        ("1807-01-01", "date-implausible"),
        ("2090-01-01", "date-implausible"),
        (5, "date-unreadable"),
    ],
)
def test_a_date_that_is_none_is_left_out_and_counted(
    take: Take, written: object, rule: str
) -> None:
    _, store = take(patient(), condition(onsetDateTime=written))
    assert store.found() == {rule: 1, "no-time": 1}


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"status": "entered-in-error"}, "entered-in-error"),
        ({"modifierExtension": [{"url": "x"}]}, "implicit-rules"),
        ({"implicitRules": "x"}, "implicit-rules"),
        ({"subject": {"reference": "Patient/9"}}, "unknown-patient"),
        ({"subject": {"reference": "Group/1"}}, "not-a-patient"),
        ({"subject": {"display": "Jane Doe"}}, "no-key"),
        ({"subject": None}, "no-key"),
    ],
)
def test_a_record_that_is_nobodys_or_withdrawn_is_left_out(
    take: Take, change: dict[str, Any], rule: str
) -> None:
    _, store = take(patient(), observation(valueQuantity=quantity(1), **change))
    assert SBP not in {row[1] for row in store.kept("observations")}
    assert store.found() == {rule: 1}


@pytest.mark.parametrize(
    "reference",
    [
        {"reference": "Patient/1"},
        {"reference": "https://fhir.example/r4/Patient/1"},
        {"reference": "Patient/1/_history/3"},
        {"reference": "urn:uuid:1"},
        {"identifier": {"type": coded(f"{HL7}/v2-0203", "MR"), "value": "MRN1"}},
    ],
)
def test_references_of_every_form_find_the_patient(take: Take, reference: dict[str, Any]) -> None:
    assert len(values(take, observation(valueQuantity=quantity(1), subject=reference))) == 1
