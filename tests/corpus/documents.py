"""Identifiers in reports, presentation states, plans, waveforms, PDF and CDA documents."""

from __future__ import annotations

import textwrap
import zlib
from random import Random
from typing import Any

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian

from tests.corpus.key import Words
from tests.corpus.patients import Patient, normal
from tests.corpus.sheet import Sheet, code, item

PRESENTATION = "1.2.840.10008.5.1.4.1.1.11.1"
PDF, CDA = "1.2.840.10008.5.1.4.1.1.104.1", "1.2.840.10008.5.1.4.1.1.104.2"
KEY_OBJECT = "1.2.840.10008.5.1.4.1.1.88.59"


def fresh(modality: str, sop_class: str) -> FileDataset:
    """Return an empty file of a class, explicit VR little endian."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.Modality = UID(sop_class), modality
    dataset.Manufacturer, dataset.SeriesNumber = "Example Devices", 7
    dataset.StudyTime, dataset.ContentTime = "101500", "103000"
    return dataset


def report(sheet: Sheet) -> None:
    """Append content items of every value type that can identify (PS3.3 C.17.3)."""
    p, ds = sheet.patient, sheet.dataset
    content, at, kind = list(ds.get("ContentSequence", [])), "0040A730/", "structured report"
    latin = f"{p.person.family.latin}^{p.person.given.latin}"

    def add(
        relation: str, value_type: str, concept: tuple[str, str, str], **values: Any
    ) -> Dataset:
        made = item(RelationshipType=relation, ValueType=value_type, **values)
        made.ConceptNameCodeSequence = [code(*concept)]
        content.append(made)
        return made

    def text(relation: str, concept: tuple[str, str, str], inside: str = at) -> Dataset:
        made = sheet.sentence(600)
        sheet.note(kind, f"{inside}0040A160", made)
        return add(relation, "TEXT", concept, TextValue=sheet.written(made.text))

    def person(concept: tuple[str, str, str], who: Any) -> None:
        value = f"{who.family.latin}^{who.given.latin}"
        add("HAS OBS CONTEXT", "PNAME", concept, PersonName=value)
        shown = normal(value)
        sheet.plant(
            kind, f"{at}0040A123", value, tuple(t for t in who.tokens if t in shown) or (shown,)
        )

    person(("121008", "DCM", "Person Observer Name"), p.performing)
    person(("121029", "DCM", "Subject Name"), p.person)
    add("HAS OBS CONTEXT", "TEXT", ("121030", "DCM", "Subject ID"), TextValue=p.mrn)
    sheet.plant(kind, f"{at}0040A160", p.mrn)
    add("HAS OBS CONTEXT", "TEXT", ("121009", "DCM", "Person Observer's Organization Name"),
        TextValue=sheet.written(p.institution))  # fmt: skip
    sheet.plant(kind, f"{at}0040A160", p.institution)
    add(
        "HAS OBS CONTEXT", "DATE", ("121031", "DCM", "Subject Birth Date"), Date=f"{p.birth:%Y%m%d}"
    )
    sheet.plant(kind, f"{at}0040A121", f"{p.birth:%Y%m%d}")
    add(
        "HAS OBS CONTEXT",
        "UIDREF",
        ("110180", "DCM", "Study Instance UID"),
        UID=ds.StudyInstanceUID,
    )
    add("CONTAINS", "CODE", ("363698007", "SCT", "Finding Site"),
        ConceptCodeSequence=[code("39607008", "SCT", "Lung")])  # fmt: skip
    made = sheet.sentence(64)
    sheet.note(kind, f"{at}0040A168/00080104", made)
    add("CONTAINS", "CODE", ("121071", "DCM", "Finding"),
        ConceptCodeSequence=[code("F99", "99LOCAL", sheet.written(made.text))])  # fmt: skip
    for concept in (
        ("121071", "DCM", "Finding"), ("11329-0", "LN", "History"), ("121077", "DCM", "Conclusion"),
        ("C77", "99LOCAL", "Local remark"), ("121106", "DCM", "Comment"),
    ):  # fmt: skip
        text("CONTAINS", concept)
    measured = item(NumericValue="12.5", MeasurementUnitsCodeSequence=[code("mm", "UCUM", "mm")])
    number = add(
        "CONTAINS", "NUM", ("410668003", "SCT", "Length"), MeasuredValueSequence=[measured]
    )
    comment = text("HAS PROPERTIES", ("121106", "DCM", "Comment"), f"{at}0040A730/")
    content.remove(comment)
    number.ContentSequence = [comment]
    observer = item(
        VerifyingObserverName=latin, VerifyingOrganization=sheet.written(p.institution),
        VerificationDateTime=f"{p.studies[0]:%Y%m%d}120000",
    )  # fmt: skip
    observer.VerifyingObserverIdentificationCodeSequence = []
    ds.VerifyingObserverSequence, ds.VerificationFlag = [observer], "VERIFIED"
    sheet.plant(kind, "0040A073/0040A075", latin)
    sheet.plant(kind, "0040A073/0040A027", p.institution)
    sheet.plant(kind, "0040A073/0040A030", f"{p.studies[0]:%Y%m%d}")
    ds.ContentSequence = Sequence(content)


def presentation(sheet: Sheet, targets: list[tuple[str, str]]) -> None:
    """Write text objects, layers and a label into a presentation state (PS3.3 C.10.5)."""
    ds, kind = sheet.dataset, "presentation state"
    ds.ContentLabel, ds.PresentationCreationTime = "REPORT", "120000"
    sheet.put_text(kind, "ContentDescription")
    sheet.put(kind, "PresentationCreationDate", f"{sheet.patient.studies[0]:%Y%m%d}")
    who = sheet.patient.performing
    sheet.put(kind, "ContentCreatorName", f"{who.family.latin}^{who.given.latin}")
    texts = []
    for _ in range(2):
        texts.append(Dataset())
        made = sheet.sentence(500)
        texts[-1].UnformattedTextValue = sheet.written(made.text)
        sheet.note(kind, "00700001/00700008/00700006", made)
        texts[-1].AnchorPoint, texts[-1].AnchorPointVisibility = [10.0, 10.0], "Y"
        texts[-1].AnchorPointAnnotationUnits = "PIXEL"
    family = normal(sheet.patient.person.family.latin).upper()[:16]
    ds.GraphicAnnotationSequence = [item(GraphicLayer=family, TextObjectSequence=texts)]
    sheet.plant(kind, "00700001/00700002", family)
    layer = item(GraphicLayer=family, GraphicLayerOrder=1)
    made = sheet.sentence(64)
    layer.GraphicLayerDescription = sheet.written(made.text)
    sheet.note(kind, "00700060/00700068", made)
    sheet.plant(kind, "00700060/00700002", family)
    ds.GraphicLayerSequence = [layer]
    images = [item(ReferencedSOPClassUID=c, ReferencedSOPInstanceUID=u) for c, u in targets]
    ds.ReferencedSeriesSequence = [
        item(SeriesInstanceUID=ds.SeriesInstanceUID, ReferencedImageSequence=images)
    ]


def plan(sheet: Sheet) -> None:
    """Label radiotherapy objects as planners do."""
    ds, kind, p = sheet.dataset, "radiotherapy", sheet.patient
    family = normal(p.person.family.latin)
    for keyword in ("RTPlanLabel", "StructureSetLabel"):
        if keyword in ds:
            value = f"P1 {family.title()}"[:16]
            sheet.put(kind, keyword, value, (family[: len(value) - 3],), value[3:])
    for keyword in ("RTPlanDescription", "StructureSetDescription", "PrescriptionDescription"):
        if keyword[:4] == ("RTPl" if "RTPlanLabel" in ds else "Stru"):
            sheet.put_text(kind, keyword)
    for roi in ds.get("StructureSetROISequence", []):
        roi.ROIName = f"GTV {p.person.family.latin}"
        sheet.plant(kind, "30060020/30060026", p.person.family.latin, (family,))
        sheet.put_text(kind, "ROIDescription", roi, "30060020/")
    for roi in ds.get("RTROIObservationsSequence", []):
        roi.ROIInterpreter = f"{p.operator.family.latin}^{p.operator.given.latin}"
        sheet.plant(
            kind, "30060080/300600A6", roi.ROIInterpreter, (normal(p.operator.family.latin),)
        )
    for beam in ds.get("BeamSequence") or ds.get("IonBeamSequence") or []:
        at = "300A00B0/" if "BeamSequence" in ds else "300A03A2/"
        sheet.put_text(kind, "BeamDescription", beam, at)
    ds.ApprovalStatus, ds.ReviewTime = "APPROVED", "120000"
    sheet.put(kind, "ReviewDate", f"{p.studies[1]:%Y%m%d}")
    sheet.put(kind, "ReviewerName", f"{p.referring.family.latin}^{p.referring.given.latin}")


def waveform(sheet: Sheet) -> None:
    """Annotate a waveform with text."""
    note = Dataset()
    sheet.put_text("waveform annotations", "UnformattedTextValue", note, "0040B020/")
    note.ReferencedWaveformChannels, note.AnnotationGroupNumber = [1, 0], 9
    annotations = list(sheet.dataset.get("WaveformAnnotationSequence", []))
    sheet.dataset.WaveformAnnotationSequence = Sequence([*annotations, note])


def encapsulated_pdf(sheet: Sheet) -> None:
    """Encapsulate a PDF with text, a title, metadata and an author that identify."""
    ds, p, kind = sheet.dataset, sheet.patient, "encapsulated documents"
    made = _ascii_sentence(sheet)
    ds.MIMETypeOfEncapsulatedDocument, ds.BurnedInAnnotation = "application/pdf", "YES"
    sheet.put_text(kind, "DocumentTitle")
    ds.ConceptNameCodeSequence = [code("18748-4", "LN", "Diagnostic imaging report")]
    data = pdf(made.text, p)
    ds.EncapsulatedDocument = data + b"\0" * (len(data) % 2)
    for _, value, tokens in made.identifiers:
        sheet.plant(kind, "00420011", value, tokens)
    sheet.words.append(Words(sheet.number, "00420011", made.words))
    sheet.plant(kind, "00420011", p.mrn)
    sheet.plant(kind, "00420011", p.person.native, p.person.tokens)


def encapsulated_cda(sheet: Sheet) -> None:
    """Encapsulate a clinical document (HL7 CDA) about the patient."""
    ds, p, kind = sheet.dataset, sheet.patient, "encapsulated documents"
    made = _ascii_sentence(sheet)
    ds.MIMETypeOfEncapsulatedDocument, ds.BurnedInAnnotation = "text/XML", "YES"
    ds.HL7InstanceIdentifier = f"2.25.4711^{p.mrn}"
    sheet.plant(kind, "0040E001", p.mrn)
    sheet.put_text(kind, "DocumentTitle")
    ds.ConceptNameCodeSequence = [code("18748-4", "LN", "Diagnostic imaging report")]
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?><ClinicalDocument xmlns="urn:hl7-org:v3">'
        f'<recordTarget><patientRole><id extension="{p.mrn}" root="2.25.4711"/>'
        f"<addr><streetAddressLine>{p.street}</streetAddressLine><city>{p.town}</city></addr>"
        f'<telecom value="tel:{p.phone}"/><patient><name><given>{p.person.given.native}</given>'
        f"<family>{p.person.family.native}</family></name>"
        f'<birthTime value="{p.birth:%Y%m%d}"/></patient></patientRole></recordTarget>'
        f"<component><section><text>{made.text}</text></section></component></ClinicalDocument>"
    ).encode()
    ds.EncapsulatedDocument = xml + b" " * (len(xml) % 2)
    sheet.words.append(Words(sheet.number, "00420011", made.words))
    for value in (p.mrn, p.street, p.town, p.phone, f"{p.birth:%Y%m%d}"):
        sheet.plant(kind, "00420011", value)
    sheet.plant(kind, "00420011", p.person.native, p.person.tokens)
    for _, value, tokens in made.identifiers:
        sheet.plant(kind, "00420011", value, tokens)


def key_object(sheet: Sheet, targets: list[tuple[str, str]]) -> None:
    """Write a key object selection with a description (PS3.3 A.35.4)."""
    ds = sheet.dataset
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    ds.ConceptNameCodeSequence = [code("113000", "DCM", "Of Interest")]
    description = item(RelationshipType="CONTAINS", ValueType="TEXT")
    description.ConceptNameCodeSequence = [code("113012", "DCM", "Key Object Description")]
    sheet.put_text("structured report", "TextValue", description, "0040A730/")
    images = []
    for cls, uid in targets:
        images.append(item(RelationshipType="CONTAINS", ValueType="IMAGE"))
        images[-1].ReferencedSOPSequence = [
            item(ReferencedSOPClassUID=cls, ReferencedSOPInstanceUID=uid)
        ]
    ds.ContentSequence = Sequence([description, *images])


def pdf(text: str, patient: Patient) -> bytes:
    """Return a PDF of one page: compressed content, information dictionary and XMP."""
    shown = text.replace("\\", "").replace("(", "[").replace(")", "]")
    lines = [f"{line} " for line in textwrap.wrap(shown, 80)]
    drawn = " ".join(f"({line}) Tj 0 -14 Td" for line in lines)
    content = zlib.compress(f"BT /F1 11 Tf 50 700 Td {drawn} (ID {patient.mrn}) Tj ET".encode())
    title = (b"\xfe\xff" + patient.person.native.encode("utf-16-be")).hex()
    person = patient.person
    latin = f"{person.given.latin} {person.family.latin}"
    xmp = f"<x:xmpmeta xmlns:x='adobe:ns:meta/'><dc:title>{latin}</dc:title></x:xmpmeta>".encode()
    objects = [
        b"<</Type/Catalog/Pages 2 0 R/Metadata 6 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R"
        b"/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (len(content), content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        b"<</Type/Metadata/Subtype/XML/Length %d>>stream\n%s\nendstream" % (len(xmp), xmp),
        b"<</Title<%s>/Author(%s)/Subject(%s)>>"
        % (title.encode(), latin.encode("ascii", "replace"), patient.mrn.encode()),
    ]
    out, offsets = b"%PDF-1.4\n", []
    for index, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (index, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    end = b"trailer\n<</Size %d/Root 1 0 R/Info 7 0 R>>\nstartxref\n%d\n%%%%EOF\n"
    count = len(objects) + 1
    return out + b"xref\n0 %d\n0000000000 65535 f \n" % count + table + end % (count, len(out))


def _ascii_sentence(sheet: Sheet) -> Any:
    from tests.corpus.sentences import LONG, compose

    for _ in range(300):
        made = compose(
            Random(sheet.random.random()), sheet.random.choice(LONG), sheet.patient, ("",)
        )
        if made.text.isascii():
            return made
    return compose(sheet.random, "*Stable *nodule, MRN {mrn}", sheet.patient, ("",))
