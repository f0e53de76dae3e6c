"""FHIR Patients: under which hospital number each is known, and what a reference means."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from urllib.parse import unquote

from node.deid.pseudonyms import Pseudonyms
from node.intake.clinical import Person, traits
from node.intake.fhir.dates import parse
from node.intake.fhir.values import coding, entries, part
from node.intake.quality import QualityReport
from node.intake.terminologies import Terminologies

MEDICAL_RECORD = "MR"
"""The code of a medical record number in HL7's table 0203, and the default choice."""
_WHERE = "Patient"
_IDENTIFIER_TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"
_RACE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race"
_LITERAL = re.compile(
    r"(?:[^?#]*/)?(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9.-]{1,64})(?:/_history/[^/]+)?"
)
_URN = re.compile(r"urn:(?:uuid|oid):(?P<id>[A-Za-z0-9.-]{1,64})")
_SEARCH = re.compile(r"(?P<type>[A-Z][A-Za-z]+)\?identifier=(?:(?P<system>[^|]*)\|)?(?P<value>.+)")


@dataclass
class Patients:
    """The patients of one export.

    ``identifier`` says which of a patient's identifiers is the number that the hospital's images
    and tables carry: a type's code ("MR") or the URI of a system.
    """

    pseudonyms: Pseudonyms
    terminologies: Terminologies
    quality: QualityReport
    today: date
    identifier: str = MEDICAL_RECORD
    _by_id: dict[str, Person] = field(default_factory=dict)
    _by_pseudonym: dict[str, Person] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._by_pseudonym)

    def add(self, resource: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Take a Patient in and return its rows of observations (none for a second of a subject).

        Known by its id when it has no such number.
        """
        if "modifierExtension" in resource or "implicitRules" in resource:
            self.quality.add("implicit-rules", _WHERE)
            return []
        own_id = resource.get("id") or None
        number = self._number(resource)
        if number is None:
            if not isinstance(own_id, str) or not own_id.strip():
                self.quality.add("no-key", _WHERE)
                return []
            self.quality.add("no-medical-record-number", _WHERE)
            number = own_id
        pseudonym = self.pseudonyms.subject(number)
        known = self._by_pseudonym.get(pseudonym)
        died = parse(resource.get("deceasedDateTime"))
        person = known or self._person(pseudonym, died.day if died else None)
        self._by_pseudonym[pseudonym] = person
        if isinstance(own_id, str):
            self._by_id.setdefault(own_id, person)
        if known is not None:
            self.quality.add("subject-twice", _WHERE)
            return []
        return self._traits(resource, person, died.day if died else None)

    def find(self, reference: object) -> Person | str:
        """Return whom a Reference means, or the rule by which it means nobody."""
        literal = part(reference, "reference")
        if not isinstance(literal, str) or not literal:
            logical = part(reference, "identifier")
            chosen = isinstance(logical, dict) and self._is_chosen(logical)
            return self._of_number(logical.get("value")) if chosen else "no-key"
        found = _LITERAL.fullmatch(literal) or _URN.fullmatch(literal) or _SEARCH.fullmatch(literal)
        named = found.groupdict() if found is not None else {}
        if named.get("type", "Patient") != "Patient":
            return "not-a-patient"
        if named.get("system") and unquote(named["system"]) == self.identifier:
            return self._of_number(unquote(named["value"]))
        return self._by_id.get(named.get("id", ""), "unknown-patient")

    def _of_number(self, number: object) -> Person | str:
        if not isinstance(number, str):
            return "unknown-patient"
        return self._by_pseudonym.get(self.pseudonyms.subject(number), "unknown-patient")

    def _person(self, pseudonym: str, died: date | None) -> Person:
        last = died if died is not None and died <= self.today else self.today
        return Person(pseudonym, self.pseudonyms.days(pseudonym), last)

    def _number(self, resource: dict[str, Any]) -> str | None:
        """Return the chosen identifier's value; the official or first of several in use."""
        found = [
            identifier
            for identifier in entries(resource.get("identifier"))
            if self._is_chosen(identifier)
            and identifier.get("use") != "old"
            and isinstance(identifier.get("value"), str)
            and identifier["value"].strip()
        ]
        if len({identifier["value"].strip() for identifier in found}) > 1:
            self.quality.add("several-medical-record-numbers", _WHERE)
        found.sort(key=lambda identifier: identifier.get("use") != "official")
        return str(found[0]["value"]) if found else None

    def _is_chosen(self, identifier: dict[str, Any]) -> bool:
        if identifier.get("system") == self.identifier:
            return True
        return any(
            one.get("code") == self.identifier
            and str(one.get("system", _IDENTIFIER_TYPES)).endswith("v2-0203")
            for one in entries(part(identifier.get("type"), "coding"))
        )

    def _traits(
        self, resource: dict[str, Any], person: Person, died: date | None
    ) -> list[tuple[Any, ...]]:
        birth = parse(resource.get("birthDate"))
        if birth is None:
            rule = "date-unreadable" if resource.get("birthDate") else "missing-required"
            self.quality.add(rule, "Patient.birthDate")
        elif rule := person.refuses(birth.earliest):
            rule = "age-above-89" if rule == "date-tells-age" else rule
            self.quality.add(rule, "Patient.birthDate")
        if resource.get("gender") not in ("male", "female", "other", "unknown"):
            self.quality.add("missing-required", "Patient.gender")
        return traits(
            person,
            sex=str(resource.get("gender")),
            birth=birth.day if birth else None,
            earliest_birth=birth.earliest if birth else None,
            deceased=resource.get("deceasedBoolean") is True,
            died=died,
            race=self._race(resource),
        )

    def _race(self, resource: dict[str, Any]) -> str | None:
        for extension in entries(resource.get("extension")):
            if extension.get("url") == _RACE:
                for inner in entries(extension.get("extension")):
                    if inner.get("url") == "ombCategory":
                        return coding(inner.get("valueCoding"), self.terminologies)
        return None
