"""Identifiers in attributes: those of Table E.1-1, free text, unlisted ones, nested items."""

from __future__ import annotations

from functools import cache

from pydicom.datadict import DicomDictionary, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.corpus.listed import basic_actions
from tests.corpus.patients import Person, normal, phone_token
from tests.corpus.sheet import LIMITS, Sheet, code, item

_DESCRIPTORS = (
    "StudyDescription", "SeriesDescription", "ImageComments", "ProtocolName",
    "AdditionalPatientHistory", "PatientComments", "RequestedProcedureDescription",
    "DerivationDescription", "AcquisitionProtocolDescription", "ReasonForStudy",
    "AdmittingDiagnosesDescription", "PerformedProcedureStepDescription",
    "RequestedProcedureComments", "MedicalAlerts", "Allergies", "StudyComments",
    "CommentsOnThePerformedProcedureStep", "VisitComments", "ContrastBolusAgent",
)  # fmt: skip
_UNSUITABLE = (
    "Code", "UID", "Identifier", "Private", "Encoding", "Charset", "CharacterSet", "URI", "URL",
    "Version", "Designator", "DataSetSubtype", "FileSet", "Manufacturer", "Context", "Icon",
    "Selector", "TimezoneOffset", "SOPAuthorization", "Units", "Count", "BarcodeValue",
)  # fmt: skip
_GROUPS = (0x0008, 0x0010, 0x0018, 0x0020, 0x0022, 0x0024, 0x0028, 0x0032, 0x0040, 0x0054, 0x2050)
SAFE = (
    # creator, group, element, VR, value: rows of PS3.15 Table E.3.10-1
    ("SIEMENS MR HEADER", 0x0019, 0x0C, "IS", "1000"),
    ("GEMS_ACQU_01", 0x0019, 0x23, "DS", "27.5"),
    ("GEMS_PARM_01", 0x0043, 0x27, "SH", "0.938:1"),
    ("ELSCINT1", 0x00E1, 0x50, "DS", "12.75"),
    ("Philips PET Private Group", 0x7053, 0x00, "DS", "0.00045"),
)


def standard(sheet: Sheet, study: int, *, padded: bool) -> None:
    """Fill the attributes that the standard's table names."""
    p, ds, put = sheet.patient, sheet.dataset, sheet.put
    name(sheet, "standard", "PatientName", p.person)
    put("standard", "PatientID", p.mrn + ("  " if padded else ""), (normal(p.mrn),))
    put("standard", "PatientBirthDate", f"{p.birth:%Y%m%d}")
    ds.PatientSex, ds.PatientWeight, ds.PatientAge = p.sex, p.weight, "054Y"
    put("standard", "AccessionNumber", p.accessions[study])
    put("standard", "StudyID", f"S{p.accessions[study][-6:]}")
    put("standard", "InstitutionName", p.institution)
    put("standard", "InstitutionalDepartmentName", p.department)
    put("standard", "StationName", p.station)
    name(sheet, "standard", "ReferringPhysicianName", p.referring)
    name(sheet, "standard", "PerformingPhysicianName", p.performing)
    name(sheet, "standard", "OperatorsName", p.operator)
    if sheet.random.random() < 0.7:
        put("standard", "OtherPatientIDs", p.other_ids[0])
        put(
            "standard",
            "PatientAddress",
            f"{p.street}, {p.town}",
            (normal(p.street), normal(p.town)),
        )
        put("standard", "PatientTelephoneNumbers", p.phone[:16], (phone_token(p.phone),))
        put("standard", "InstitutionAddress", f"{p.street[::-1]} 7 {p.town}", (normal(p.town),))
        put("standard", "IssuerOfPatientID", f"HOSP{p.station[3:]}")
    if sheet.random.random() < 0.5:
        put("standard", "PatientTelecomInformation", p.email)
        rank = f"Sgt {p.national_id}"
        put("standard", "MilitaryRank", rank, (normal(p.national_id),), p.national_id)
        put("standard", "AdmissionID", f"ADM{p.accessions[study][-5:]}")
        put("standard", "DeviceSerialNumber", f"SN{p.station[3:]}77")
        put("standard", "RequestedProcedureID", f"RP{p.accessions[study][-7:]}")
        name(sheet, "standard", "RequestingPhysician", p.referring)
        name(sheet, "standard", "NameOfPhysiciansReadingStudy", p.performing)
        name(sheet, "standard", "PatientMotherBirthName", p.person)
    day = f"{p.studies[study]:%Y%m%d}"
    for keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
        put("dates", keyword, day)
    for keyword in ("StudyTime", "SeriesTime"):
        setattr(ds, keyword, "101500")
    if "AcquisitionDateTime" in ds or sheet.random.random() < 0.3:
        put("dates", "AcquisitionDateTime", f"{day}101500.123000", (day,))
    if sheet.random.random() < 0.3:
        put("dates", "ScheduledProcedureStepStartDate", f"{p.studies[(study + 1) % 4]:%Y%m%d}")


