"""FHIR Consents (R4 section 6.2) become consents in force, and refusals, which outweigh them.

What can't be read whole is no consent; a refusal that can't be read whole is one of everything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from node.intake.clinical import REFUSED, Person
from node.intake.fhir.dates import parse
from node.intake.fhir.values import coding, concept, entries, part
from node.intake.quality import QualityReport
from node.intake.terminologies import Terminologies

_WHERE = "Consent"
_EXCEPTIONS = (
    *("provision", "actor", "action", "securityLabel", "class", "code", "dataPeriod", "data"),
    "modifierExtension",
)
_OPEN_END = 2200
"""From this year on, the end of a period means that there is none."""


@dataclass(frozen=True)
class _Decision:
    subject: str
    basis: str
    purposes: tuple[str, ...]
    """None named: all."""
    starts: date | None
    ends: date | None

    def outweighs(self, consent: _Decision) -> bool:
        """Say whether this refusal leaves nothing of a consent to one of its purposes."""
        if self.ends is not None and consent.starts is not None and consent.starts > self.ends:
            return False
        both = set(self.purposes) & set(consent.purposes)
        return not self.purposes or not consent.purposes or bool(both)


@dataclass
class Consents:
    """The decisions of one export. They are settled when all of them were read."""

    terminologies: Terminologies
    quality: QualityReport
    _permits: dict[str, list[_Decision]] = field(default_factory=dict)
    _refusals: dict[str, list[_Decision]] = field(default_factory=dict)

    def add(self, resource: dict[str, Any], person: Person) -> None:
        """Take a Consent in."""
        provision, status = resource.get("provision"), resource.get("status")
        if status == "rejected" or (status == "active" and part(provision, "type") == "deny"):
            self._refuse(provision, person)
        elif status != "active":
            self.quality.add("consent-not-active", _WHERE)
        else:
            self._permit(resource, provision, person)

    def rows(self) -> list[tuple[Any, ...]]:
        """Return the rows: every refusal, and the consents that no refusal outweighs."""
        kept: list[_Decision] = []
        for subject, permits in self._permits.items():
            refusals = self._refusals.get(subject, [])
            for permit in permits:
                if any(refusal.outweighs(permit) for refusal in refusals):
                    self.quality.add("consent-denied", _WHERE)
                else:
                    kept.append(permit)
        kept += [one for refusals in self._refusals.values() for one in refusals]
        return [(d.subject, d.basis, list(d.purposes), d.starts, d.ends) for d in kept]

    def _permit(self, resource: dict[str, Any], provision: object, person: Person) -> None:
        if part(provision, "type") != "permit" or any(part(provision, k) for k in _EXCEPTIONS):
            self.quality.add("consent-conditional", _WHERE)
            return
        purposes = self._purposes(provision)
        if purposes is None:
            self.quality.add("code-system-not-taken", _WHERE)
            return
        period = part(provision, "period")
        try:
            starts = _bound(part(period, "start"), person)
            ends = _bound(part(period, "end"), person)
        except ValueError:
            self.quality.add("date-unreadable", _WHERE)
            return
        scope = concept(resource.get("scope"), self.terminologies) or ""
        basis = scope.rpartition("|")[2] or "consent"
        decision = _Decision(person.pseudonym, basis, purposes, starts, ends)
        self._permits.setdefault(person.pseudonym, []).append(decision)

    def _refuse(self, provision: object, person: Person) -> None:
        self.quality.add("consent-denied", _WHERE)
        period = part(provision, "period")
        try:
            starts = _bound(part(period, "start"), person)
            ends = _bound(part(period, "end"), person)
        except ValueError:
            self.quality.add("date-unreadable", _WHERE)
            starts = ends = None
        decision = _Decision(
            person.pseudonym, REFUSED, self._purposes(provision) or (), starts, ends
        )
        self._refusals.setdefault(person.pseudonym, []).append(decision)

    def _purposes(self, provision: object) -> tuple[str, ...] | None:
        """Return the purposes' codes, none for all of them; None if one can't be read."""
        named = part(provision, "purpose")
        found = [coding(one, self.terminologies) for one in entries(named)]
        whole = not named or (isinstance(named, list) and len(found) == len(named) and found)
        if not whole or None in found:
            return None
        return tuple(dict.fromkeys(one.rpartition("|")[2] for one in found if one))


def _bound(value: object, person: Person) -> date | None:
    """Return a day of a period, moved, None for an open end; ``ValueError`` if it is no day."""
    if value is None:
        return None
    parsed = parse(value)
    if parsed is None or not parsed.is_whole or parsed.day.year < 1900:
        raise ValueError("not a day")
    if parsed.day.year >= _OPEN_END:
        return None
    return parsed.day - timedelta(days=person.days)
