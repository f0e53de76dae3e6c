"""A bulk export as a whole: files, versions, doing it again, and nothing of a stranger's bytes."""

from __future__ import annotations

import gzip
import io
import json
import resource
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.errors import DataError, UsageError
from node.deid.pseudonyms import Pseudonyms
from node.home import NodeHome
from node.intake.fhir.consents import Consents
from node.intake.fhir.export import FhirSource, export_files
from node.intake.fhir.lines import MAX_DEPTH, MAX_LINE_BYTES, raw_lines, read_line
from node.intake.fhir.patients import Patients
from node.intake.fhir.resources import READERS, Resources
from node.intake.quality import QualityReport
from node.intake.records import take_in
from node.intake.terminologies import Terminologies
from tests.node.intake.fhir.making import (
    HL7,
    Take,
    coded,
    condition,
    consent,
    observation,
    patient,
    quantity,
    write_export,
)
from tests.node.intake.keeping import MemoryStore

SYNTHEA = Path(__file__).parents[4].parent / "shared" / "data" / "fhir-bulk-10"


def test_the_same_export_again_changes_nothing_and_another_replaces_it(take: Take) -> None:
    first, store = take(patient(), condition())
    assert (first.subjects, first.taken, first.unchanged) == (
        1,
        {"Patient": 1, "Condition": 1},
        False,
    )
    assert take(patient(), condition())[0].unchanged
    again, _ = take(patient(), patient("2"), condition(), condition(who="2"))
    assert again.subjects == 2
    assert len({row[0] for row in store.kept("observations")}) == 2


def squeezed(place: Path) -> Path:
    """Compress every file of an export."""
    for path in place.glob("*.ndjson"):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    return place


def test_a_compressed_export_is_the_same_export(
    take: Take, home: NodeHome, pseudonyms: Pseudonyms, tmp_path: Path, now: datetime
) -> None:
    resources = (patient(), patient("2"), condition(), condition(who="2"))
    plain, _ = take(*resources)
    place = squeezed(write_export(tmp_path / "squeezed", *resources))
    seen: list[tuple[int, int]] = []
    source = FhirSource(
        export_files(place), pseudonyms, observe=lambda done, total: seen.append((done, total))
    )
    report = take_in(source, "s", home, MemoryStore(), pseudonyms, now=now)
    assert (report.subjects, report.rows, report.taken) == (
        plain.subjects,
        plain.rows,
        plain.taken,
    )
    assert all(done <= total for done, total in seen)


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(b'{"resourceType": "Patient"}' * 999)[:-9],
        b"no gzip at all",
        gzip.compress(b"")[:-1],
        gzip.compress(bytes(64 * 2**20)),
    ],
    ids=["cut", "none", "without an end", "a bomb"],
)
def test_a_compressed_file_that_can_not_be_read_is_said_to_be_so(
    home: NodeHome, pseudonyms: Pseudonyms, tmp_path: Path, now: datetime, data: bytes
) -> None:
    path = tmp_path / "Patient.ndjson.gz"
    path.write_bytes(data)
    source = FhirSource([path], pseudonyms)
    with pytest.raises(DataError, match=r"\.gz file of the source"):
        take_in(source, "s", home, MemoryStore(), pseudonyms, now=now)


def test_a_dry_run_keeps_nothing(take: Take, home: NodeHome) -> None:
    report, store = take(patient(), condition(), dry_run=True)
    assert report.rows == {"observations": 3}
    assert store.sources == {}
    assert not (home.vault / "tables").exists()


def test_nothing_is_left_aside_after_an_intake_or_an_error(take: Take, home: NodeHome) -> None:
    take(patient(), condition())
    with pytest.raises(DataError):
        take(patient(), {"resourceType": "Bundle", "entry": []})
    assert list((home.vault / "tables").iterdir()) == []


def test_other_kinds_are_counted_and_not_read(take: Take) -> None:
    report, store = take(patient(), {"resourceType": "Procedure", "note": [{"text": "Jane"}]})
    assert report.left == {"Procedure": 1}
    assert len(store.kept("observations")) == 2


