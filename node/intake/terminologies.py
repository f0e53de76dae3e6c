"""The code systems whose codes are taken, and how their codes are written.

A code is a short text under a system's URI, so a local system may say who the hospital is and a
"code" may be anything. Only codes of public systems are taken, when they look like one of theirs;
a hospital adds its own systems by their URI.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

OMOP: Final = "https://fhir-terminology.ohdsi.org"
"""The system of OMOP's concept ids (OHDSI's own FHIR terminology server)."""
LOINC: Final = "http://loinc.org"
SNOMED: Final = "http://snomed.info/sct"

_ICD_10 = r"[A-Z]\d[0-9A-Z](?:\.[0-9A-Z]{1,4})?[-*+!]?"
_SYSTEMS: Final = {
    LOINC: r"(?:L[APGL])?\d{1,7}-\d",
    SNOMED: r"[1-9]\d{5,17}",
    "http://www.nlm.nih.gov/research/umls/rxnorm": r"[1-9]\d{0,7}",
    "http://hl7.org/fhir/sid/icd-10": _ICD_10,
    "http://hl7.org/fhir/sid/icd-10-cm": r"[A-Z]\d[0-9A-Z](?:\.?[0-9A-Z]{1,4})?",
    "http://fhir.de/CodeSystem/bfarm/icd-10-gm": _ICD_10,
    "http://fhir.de/CodeSystem/dimdi/icd-10-gm": _ICD_10,
    "http://fhir.de/CodeSystem/bfarm/ops": r"\d-[0-9a-z]{2,3}(?:\.[0-9a-z]{1,3})?",
    "http://hl7.org/fhir/sid/icd-9-cm": r"[EV]?\d{2,4}(?:\.\d{1,2})?",
    "http://id.who.int/icd/release/11/mms": r"[0-9A-Z]{4}(?:\.[0-9A-Z]{1,2})?",
    "http://terminology.hl7.org/CodeSystem/icd-o-3": r"C\d\d(?:\.\d)?|\d{4}/\d",
    "http://hl7.org/fhir/sid/icd-o-3": r"C\d\d(?:\.\d)?|\d{4}/\d",
    "http://www.ama-assn.org/go/cpt": r"\d{4}[0-9A-Z]",
    "http://www.whocc.no/atc": r"[A-Z](?:\d\d(?:[A-Z](?:[A-Z](?:\d\d)?)?)?)?",
    "http://hl7.org/fhir/sid/cvx": r"\d{1,3}",
    "http://hl7.org/fhir/sid/ndc": r"\d{4,5}-?\d{3,4}-?\d{1,2}",
    "http://human-phenotype-ontology.org": r"HP:\d{7}",
    "http://purl.obolibrary.org/obo/hp.owl": r"HP:\d{7}",
    "http://www.orpha.net": r"(?:ORPHA:)?\d{1,6}",
    "http://www.genenames.org": r"(?:HGNC:)?\d{1,6}",
    "http://www.genenames.org/geneId": r"(?:HGNC:)?\d{1,6}",
    "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl": r"C\d{3,7}",
    "http://dicom.nema.org/resources/ontology/DCM": r"\d{4,6}|[A-Z]{2,8}",
    "urn:oid:2.16.840.1.113883.6.238": r"\d{4}-\d",
    OMOP: r"[1-9]\d{0,9}",
}
_HL7 = re.compile(r"http://(?:terminology\.hl7\.org/CodeSystem|hl7\.org/fhir)/[A-Za-z0-9/.-]{1,64}")
_HL7_CODE = re.compile(r"[A-Za-z0-9<>=][A-Za-z0-9._+-]{0,47}|[<>]=?")
_ADDED_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+-]{0,39}")
_PREFERRED = {LOINC: 0, SNOMED: 1}


class Terminologies:
    """The systems taken: the public ones and those that a hospital adds."""

    def __init__(self, added: Iterable[str] = ()) -> None:
        self.added = frozenset(added)
        self._patterns = {uri: re.compile(pattern) for uri, pattern in _SYSTEMS.items()}
        self._patterns |= dict.fromkeys(self.added, _ADDED_CODE)

    def take(self, system: object, code: object) -> str | None:
        """Return ``system|code``, or None for a system not taken or a code not written as one."""
        if not isinstance(system, str) or not isinstance(code, str):
            return None
        pattern = self._patterns.get(system)
        if pattern is None and _HL7.fullmatch(system):
            pattern = _HL7_CODE
        if pattern is None or not pattern.fullmatch(code):
            return None
        return f"{system}|{code}"

    @staticmethod
    def rank(code: str) -> int:
        """Return what orders several codes of one concept: LOINC, SNOMED CT, then any other."""
        return _PREFERRED.get(code.rpartition("|")[0], 2)
