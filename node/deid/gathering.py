"""What a file's own attributes say of its patient, hospital and staff, to be found elsewhere in it.

Attributes of Table E.1-1 (PS3.15) that hold names, numbers, places and dates, at every level.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache

from node.deid.charsets import Charset, likeliest, parse_charset, plausible
from node.deid.dictionary import tag_of
from node.deid.elements import Buffer, Element, Elements, File, known_vr
from node.deid.identifiers import Known
from node.deid.profile import Options

_NUMBERS = """
AccessionNumber AdmissionID BarcodeValue ClinicalTrialSubjectID ClinicalTrialSubjectReadingID
ContainerIdentifier FillerOrderNumberImagingServiceRequest InsurancePlanIdentification
InterpretationID MedicalRecordLocator OrderCallbackPhoneNumber OtherPatientIDs PatientID
PatientTelecomInformation PatientTelephoneNumbers PerformedProcedureStepID
PersonTelecomInformation PersonTelephoneNumbers PlacerOrderNumberImagingServiceRequest
ReferringPhysicianTelephoneNumbers RequestedProcedureID ResultsID ScheduledProcedureStepID
ServiceEpisodeID SlideIdentifier SpecimenAccessionNumber SpecimenIdentifier StudyID
TelephoneNumberTrial
"""
_DEVICE_NUMBERS = """
CassetteID DetectorID DeviceSerialNumber GantryID GeneratorID PlateID SecondaryCaptureDeviceID
SourceSerialNumber UniqueDeviceIdentifier
"""
_PLACES = """
AddressTrial CurrentPatientLocation DistributionAddress IssuerOfAdmissionID IssuerOfPatientID
MilitaryRank OrderEntererLocation PatientAddress PatientInstitutionResidence PerformedLocation
PersonAddress ReferringPhysicianAddress RegionOfResidence RequestedProcedureLocation
ResponsibleOrganization ScheduledPatientInstitutionResidence TopicAuthor
"""
_INSTITUTIONS = """
ClinicalTrialCoordinatingCenterName ClinicalTrialSiteName
HumanPerformerOrganization InstitutionAddress InstitutionName InstitutionalDepartmentName
RequestingService VerifyingOrganization
"""
_STATIONS = """
PerformedStationName ScheduledProcedureStepLocation ScheduledStationName ScheduledStudyLocation
StationName TreatmentMachineName
"""
_PATIENT_ID, _PATIENT_NAME, _BIRTH_DATE = 0x00100020, 0x00100010, 0x00100030
_STUDY_UID, _INSTANCE_UID, _CHARSET = 0x0020000D, 0x00080018, 0x00080005
_FEWEST_DIGITS = 4
_MOST_DATES = 64
Fact = tuple[str, bytes, Charset]
"""A kind (person, number, place, birth, date), a value, and the set that it is encoded in."""


def _tags(*texts: str) -> frozenset[int]:
    return frozenset(tag for word in " ".join(texts).split() if (tag := tag_of(word)))


@lru_cache(maxsize=8)
def _watched(devices: bool, institutions: bool) -> dict[int, str]:
    numbers = _tags(_NUMBERS, "" if devices else _DEVICE_NUMBERS)
    places = _tags(_PLACES, "" if institutions else _INSTITUTIONS, "" if devices else _STATIONS)
    return {
        **dict.fromkeys(numbers, "number"),
        **dict.fromkeys(places, "place"),
        _BIRTH_DATE: "birth",
    }


def facts(file: File, options: Options) -> frozenset[Fact]:
    """Return the raw values of a file that tell who; equal for the files of most series.

    What the options let stay (devices, institutions) is left out.
    """
    watched = _watched(options.device_identity, options.institution_identity)
    found: set[Fact] = set()
    _collect(file.data, file.dataset, (), watched, found)
    return frozenset(found)


def facts_of(data: Buffer, element: Element, charset: Charset, options: Options) -> frozenset[Fact]:
    """Return the same of one element."""
    watched = _watched(options.device_identity, options.institution_identity)
    found: set[Fact] = set()
    _collect(data, Elements(False, True, [element]), charset, watched, found)
    return frozenset(found)


def known(found: frozenset[Fact]) -> Known:
    """Return what the values say."""
    persons: set[str] = set()
    numbers: set[str] = set()
    phrases: set[str] = set()
    births: set[date] = set()
    dates: set[date] = set()
    for kind, raw, charset in found:
        if kind in ("birth", "date"):
            day = _day(raw)
            if day is not None:
                (births if kind == "birth" else dates).add(day)
            continue
        texts = plausible(raw, charset)
        for value in [part for text in texts for part in text.split("\\")]:
            text = value.partition("\0")[0].strip(" ")
            if not text:
                continue
            if kind == "person":
                persons.add(text)
            elif kind == "number":
                if sum(c.isdigit() for c in text) >= _FEWEST_DIGITS:
                    numbers.add(text)
            else:
                phrases.add(text)
    few = frozenset(sorted(dates)[:_MOST_DATES])
    return Known(frozenset(persons), frozenset(numbers), frozenset(phrases), frozenset(births), few)


def gather(file: File, options: Options) -> tuple[str, Known]:
    """Return whose file it is (the identifier, or else the study's UID), and what it tells."""
    return identity(file)[0] or "\0" + identity(file)[1], known(facts(file, options))


def identity(file: File) -> tuple[str, str]:
    """Return the patient's identifier, and the UID that stands in for one: the study's."""
    charset: Charset = ()
    values = {_PATIENT_ID: "", _STUDY_UID: "", _INSTANCE_UID: ""}
    for element in file.dataset.elements:
        tag = element.tag
        if tag == _CHARSET:
            charset = parse_charset(_raw(file.data, element))
        elif tag in values:
            text = likeliest(_raw(file.data, element), charset)[0]
            values[tag] = text.partition("\0")[0].strip(" ")
        if tag > _STUDY_UID:
            break
    return values[_PATIENT_ID], values[_STUDY_UID] or values[_INSTANCE_UID]


def _collect(
    data: Buffer, scope: Elements, charset: Charset, watched: dict[int, str], found: set[Fact]
) -> None:
    for element in scope.elements:
        tag, vr = element.tag, element.vr
        if element.items is not None:
            for item in element.items:
                _collect(data, item, charset, watched, found)
            continue
        kind = watched.get(tag)
        if kind is None:
            if vr == "PN":
                kind = "person"
            elif vr in ("DA", "DT"):
                kind = "date"
            elif vr == "UN" and known_vr(tag) == "PN":
                kind = "person"
            elif tag == _CHARSET:
                charset = parse_charset(_raw(data, element))
                continue
            else:
                continue
        raw = _raw(data, element)
        if not raw:
            continue
        # Times differ from file to file, and tell nothing here.
        found.add((kind, raw[:8], ()) if kind in ("birth", "date") else (kind, raw, charset))


def _raw(data: Buffer, element: Element) -> bytes:
    return bytes(data[element.start : element.end]).rstrip(b" \0")


def _day(raw: bytes) -> date | None:
    text = raw.decode("latin-1").replace(".", "")[:8]
    if len(text) != 8 or not text.isdigit():
        return None
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return None
