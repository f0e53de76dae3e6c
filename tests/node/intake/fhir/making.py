"""FHIR resources to take in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from node.intake.records import SourceReport
from tests.node.intake.keeping import MemoryStore

Resource = dict[str, Any]
Take = Callable[..., tuple[SourceReport, MemoryStore]]

LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
HL7 = "http://terminology.hl7.org/CodeSystem"
UCUM = "http://unitsofmeasure.org"


def coded(system: str, code: str) -> Resource:
    """A CodeableConcept."""
    return {"coding": [{"system": system, "code": code}]}


def patient(number: str = "1", **more: Any) -> Resource:
    """A Patient whose medical record number is MRN and its id."""
    identifier = {"type": coded(f"{HL7}/v2-0203", "MR"), "value": f"MRN{number}"}
    made = {
        "resourceType": "Patient",
        "id": number,
        "identifier": [identifier],
        "gender": "female",
        "birthDate": "1970-05-06",
    }
    return made | more


def observation(code: str | Resource = "8480-6", who: str = "1", **more: Any) -> Resource:
    """An Observation of a LOINC code, or of a concept."""
    made = {
        "resourceType": "Observation",
        "status": "final",
        "code": coded(LOINC, code) if isinstance(code, str) else code,
        "subject": {"reference": f"Patient/{who}"},
        "effectiveDateTime": "2020-03-04T05:06:07+01:00",
    }
    return made | more


def quantity(value: object, unit: str = "mm[Hg]", **more: Any) -> Resource:
    """A Quantity in UCUM."""
    return {"value": value, "unit": unit, "system": UCUM, "code": unit} | more


def condition(code: str = "44054006", who: str = "1", **more: Any) -> Resource:
    """A Condition of a SNOMED CT code."""
    made = {
        "resourceType": "Condition",
        "code": coded(SNOMED, code),
        "subject": {"reference": f"Patient/{who}"},
        "onsetDateTime": "2019-01-02",
        "clinicalStatus": coded(f"{HL7}/condition-clinical", "active"),
    }
    return made | more


def consent(who: str = "1", provision: object = None, **more: Any) -> Resource:
    """An active Consent to research."""
    made = {
        "resourceType": "Consent",
        "status": "active",
        "scope": coded(f"{HL7}/consentscope", "research"),
        "patient": {"reference": f"Patient/{who}"},
        "provision": {"type": "permit"} if provision is None else provision,
    }
    return made | more


def purpose(*codes: str) -> list[Resource]:
    """Purposes of use."""
    return [{"system": f"{HL7}/v3-ActReason", "code": code} for code in codes]


def write_export(folder: Path, *resources: Resource | bytes) -> Path:
    """Write an export: a file for each kind of resource, and one for raw lines."""
    folder.mkdir(exist_ok=True)
    lines: dict[str, list[bytes]] = {}
    for resource in resources:
        if isinstance(resource, bytes):
            lines.setdefault("Raw", []).append(resource)
        else:
            kind = str(resource.get("resourceType"))
            lines.setdefault(kind, []).append(json.dumps(resource).encode())
    for kind, some in lines.items():
        (folder / f"{kind}.000.ndjson").write_bytes(b"\n".join(some) + b"\n")
    return folder