def test_an_export_without_anything_that_is_taken_is_refused(take: Take, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no resource of a kind"):
        take({"resourceType": "Procedure"})
    (tmp_path / "export" / "Procedure.000.ndjson").unlink()
    with pytest.raises(UsageError, match="There is no"):
        take()


@pytest.mark.parametrize(
    "foreign",
    [
        {"resourceType": "Condition", "patient": {"reference": "Patient/1"}},
        condition(clinicalStatus="active"),
        {"resourceType": "Consent", "decision": "permit", "subject": {"reference": "Patient/1"}},
        {"resourceType": "ImagingStudy", "uid": "urn:oid:1.2"},
    ],
)
def test_another_fhir_version_is_refused_by_file_and_line(
    take: Take, foreign: dict[str, Any]
) -> None:
    with pytest.raises(DataError, match=r"^file \d, line 1: a [A-Za-z]+ of another FHIR version"):
        take(patient(), foreign)


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (b"Jane Doe", "bad-json"),
        (b'{"resourceType": "Patient"', "bad-json"),
        (b"[]", "bad-json"),
        (b'{"a": NaN}', "bad-json"),
        (b'{"a": ' + b"1" * 5000 + b"}", "bad-json"),
        (b"\xff\xfe{}", "bad-json"),
        (b'{"a": ' + b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1) + b"}", "too-deep"),
        (b'{"a":"' + b"x" * MAX_LINE_BYTES + b'"}', "line-too-long"),
        (b'{"id": "1"}', "not-a-resource"),
        (b'{"resourceType": "jane doe"}', "not-a-resource"),
        (b'{"resourceType": 5}', "not-a-resource"),
    ],
)
def test_a_line_that_is_no_resource_is_counted(take: Take, line: bytes, rule: str) -> None:
    _, store = take(patient(), line)
    assert store.found() == {rule: 1}


def test_patients_are_known_by_their_hospital_number_or_else_by_id(
    take: Take, pseudonyms: Pseudonyms
) -> None:
    own = {"system": "http://hospital.example/number", "value": "77"}
    both = patient(identifier=[*patient()["identifier"], own])
    _, store = take(both, identifier="http://hospital.example/number")
    assert {row[0] for row in store.kept("observations")} == {pseudonyms.subject("77")}
    _, store = take(patient(identifier=[]))
    assert {row[0] for row in store.kept("observations")} == {pseudonyms.subject("1")}
    assert store.found() == {"no-medical-record-number": 1}


def test_a_second_record_of_one_patient_is_the_same_subject(take: Take) -> None:
    twin = patient("2", identifier=patient("1")["identifier"])
    _, store = take(patient("1"), twin, observation(who="2", valueQuantity=quantity(1)))
    assert len({row[0] for row in store.kept("observations")}) == 1
    assert store.found() == {"subject-twice": 1}


def test_a_link_in_the_folder_is_not_followed(take: Take, tmp_path: Path) -> None:
    take(patient())
    outside = tmp_path / "outside.ndjson"
    outside.write_text(json.dumps(condition()))
    (tmp_path / "export" / "link.ndjson").symlink_to(outside)
    report, _ = take(patient(), patient("2"))
    assert "Condition" not in report.taken


def test_no_planted_identifier_is_anywhere_in_the_home_or_the_summary(
    home: NodeHome, pseudonyms: Pseudonyms, now: datetime, tmp_path: Path
) -> None:
    from node.catalog.sources import CatalogClinicalStore
    from node.catalog.store import Catalog

    planted = [with_canaries(one) for one in whole_export()]
    folder = write_export(tmp_path / "export", *planted)
    with Catalog.open(home) as catalog:
        source = FhirSource(export_files(folder), pseudonyms)
        store = CatalogClinicalStore(catalog)
        report = take_in(source, "s", home, store, pseudonyms, now=now)
        assert report.rows["observations"] == 5
        assert report.rows["consents"] == 1
        shown = "\n".join(report.lines()) + report.quality.to_bytes().decode()
        assert "CANARY" not in shown
        for path in home.root.rglob("*"):
            if path.is_file():
                data = path.read_bytes().lower()
                for canary in ("canary", "1970-05-06", "mrn1"):
                    assert canary.encode() not in data, path.name
                    assert canary.encode("utf-16-le") not in data, path.name