def name(sheet: Sheet, category: str, keyword: str, person: Person) -> None:
    """Set a Person Name with the component groups that fit the character set."""
    groups = [g for g in person.dicom.split("=") if sheet.fits(g)]
    value = "=".join(groups) or f"{person.family.latin}^{person.given.latin}"
    shown = normal(value)
    sheet.put(category, keyword, value, tuple(t for t in person.tokens if t in shown) or (shown,))


def descriptors(sheet: Sheet, count: int) -> None:
    """Plant sentences in attributes that are meant for text."""
    for keyword in sheet.random.sample(_DESCRIPTORS, count):
        sheet.put_text("free text", keyword)


def unlisted(sheet: Sheet, count: int) -> None:
    """Plant text in attributes that Table E.1-1 does not list."""
    for tag in sheet.random.sample(_candidates(), count):
        if tag in sheet.dataset:
            continue
        keyword, vr = DicomDictionary[tag][4], dictionary_VR(tag)
        family = normal(sheet.patient.person.family.latin)
        if vr == "CS":
            sheet.put("unlisted attributes", keyword, family.upper()[:16])
        elif vr == "SH":
            value = f"{sheet.random.choice(('FC', 'B30', 'HD'))} {family.title()}"[:16]
            shown = value.split(" ", 1)[1]
            sheet.put("unlisted attributes", keyword, value, (normal(shown),), shown)
        elif vr == "PN":
            name(sheet, "unlisted attributes", keyword, sheet.patient.person)
        else:
            sheet.put_text("unlisted attributes", keyword)


def nested(sheet: Sheet) -> None:
    """Plant identifiers one, two and three levels deep, and in code meanings."""
    ds, p = sheet.dataset, sheet.patient
    request = Dataset()
    sheet.put_text("nested items", "RequestedProcedureDescription", request, "00400275/")
    sheet.put_text("nested items", "ScheduledProcedureStepDescription", request, "00400275/")
    request.RequestedProcedureID = f"RP{p.accessions[0][-7:]}"
    sheet.plant("nested items", "00400275/00401001", request.RequestedProcedureID)
    request.AccessionNumber = p.accessions[1]
    sheet.plant("nested items", "00400275/00080050", p.accessions[1])
    meaning = sheet.sentence(64)
    request.RequestedProcedureCodeSequence = [code("P0001", "99LOCAL", sheet.written(meaning.text))]
    sheet.note("nested items", "00400275/00321064/00080104", meaning)
    step, context = code("99", "99LOCAL", "Routine"), Dataset()
    sheet.put_text("nested items", "TextValue", context, "00400275/00400008/00400440/")
    context.ConceptNameCodeSequence = [code("121106", "DCM", "Comment")]
    context.ValueType = "TEXT"
    step.ProtocolContextSequence = [context]
    request.ScheduledProtocolCodeSequence = [step]
    ds.RequestAttributesSequence = Sequence([request])
    other = item(PatientID=p.other_ids[1], TypeOfPatientID="TEXT")
    ds.OtherPatientIDsSequence = Sequence([other])
    sheet.plant("nested items", "00101002/00100020", p.other_ids[1])
    tag = int(tag_for_keyword("SeriesDescriptionCodeSequence") or 0)
    made = sheet.sentence(64)
    ds[tag] = DataElement(tag, "SQ", Sequence([code("S01", "99LOCAL", sheet.written(made.text))]))
    sheet.note("nested items", f"{tag:08X}/00080104", made)


@cache
def _candidates() -> tuple[int, ...]:
    return tuple(
        tag
        for tag, (vr, vm, _, retired, keyword) in DicomDictionary.items()
        if vr in (*LIMITS, "PN") and vr != "AE" and vm in ("1", "1-n") and not retired
        and tag >> 16 in _GROUPS and f"{tag:08X}" not in basic_actions()
        and not any(part in keyword for part in _UNSUITABLE)
        and (vr != "CS" or "Label" in keyword)
    )  # fmt: skip
