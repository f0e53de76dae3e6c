"""FHIR resources become rows, element by named element (R4: Observation, Condition and others).

Nothing is copied that isn't named here: no narrative, note, display, name, address, contact,
identifier or extension can get into a row.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from node.deid.pseudonyms import Pseudonyms
from node.intake.clinical import Kind, Person
from node.intake.fhir.consents import Consents
from node.intake.fhir.dates import moved
from node.intake.fhir.patients import Patients
from node.intake.fhir.values import Value, Values, coding, concept, entries, number, part
from node.intake.quality import QualityReport
from node.intake.terminologies import LOINC, SNOMED, Terminologies
from node.intake.units import GREATEST_AGE

Row = tuple[Kind, tuple[Any, ...]]

CLINICAL_STATUS = "http://terminology.hl7.org/CodeSystem/condition-clinical|"
_VERIFICATION = "http://terminology.hl7.org/CodeSystem/condition-ver-status|"
_BIRTH_DATES = frozenset({f"{LOINC}|21112-8", f"{SNOMED}|184099003", f"{SNOMED}|3950001"})
"""Codes whose value is a date of birth; what may be kept of it comes with the Patient."""
_AGES = frozenset(
    {f"{LOINC}|{code}" for code in ("30525-0", "21611-9", "21612-7", "29553-5", "35659-2")}
    | {f"{SNOMED}|{code}" for code in ("397669002", "424144002", "445518008")}
)
"""Codes whose number is an age in years when it has no unit."""
_NOT_DONE = ("entered-in-error", "cancelled")
_DICOM_UID = "urn:dicom:uid"
_UID = re.compile(r"(?:urn:oid:)?((?=.{1,64}$)[0-2](?:\.(?:0|[1-9]\d*))+)")


@dataclass(frozen=True)
class Resources:
    """Turns resources into rows, and counts what it leaves out."""

    patients: Patients
    terminologies: Terminologies
    pseudonyms: Pseudonyms
    quality: QualityReport
    consents: Consents

    @property
    def values(self) -> Values:
        """What reads values."""
        return Values(self.terminologies, self.quality)

    def rows(self, resource: dict[str, Any]) -> list[Row]:
        """Return the rows of a resource of one of the kinds that ``READERS`` names."""
        kind = str(resource["resourceType"])
        if "modifierExtension" in resource or "implicitRules" in resource:
            self.quality.add("implicit-rules", kind)
            return []
        if resource.get("status") in _NOT_DONE:
            self.quality.add("entered-in-error", kind)
            return []
        reference = resource.get("patient" if kind == "Consent" else "subject")
        person = self.patients.find(reference)
        if isinstance(person, str):
            self.quality.add(person, kind)
            return []
        return READERS[kind](self, resource, person)

    # ---- Observation (R4 section 10.1) ---------------------------------------------------------

    def observation(self, resource: dict[str, Any], person: Person) -> list[Row]:
        """Return a row for the value and for each component."""
        time = self._time(
            resource.get("effectiveDateTime")
            or resource.get("effectiveInstant")
            or part(resource.get("effectivePeriod"), "start"),
            person,
            "Observation",
        )
        components = entries(resource.get("component"))
        rows = self._measured(resource, person, time, "Observation", bare=not components)
        for component in components:
            rows += self._measured(component, person, time, "Observation.component", bare=True)
        if time is None and rows:
            self.quality.add("no-time", "Observation")
        return rows

    def _measured(
        self,
        holder: dict[str, Any],
        person: Person,
        time: datetime | None,
        where: str,
        *,
        bare: bool,
    ) -> list[Row]:
        has_value = any(key.startswith("value") for key in holder)
        if not has_value:
            # A panel's own code has no value; its members or components do.
            if bare and not holder.get("hasMember"):
                self.quality.add("no-value", where)
            return []
        code = self._code(holder.get("code"), where)
        if code is None:
            return []
        if code in _BIRTH_DATES or "modifierExtension" in holder:
            rule = "value-not-taken" if code in _BIRTH_DATES else "implicit-rules"
            self.quality.add(rule, where)
            return []
        if "valueDateTime" in holder or "valuePeriod" in holder:
            own = self.values.value_time(holder, person, where)
            return [] if own is None else [_observed(person, code, (None, None, ""), own)]
        value = self.values.read(holder, where)
        if value is None:
            return []
        if code in _AGES and value[0] is not None and value[0] > GREATEST_AGE and not value[2]:
            self.quality.add("age-above-89", where)
            value = (float(GREATEST_AGE), value[1], value[2])
        self._check_range(holder, value, where)
        return [_observed(person, code, value, time)]

    def _check_range(self, holder: dict[str, Any], value: Value, where: str) -> None:
        ranges = entries(holder.get("referenceRange"))
        if len(ranges) != 1 or value[0] is None:
            return
        low = number(part(ranges[0].get("low"), "value"))
        high = number(part(ranges[0].get("high"), "value"))
        if (low is not None and value[0] < low) or (high is not None and value[0] > high):
            self.quality.add("out-of-range", where)

    # ---- Condition (section 9.2) ---------------------------------------------------------------

    def condition(self, resource: dict[str, Any], person: Person) -> list[Row]:
        """Return a row for the onset and one for the end, if it is known."""
        verification = concept(resource.get("verificationStatus"), self.terminologies)
        if verification in (_VERIFICATION + "refuted", _VERIFICATION + "entered-in-error"):
            self.quality.add("entered-in-error", "Condition")
            return []
        code = self._code(resource.get("code"), "Condition")
        if code is None:
            return []
        onset = self._time(
            resource.get("onsetDateTime")
            or part(resource.get("onsetPeriod"), "start")
            or resource.get("recordedDate"),
            person,
            "Condition",
        )
        if onset is None:
            self.quality.add("no-time", "Condition")
        end = self._time(
            resource.get("abatementDateTime") or part(resource.get("abatementPeriod"), "start"),
            person,
            "Condition",
        )
        status = concept(resource.get("clinicalStatus"), self.terminologies)
        if status is not None and not status.startswith(CLINICAL_STATUS):
            status = None
        if end is None:
            return [_observed(person, code, (None, status, ""), onset)]
        return [
            _observed(person, code, (None, CLINICAL_STATUS + "active", ""), onset),
            _observed(person, code, (None, status or CLINICAL_STATUS + "resolved", ""), end),
        ]

    # ---- ImagingStudy (section 9.11) and Specimen (section 10.4) --------------------------------

    def imaging_study(self, resource: dict[str, Any], person: Person) -> list[Row]:
        """Return the link to the study's images, and a row for each modality and procedure."""
        time = self._time(resource.get("started"), person, "ImagingStudy")
        rows: list[Row] = []
        uids = [
            found[1]
            for identifier in entries(resource.get("identifier"))
            if identifier.get("system") == _DICOM_UID
            and (found := _UID.fullmatch(str(identifier.get("value"))))
        ]
        if uids:
            row = (person.pseudonym, self.pseudonyms.uid(uids[0]), time)
            rows.append(("studies", row))
        else:
            self.quality.add("instance-uid-missing", "ImagingStudy")
        codes = [coding(one, self.terminologies) for one in entries(resource.get("modality"))]
        codes += [concept(c, self.terminologies) for c in entries(resource.get("procedureCode"))]
        for code in dict.fromkeys(codes):
            if code is not None:
                rows.append(_observed(person, code, (None, None, ""), time))
        return rows

    def specimen(self, resource: dict[str, Any], person: Person) -> list[Row]:
        """Return a row: the specimen's type, its site as value, and when it was collected."""
        code = self._code(resource.get("type"), "Specimen")
        if code is None:
            return []
        collection = resource.get("collection")
        time = self._time(
            part(collection, "collectedDateTime")
            or part(part(collection, "collectedPeriod"), "start"),
            person,
            "Specimen",
        )
        site = concept(part(collection, "bodySite"), self.terminologies)
        return [_observed(person, code, (None, site, ""), time)]

    # ---- Consent (section 6.2) -----------------------------------------------------------------

    def consent(self, resource: dict[str, Any], person: Person) -> list[Row]:
        """Note a decision; ``settled`` returns the rows of all of them."""
        self.consents.add(resource, person)
        return []

    def settled(self) -> list[Row]:
        """Return the rows that need all resources: the consents."""
        return [("consents", row) for row in self.consents.rows()]

    # ---- what they share -----------------------------------------------------------------------

    def _code(self, value: object, where: str) -> str | None:
        code = concept(value, self.terminologies)
        if code is None:
            foreign = any(one.get("code") for one in entries(part(value, "coding")))
            self.quality.add("code-system-not-taken" if foreign else "no-code", where)
        return code

    def _time(self, value: object, person: Person, where: str) -> datetime | None:
        time, rule = moved(value, person)
        if rule:
            self.quality.add(rule, where)
        return time


READERS: dict[str, Callable[[Resources, dict[str, Any], Person], list[Row]]] = {
    "Observation": Resources.observation,
    "Condition": Resources.condition,
    "ImagingStudy": Resources.imaging_study,
    "Specimen": Resources.specimen,
    "Consent": Resources.consent,
}
"""What reads each kind of resource, besides Patient."""


def _observed(person: Person, code: str, value: Value, time: datetime | None) -> Row:
    return "observations", (person.pseudonym, code, value[0], value[1], value[2], time)
