"""FHIR's data types that hold a value: concepts, quantities, and Observation.value[x]."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from node.intake.clinical import COMPARATOR, MAX_NUMBER, Person
from node.intake.fhir.dates import moved
from node.intake.quality import QualityReport
from node.intake.terminologies import Terminologies
from node.intake.units import UCUM, ucum, without_great_age

_COMPARATORS = ("<", "<=", ">=", ">")
Value = tuple[float | None, str | None, str]
"""A number, a code ``system|code`` and a unit."""


def entries(value: object) -> list[dict[str, Any]]:
    """Return the objects of a list that should hold objects; anything else is left out."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def part(value: object, key: str) -> Any:
    """Return an object's element, None for what is no object."""
    return value.get(key) if isinstance(value, dict) else None


def coding(value: object, terminologies: Terminologies) -> str | None:
    """Return a Coding as ``system|code``, None if its system or form isn't taken."""
    return terminologies.take(part(value, "system"), part(value, "code"))


def concept(value: object, terminologies: Terminologies) -> str | None:
    """Return a CodeableConcept's preferred code, None without one that is taken."""
    found = (coding(one, terminologies) for one in entries(part(value, "coding")))
    return min((one for one in found if one), key=Terminologies.rank, default=None)


def has_foreign_code(value: object, terminologies: Terminologies) -> bool:
    """Say whether a concept has codes, none of them of a system that is taken."""
    codes = [one for one in entries(part(value, "coding")) if one.get("code")]
    return bool(codes) and concept(value, terminologies) is None


@dataclass(frozen=True)
class Values:
    """Reads values, and counts what they lack under the name of the record's kind."""

    terminologies: Terminologies
    quality: QualityReport

    def read(self, holder: dict[str, Any], where: str) -> Value | None:
        """Return value[x] of an observation or component, None for one that isn't kept.

        A date is no value here: it is ``time`` (see ``value_time``).
        """
        value: Value | None = None
        if "valueQuantity" in holder:
            value = self.quantity(holder["valueQuantity"], where)
        elif "valueCodeableConcept" in holder:
            value = self._concept(holder["valueCodeableConcept"], where)
        elif "valueBoolean" in holder or "valueInteger" in holder:
            value = self._plain(holder, where)
        elif "valueRatio" in holder:
            value = self._ratio(holder["valueRatio"], where)
        else:
            self.quality.add("value-not-taken", where)
        return value

    def _plain(self, holder: dict[str, Any], where: str) -> Value | None:
        value = holder.get("valueBoolean")
        if isinstance(value, bool):
            return float(value), None, ""
        integer = number(holder.get("valueInteger"))
        if integer is not None and integer.is_integer():
            return integer, None, ""
        self.quality.add("value-mistyped", where)
        return None

    def quantity(self, value: object, where: str) -> Value | None:
        """Return a Quantity; with a unit that is none, its number alone would say another thing."""
        read = number(part(value, "value"))
        if read is None:
            self.quality.add("value-mistyped", where)
            return None
        system, code = part(value, "system"), part(value, "code")
        texts = [code] if system == UCUM else []
        texts.append(part(value, "unit"))
        written = [text for text in texts if isinstance(text, str) and text.strip()]
        unit = next((u for u in map(ucum, written) if u), None) if written else ""
        if unit is None:
            self.quality.add("unit-unknown", where)
            return None
        comparator = part(value, "comparator")
        if comparator is not None and comparator not in _COMPARATORS:
            self.quality.add("value-mistyped", where)
            return None
        capped = without_great_age(read, unit)
        if capped != read:
            self.quality.add("age-above-89", where)
        return capped, COMPARATOR + comparator if comparator else None, unit

    def _concept(self, value: object, where: str) -> Value | None:
        code = concept(value, self.terminologies)
        if code is not None:
            return None, code, ""
        foreign = has_foreign_code(value, self.terminologies)
        self.quality.add("code-system-not-taken" if foreign else "value-not-taken", where)
        return None

    def _ratio(self, value: object, where: str) -> Value | None:
        upper = self.quantity(part(value, "numerator"), where)
        lower = self.quantity(part(value, "denominator"), where)
        if upper is None or lower is None or upper[0] is None or not lower[0]:
            return None
        if upper[1] or lower[1] or lower[2].count("/") or upper[2].count("/"):
            self.quality.add("value-not-taken", where)
            return None
        unit = upper[2] if upper[2] != lower[2] else ""
        unit = f"{unit}/{lower[2]}" if lower[2] and upper[2] != lower[2] else unit
        return upper[0] / lower[0], None, unit

    def value_time(self, holder: dict[str, Any], person: Person, where: str) -> Any:
        """Return the moved time that a valueDateTime or valuePeriod holds, None without one."""
        value = holder.get("valueDateTime") or part(holder.get("valuePeriod"), "start")
        time, rule = moved(value, person)
        if rule:
            self.quality.add(rule, where)
        return time


def number(value: object) -> float | None:
    """Return a finite JSON number of sane size, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    read = float(value) if abs(value) < MAX_NUMBER else math.inf
    return read if math.isfinite(read) else None