def whole_export() -> list[dict[str, Any]]:
    value = {"valueQuantity": quantity(120)}
    study = {
        "resourceType": "ImagingStudy",
        "status": "available",
        "subject": {"reference": "Patient/1"},
        "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2.840.99.1"}],
        "started": "2020-03-04",
    }
    specimen = {
        "resourceType": "Specimen",
        "subject": {"reference": "Patient/1"},
        "type": coded("http://snomed.info/sct", "119376003"),
        "collection": {"collectedDateTime": "2020-03-04"},
    }
    return [
        patient(),
        condition(),
        observation(**value),
        observation("8462-4", valueQuantity={"value": 5, "unit": "CANARY UNIT"}),
        observation("8462-4", valueString="CANARY VALUE"),
        observation(code=coded("http://canary.example", "CANARY"), **value),
        study,
        specimen,
        consent(),
    ]


def with_canaries(resource: dict[str, Any]) -> dict[str, Any]:
    """Plant a name, an address, a telephone number and notes wherever R4 has room for them."""
    name = [{"family": "CANARYFAMILY", "given": ["CANARYGIVEN"], "text": "CANARYTEXT"}]
    person = {
        "name": name,
        "telecom": [{"system": "phone", "value": "CANARY 0171 2345678"}],
        "address": [{"line": ["CANARY STREET"], "city": "CANARYCITY", "postalCode": "CANARY12"}],
        "contact": [{"name": name[0]}],
        "photo": [{"data": "Q0FOQVJZ", "title": "CANARYPHOTO"}],
        "maritalStatus": {"text": "CANARYMARRIED"},
        "generalPractitioner": [{"display": "CANARYDOCTOR"}],
        "managingOrganization": {"display": "CANARYHOSPITAL"},
    }
    everywhere: dict[str, Any] = {
        "text": {"status": "generated", "div": "<div>CANARYNARRATIVE</div>"},
        "note": [{"text": "CANARYNOTE", "authorString": "CANARYAUTHOR"}],
        "meta": {"source": "CANARYSOURCE", "tag": [{"code": "CANARYTAG", "system": "http://c"}]},
        "contained": [{"resourceType": "Patient", "id": "c", "name": name}],
        "extension": [{"url": "http://CANARY.example", "valueString": "CANARYEXTENSION"}],
        "language": "CANARYLANGUAGE",
        "performer": [{"display": "CANARYPERFORMER"}],
        "encounter": {"reference": "Encounter/CANARY", "display": "CANARYENCOUNTER"},
        "description": "CANARYDESCRIPTION",
        "asserter": {"display": "CANARYASSERTER"},
    }
    planted = {**everywhere, **resource}
    if resource["resourceType"] == "Patient":
        planted = {**person, **planted}
    identifier = {"system": "http://canary.example", "value": "CANARY4711"}
    planted["identifier"] = [*resource.get("identifier", []), identifier]
    for coded_element in ("code", "type", "scope"):
        if isinstance(planted.get(coded_element), dict):
            inner = [dict(one, display="CANARYDISPLAY") for one in planted[coded_element]["coding"]]
            planted[coded_element] = {"coding": inner, "text": "CANARYCODETEXT"}
    return planted


# ---- what a stranger may send --------------------------------------------------------------------

