"""Which FHIR version a resource is of: R4 is taken, what only other versions write is refused.

A line of a bulk export doesn't name its version. These are elements that R4 (4.0.1) doesn't have
and DSTU2, STU3 or R5 do, from the versions' own definitions.
"""

from __future__ import annotations

from typing import Any, Final

FOREIGN: Final[dict[str, frozenset[str]]] = {
    "Patient": frozenset({"animal", "careProvider"}),
    "Condition": frozenset(
        {"patient", "context", "assertedDate", "dateRecorded", "participant", "abatementBoolean"}
    ),
    "Observation": frozenset(
        {"context", "comment", "comments", "related", "bodyStructure", "triggeredBy"}
    ),
    "ImagingStudy": frozenset(
        {"patient", "context", "uid", "accession", "availability", "modalityList", "partOf"}
    ),
    "Specimen": frozenset({"treatment", "feature", "combined", "role"}),
    "Consent": frozenset(
        {"subject", "decision", "grantor", "regulatoryBasis", "except", "action", "actor"}
        | {"consentingParty", "purpose", "dataPeriod", "securityLabel"}
    ),
}


def foreign_element(resource: dict[str, Any]) -> str:
    """Return the name of an element that R4 doesn't have, "" if there is none."""
    kind = str(resource.get("resourceType"))
    found = set(FOREIGN.get(kind, frozenset()) & resource.keys())
    if kind == "Condition":
        # Codes until STU3, concepts since.
        both = ("clinicalStatus", "verificationStatus")
        found |= {key for key in both if isinstance(resource.get(key), str)}
    return min(found, default="")
