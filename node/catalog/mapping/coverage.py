"""How much of a dictionary a site's data covers, by variable: who is ready, and what is lacking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from node.catalog.mapping.evaluation import Mapped, VariableResult
from node.intake.quality import QualityReport

State = Literal["covered", "incomplete", "not covered"]
SHARE_STEPS = 20
"""A coarse share is a multiple of a twentieth."""


@dataclass(frozen=True)
class Coverage:
    """One variable's coverage."""

    result: VariableResult
    subjects: int
    max_missing: float

    @property
    def missing_share(self) -> float:
        """The share of subjects without a value."""
        return 1 - self.result.present / self.subjects if self.subjects else 1.0

    @property
    def state(self) -> State:
        """``not covered``: no value, or too few. ``incomplete``: some were made missing."""
        result = self.result
        if result.problem or not result.present or self.missing_share > self.max_missing:
            return "not covered"
        lost = result.out_of_range or result.not_numbers or result.unmapped.total()
        return "incomplete" if lost or result.in_other_units else "covered"

    @property
    def why(self) -> str:
        """What is wrong, in a few words; "" if nothing is."""
        result = self.result
        if result.problem:
            return result.sentence
        if result.without_source:
            return "nothing of the kind is in the catalogue"
        said = [
            f"{result.out_of_range} out of range" if result.out_of_range else "",
            f"{result.not_numbers} not a (whole) number" if result.not_numbers else "",
            f"{result.in_other_units} in other units" if result.in_other_units else "",
        ]
        if result.unmapped:
            levels = ", ".join(level for level, _ in result.unmapped.most_common(3))
            more = ", ..." if len(result.unmapped) > 3 else ""
            said.append(f"{result.unmapped.total()} of unmapped levels ({levels}{more})")
        return "; ".join(part for part in said if part)

    def to_json(self) -> dict[str, Any]:
        """Return everything, for the hospital's own eyes."""
        result = self.result
        return {
            "variable": result.name,
            "required": result.required,
            "state": self.state,
            "problem": result.problem,
            "why": self.why,
            "present": result.present,
            "missing_share": round(self.missing_share, 4),
            "out_of_range": result.out_of_range,
            "not_numbers": result.not_numbers,
            "unmapped_levels": dict(sorted(result.unmapped.items())),
            "in_other_units": result.in_other_units,
        }

    def to_coarse_json(self) -> dict[str, Any]:
        """Return what may be shown to a consortium: no count, and the share in steps of 5 %."""
        return {
            "variable": self.result.name,
            "required": self.result.required,
            "state": self.state,
            "problem": self.result.problem,
            "missing_share": round(self.missing_share * SHARE_STEPS) / SHARE_STEPS,
            "has_unmapped_levels": bool(self.result.unmapped),
            "has_values_out_of_range": bool(self.result.out_of_range),
        }


@dataclass(frozen=True)
class CoverageReport:
    """A dictionary's coverage at this site."""

    dictionary: str
    subjects: int
    variables: tuple[Coverage, ...]

    @classmethod
    def of(cls, dictionary: str, mapped: Mapped, max_missing: float = 1.0) -> CoverageReport:
        """Return the coverage of a mapping's result.

        A variable of which a larger share than ``max_missing`` is missing is not covered.
        """
        found = (Coverage(r, mapped.subjects, max_missing) for r in mapped.results.values())
        return cls(dictionary, mapped.subjects, tuple(found))

    @property
    def lacking(self) -> tuple[str, ...]:
        """The required variables that are not covered."""
        return tuple(
            c.result.name for c in self.variables if c.result.required and c.state == "not covered"
        )

    @property
    def is_ready(self) -> bool:
        """Whether the site can take part."""
        return not self.lacking

    def to_json(self, *, coarse: bool = False) -> dict[str, Any]:
        """Return the report for a JSON file; ``coarse`` is what may leave the hospital."""
        head: dict[str, Any] = {"dictionary": self.dictionary, "ready": self.is_ready}
        if coarse:
            return {**head, "variables": [c.to_coarse_json() for c in self.variables]}
        return {
            **head,
            "subjects": self.subjects,
            "variables": [c.to_json() for c in self.variables],
        }


def findings_of(mapped: Mapped, table: str) -> QualityReport:
    """Return what was made missing as a quality report."""
    report = QualityReport(f"mapping {table}")
    for result in mapped.results.values():
        where = f"{table}.{result.name}"
        report.add("out-of-range", where, result.out_of_range)
        report.add("value-mistyped", where, result.not_numbers)
        report.add("unmapped-level", where, result.unmapped.total())
        report.add("unit-mismatch", where, result.in_other_units)
    return report
