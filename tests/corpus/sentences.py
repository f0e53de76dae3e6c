"""What people write into free text: clinical words around what identifies a patient."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from tests.corpus.patients import (
    Patient,
    Person,
    chinese_date,
    date_notations,
    encodable,
    normal,
    phone_notations,
    phone_token,
    spaced,
)

SHORT = (
    "*CHEST *PA {name}",
    "{name} *abdomen *supine",
    "*CT *thorax for {name}",
    "*brain *MRI with *contrast, {mrn}",
    "*knee *lateral {date}",
    "*liver *biopsy Dr. {staff}",
    "*follow-up *nodule MRN {mrn}",
    "*head *trauma, born {birth}",
    "*pelvis *AP acc {acc}",
    "*spine *sagittal *T2 {name}",
    "*axial *arterial *phase - {name}",
    "*DOPPLER *carotid {name}",
)
"""Fit a Long String (64 characters)."""

LONG = (
    "*CHEST *PA for Mr. {name} seen by Dr. {staff} on {date}, MRN {mrn}",
    "*Patient {name}, DOB {birth}, complains of *dyspnea and *fever; call {phone}",
    "*Pneumonia suspected. Referred by {referring}. Contact {email}",
    "Compared with study of {date}: *stable *nodule in *right *upper *lobe ({acc})",
    "*Diabetes *mellitus type 2, *hypertension. Lives at {address}. National ID {nid}",
    "{name} (MRN {mrn}) underwent *cholecystectomy on {date} at {institution}",
    "*No *acute *fracture. Discussed with Dr. {outside} by telephone {phone}",
    "*Left *breast *mass, *BIRADS 4. {name} was informed on {date} by {operator}",
    "Mrs. {name} has *metastatic *carcinoma; see accession {acc}, next visit {date}",
    "*Status *post *stroke, *hemiparesis. Daughter of {name} can be reached at {phone}",
    "Operator {operator}; *bolus *tracking in *aorta, patient {name}, {birth}",
    "{institution}, {department}: *mild *cardiomegaly, *effusion. {staff}",
    "*Screening *mammography. ID: {mrn}. Old number {other}. Signed {staff} {date}",
)
CHINESE = (
    "*胸部*正位 {name} {cdate}",
    "患者{name},*肺部*结节,*复查,病历号{mrn}",
    "{name} *腹部*增强*扫描,电话{phone}",
    "*头颅*平扫 医师{staff} {cdate}",
)
JAPANESE = (
    "*胸部*単純 {name}様 {cdate}",
    "患者 {name} *肝臓 *造影 ID {mrn}",
    "*頭部*検査 担当医 {staff} {cdate}",
)
KOREAN = ("*흉부 *촬영 {name} {date}", "환자 {name} *복부 *초음파 등록번호 {mrn}")
RUSSIAN = (
    "*Органы *грудной *клетки {name} {date}",
    "Пациент {name}, *пневмония, врач {staff}, тел. {phone}",
)
GERMAN = (
    "*Thorax *p.a. Herr {name}, geb. {birth}",
    "*Lunge ohne *Befund, {name}, {date}, Tel. {phone}",
    "*Radiographie du *genou, Mme {name}, {date}",
)
_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Sentence:
    """Written text, the identifiers in it with their tokens, and the words that must stay."""

    text: str
    identifiers: tuple[tuple[str, str, tuple[str, ...]], ...]
    """(kind, as written, normalised tokens)."""
    words: tuple[str, ...]


def own_language(patient: Patient) -> tuple[str, ...]:
    """Return the templates of the patient's language, none for English."""
    by = {
        "GB18030": CHINESE, "ISO_IR 192": CHINESE, "ISO 2022 IR 58": CHINESE,
        "ISO 2022 IR 87": JAPANESE, "ISO 2022 IR 149": KOREAN, "ISO_IR 144": RUSSIAN,
        "ISO_IR 100": GERMAN,
    }  # fmt: skip
    return by.get(patient.charset[-1], ())


def sentence(
    random: Random, patient: Patient, limit: int, charset: tuple[str, ...], *, upper: bool = False
) -> Sentence:
    """Return one sentence that fits; ``upper`` for Code Strings' like."""
    for _ in range(200):
        pool = SHORT if limit <= 64 else LONG
        own = own_language(patient)
        if own and random.random() < 0.4 and encodable("".join(own), charset):
            pool = own
        made = compose(random, random.choice(pool), patient, charset)
        if len(made.text) <= limit and encodable(made.text, charset):
            return made
    text = patient.mrn[:limit]
    return Sentence(text, (("number", text, (normal(text),)),), ())


def compose(random: Random, template: str, patient: Patient, charset: tuple[str, ...]) -> Sentence:
    """Fill a template with one of the ways in which each identifier is written."""
    identifiers: list[tuple[str, str, tuple[str, ...]]] = []

    def fill(field: re.Match[str]) -> str:
        kind, written, tokens = identifier(random, field[1], patient, charset)
        identifiers.append((kind, written, tokens))
        return written

    words = tuple(re.findall(r"\*([\w-]+)", template))
    text = _FIELD.sub(fill, template.replace("*", ""))
    return Sentence(text, tuple(identifiers), words)


def identifier(
    random: Random, field: str, patient: Patient, charset: tuple[str, ...]
) -> tuple[str, str, tuple[str, ...]]:
    """Return (kind, a way of writing it, tokens) of one of the patient's identifiers."""
    people = {
        "name": patient.person, "staff": patient.performing, "referring": patient.referring,
        "operator": patient.operator, "outside": patient.outside,
    }  # fmt: skip
    if field in people:
        return _name(random, "name" if field == "name" else "staff", people[field], charset)
    if field in ("date", "birth"):
        day = patient.birth if field == "birth" else random.choice(patient.studies)
        written = random.choice(date_notations(day))
        return "date", written, (normal(written),)
    if field == "cdate":
        written = chinese_date(random.choice(patient.studies))
        return "date", written, (normal(written),)
    if field == "phone":
        return "phone", random.choice(phone_notations(patient.phone)), (phone_token(patient.phone),)
    if field == "mrn":
        return "number", random.choice(spaced(patient.mrn)), (normal(patient.mrn)[2:],)
    plain = {
        "acc": ("number", random.choice(patient.accessions)),
        "nid": ("number", patient.national_id.replace("-", random.choice("- "))),
        "other": ("number", random.choice(patient.other_ids)),
        "email": ("email", patient.email),
        "institution": ("place", patient.institution),
        "department": ("place", patient.department),
    }  # fmt: skip
    if field == "address":
        written = f"{patient.street}, {patient.town}"
        return "place", written, (normal(patient.street), normal(patient.town))
    kind, written = plain[field]
    return kind, written, (normal(written),)


def _name(
    random: Random, kind: str, person: Person, charset: tuple[str, ...]
) -> tuple[str, str, tuple[str, ...]]:
    fits = [v for v in person.variants() if encodable(v, charset)]
    written = random.choice(fits)
    shown = normal(written)
    tokens = tuple(t for t in person.tokens if t in shown)
    return kind, written, tokens or (shown,)