texts = st.text(max_size=8) | st.sampled_from(
    ["Patient/1", "http://loinc.org", "8480-6", "permit", "active", "2020-01-01", "mg", "1"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("coding", "system", "code", "value", "unit", "reference", "start", "end"),
                    *("type", "purpose", "identifier", "low", "high", "period", "extension"),
                ]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
ELEMENTS = [
    *("id", "identifier", "birthDate", "gender", "deceasedDateTime", "deceasedBoolean"),
    *("extension", "status", "code", "subject", "patient", "effectiveDateTime", "component"),
    *("valueQuantity", "valueCodeableConcept", "valueBoolean", "valueInteger", "valueRatio"),
    *("valueDateTime", "valuePeriod", "referenceRange", "onsetDateTime", "onsetPeriod"),
    *("abatementDateTime", "clinicalStatus", "verificationStatus", "modality", "started"),
    *("procedureCode", "type", "collection", "provision", "scope", "hasMember"),
]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(READERS)), st.dictionaries(st.sampled_from(ELEMENTS), values))
def test_no_resource_brings_the_reader_down(kind: str, elements: dict[str, Any]) -> None:
    terminologies, quality = Terminologies(), QualityReport("s")
    key = Pseudonyms(bytes(32))
    known = Patients(key, terminologies, quality, datetime(2026, 1, 1).date())
    known.add({"resourceType": "Patient", **elements})
    known.add(patient())
    reader = Resources(known, terminologies, key, quality, Consents(terminologies, quality))
    whose = {"subject": {"reference": "Patient/1"}, "patient": {"reference": "Patient/1"}}
    for given_resource in (elements, elements | whose):
        rows = reader.rows({"resourceType": kind, **given_resource})
        for _, row in [*rows, *reader.settled()]:
            assert len(row[0]) == 32


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.text().map(str.encode), st.integers(0, 3))
def test_any_bytes_are_lines_or_problems(data: bytes, times: int) -> None:
    problems: list[str] = []
    for _, line in raw_lines(io.BytesIO(data * times), problems.append):
        found = read_line(line, problems.append)
        assert found is None or isinstance(found, dict)
    assert set(problems) <= {"bad-json", "too-deep", "line-too-long"}


@pytest.mark.slow
def test_memory_does_not_grow_with_the_export(
    tmp_path: Path, home: NodeHome, pseudonyms: Pseudonyms, now: datetime
) -> None:
    folder = write_export(tmp_path / "export", patient())
    line = json.dumps(observation(valueQuantity=quantity(120))).encode() + b"\n"

    def peak(count: int) -> int:
        with (folder / "Observation.000.ndjson").open("wb") as file:
            for _ in range(count // 1000):
                file.write(line * 1000)
        source = FhirSource(export_files(folder), pseudonyms)
        take_in(source, f"s{count}", home, Counting(), pseudonyms, now=now)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    small = peak(20_000)
    assert peak(200_000) < small + 40_000  # KiB


class Counting(MemoryStore):
    """Reads the rows, one batch at a time, and keeps none."""

    def replace_source(self, source: Any, rows: Any, findings: Any) -> None:
        assert sum(batch.height for batch in self._all(rows)) > 0

    @staticmethod
    def _all(rows: Any) -> Iterator[Any]:
        yield from rows.batches("observations")


@pytest.mark.skipif(not SYNTHEA.is_dir(), reason="the sample data is not here")
def test_syntheas_export_is_taken_in(home: NodeHome, pseudonyms: Pseudonyms, now: datetime) -> None:
    store = MemoryStore()
    source = FhirSource(export_files(SYNTHEA), pseudonyms)
    report = take_in(source, "s", home, store, pseudonyms, now=now)
    assert (report.subjects, report.taken) == (13, {"Patient": 13, "Condition": 555})
    assert report.left["Encounter"] == 1215
    people = [json.loads(line) for line in (SYNTHEA / "Patient.000.ndjson").open()]
    kept = repr(store.rows["s"]["observations"].rows())
    for person in people:
        assert person["name"][0]["family"] not in kept
        assert person["birthDate"] not in kept
        assert person["id"] not in kept
    assert f"{HL7}/condition-clinical|resolved" in kept
