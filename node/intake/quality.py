"""The quality report: what was wrong with the data taken in, by rule and count.

It holds rules of a closed list, names of variables or kinds of record, and counts; no value, no
position and nothing of a patient. It stays in the hospital all the same: a count may be small.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from contract.errors import WardgateError

RULES: dict[str, str] = {
    "age-above-89": "An age or birth year was generalised",
    "bad-json": "A line is not a JSON object",
    "code-system-not-taken": "A code's system is not on the list; see --code-system",
    "date-implausible": "A date before 1850 or in the future was left out",
    "consent-conditional": "A consent has exceptions or conditions and was left out",
    "consent-denied": "A consent is refused, or a refusal outweighs it",
    "consent-not-active": "A consent is not in force and was left out",
    "date-partial": "A date without its day or month was left out",
    "date-tells-age": "A date 90 years or more before the last was left out",
    "date-unreadable": "A date is malformed and was left out",
    "duplicate": "A record occurs a second time and was left out",
    "entered-in-error": "A record was withdrawn by its own status",
    "implicit-rules": "A record has rules of its own, or a modifier, and was left out",
    "instance-uid-missing": "An imaging study has no Study Instance UID",
    "line-too-long": "A line is longer than may be",
    "missing-required": "A required value is missing",
    "no-code": "A record has no code that is taken, and was left out",
    "no-key": "A record says not whose it is, and was left out",
    "no-medical-record-number": "A patient is known by the record's id alone",
    "no-time": "An observation has no time",
    "no-value": "An observation has no value",
    "not-a-patient": "A record is of no patient",
    "not-a-resource": "A line is no FHIR resource",
    "out-of-range": "A number is out of its declared or reported range",
    "several-medical-record-numbers": "A patient has several numbers; the first was used",
    "subject-twice": "A subject occurs a second time; the first was used",
    "too-deep": "A line nests too deeply",
    "unit-mismatch": "A number is in a unit that can't be converted, and was left out",
    "unit-unknown": "A unit is not UCUM and was left out",
    "unknown-level": "A value is not of the declared levels",
    "unknown-patient": "A record's patient is not in the source",
    "unmapped-level": "A level has no name in the dictionary and was made missing",
    "value-mistyped": "A value is not of its type",
    "value-not-taken": "A value is text, or of a type that is not taken",
}


@dataclass(frozen=True, order=True)
class Finding:
    """How often a rule was broken, and where: a variable or a kind of record."""

    rule: str
    where: str
    count: int


@dataclass
class QualityReport:
    """What was found so far in one source."""

    source: str
    _counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, rule: str, where: str, count: int = 1) -> None:
        """Count ``rule``, one of ``RULES``, for a variable or kind of record."""
        if rule not in RULES:
            raise WardgateError(f"{rule} is not a rule of the quality report.")
        if count:
            self._counts[rule, where] += count

    def findings(self) -> tuple[Finding, ...]:
        """Return what was found, by rule and place."""
        return tuple(sorted(Finding(*key, n) for key, n in self._counts.items()))

    def count(self, rule: str) -> int:
        """Return how often a rule was broken anywhere."""
        return sum(n for (name, _), n in self._counts.items() if name == rule)

    def lines(self) -> list[str]:
        """Return a table of at most 80 columns; without findings, one line that says so."""
        found = self.findings()
        if not found:
            return ["Quality: nothing found."]
        width = max(5, *(len(str(f.count)) for f in found))
        head = f"{'count':>{width}}  {'rule':<30}  where"
        rows = [f"{f.count:>{width}}  {f.rule:<30}  {f.where}"[:80] for f in found]
        return [f"Quality of {self.source}:"[:80], head, *rows]

    def to_json(self) -> dict[str, Any]:
        """Return the report for a JSON file."""
        return {
            "source": self.source,
            "findings": [
                {"rule": f.rule, "meaning": RULES[f.rule], "where": f.where, "count": f.count}
                for f in self.findings()
            ],
        }

    def to_bytes(self) -> bytes:
        """Return ``to_json`` as the bytes of a file."""
        return json.dumps(self.to_json(), indent=2, sort_keys=True).encode() + b"\n"
