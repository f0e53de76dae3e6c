"""FHIR bulk exports (Bulk Data Access 2.0, NDJSON), read line by line.

Two readings: the patients first, since any file may hold them, then all that refers to them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from contract.errors import DataError, UsageError
from node.deid.pseudonyms import Pseudonyms
from node.intake.clinical import Kind, Staging
from node.intake.fhir.consents import Consents
from node.intake.fhir.lines import SUFFIXES, opened, raw_lines, read_line
from node.intake.fhir.patients import MEDICAL_RECORD, Patients
from node.intake.fhir.resources import READERS, Resources
from node.intake.fhir.versions import foreign_element
from node.intake.records import Progress, SourceReport
from node.intake.terminologies import Terminologies
from node.intake.walk import walk

BATCH_ROWS = 20_000
KINDS = frozenset(READERS) | {"Patient"}
_PATIENT = re.compile(rb'"resourceType"\s*:\s*"Patient"')
_TYPE = re.compile(rb'\s*\{\s*"resourceType"\s*:\s*"([A-Za-z]{1,64})"')
_NAME = re.compile(r"[A-Z][A-Za-z]{1,40}")


def export_files(folder: Path) -> list[Path]:
    """Return the NDJSON files below a folder, or the one named; links are not followed."""
    return [
        found.path
        for found in walk([folder])
        if found.kind == "file" and found.path.name.lower().endswith(SUFFIXES)
    ]


@dataclass
class FhirSource:
    """A bulk export: its files, and how its patients and codes are read."""

    files: Sequence[Path]
    pseudonyms: Pseudonyms
    identifier: str = MEDICAL_RECORD
    """The type's code or the system's URI of the number that images and tables carry too."""
    code_systems: tuple[str, ...] = ()
    """Code systems taken besides the public ones."""
    observe: Callable[[int, int], None] = lambda done, total: None
    kind: str = field(default="FHIR R4", init=False)

    @property
    def options(self) -> bytes:
        """What else decides on the rows."""
        return repr((self.identifier, sorted(set(self.code_systems)))).encode()

    def read(self, staging: Staging, report: SourceReport, now: datetime) -> None:
        """Write the rows of all resources aside; ``DataError`` for anything but FHIR R4."""
        if not self.files:
            raise UsageError("There is no .ndjson or .ndjson.gz file in this place.")
        terminologies = Terminologies(self.code_systems)
        patients = Patients(
            self.pseudonyms, terminologies, report.quality, now.date(), self.identifier
        )
        consents = Consents(terminologies, report.quality)
        resources = Resources(patients, terminologies, self.pseudonyms, report.quality, consents)
        batches = _Batches(staging)
        progress = Progress(2 * sum(path.stat().st_size for path in self.files), self.observe)
        for position, path in enumerate(self.files, 1):
            self._read_patients(position, path, patients, batches, report, progress)
        report.subjects = len(patients)
        for position, path in enumerate(self.files, 1):
            self._read_file(position, path, resources, batches, report, progress)
        for kind, row in resources.settled():
            batches.add(kind, row)
        batches.flush()
        if not report.taken:
            raise DataError("The source holds no resource of a kind that is taken.")

    def _read_patients(
        self,
        position: int,
        path: Path,
        patients: Patients,
        batches: _Batches,
        report: SourceReport,
        progress: Progress,
    ) -> None:
        with opened(path) as (file, grown):
            for number, line in raw_lines(file, lambda rule: None):
                progress.add(grown())
                if not _PATIENT.search(line):
                    continue
                resource = read_line(line, lambda rule: None)
                if resource is not None and resource.get("resourceType") == "Patient":
                    _check_version(resource, position, number)
                    report.taken["Patient"] += 1
                    for row in patients.add(resource):
                        batches.add("observations", row)

    def _read_file(
        self,
        position: int,
        path: Path,
        resources: Resources,
        batches: _Batches,
        report: SourceReport,
        progress: Progress,
    ) -> None:
        def problem(rule: str) -> None:
            report.quality.add(rule, "a line")

        with opened(path) as (file, grown):
            for number, line in raw_lines(file, problem):
                progress.add(grown())
                # What isn't taken is only counted, and most lines say what they are at once.
                begins = _TYPE.match(line)
                if begins is not None and begins[1].decode() not in KINDS | {"Bundle"}:
                    report.left[begins[1].decode()] += 1
                    continue
                resource = read_line(line, problem)
                if resource is None:
                    continue
                kind = resource.get("resourceType")
                if kind == "Bundle":
                    raise DataError(
                        f"file {position}, line {number}: a Bundle; a bulk export has one "
                        "resource on each line."
                    )
                if not isinstance(kind, str) or not _NAME.fullmatch(kind):
                    report.quality.add("not-a-resource", "a line")
                elif kind not in KINDS:
                    report.left[kind] += 1
                elif kind != "Patient":
                    _check_version(resource, position, number)
                    report.taken[kind] += 1
                    for table, row in resources.rows(resource):
                        batches.add(table, row)


class _Batches:
    """Rows on their way into staging."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self._rows: dict[Kind, list[tuple[Any, ...]]] = {}

    def add(self, kind: Kind, row: tuple[Any, ...]) -> None:
        rows = self._rows.setdefault(kind, [])
        rows.append(row)
        if len(rows) >= BATCH_ROWS:
            self._staging.add_rows(kind, rows)
            rows.clear()

    def flush(self) -> None:
        for kind, rows in self._rows.items():
            self._staging.add_rows(kind, rows)
        self._rows.clear()


def _check_version(resource: dict[str, Any], position: int, number: int) -> None:
    element = foreign_element(resource)
    if element:
        raise DataError(
            f"file {position}, line {number}: a {resource['resourceType']} of another FHIR version "
            f"({element}); export R4."
        )
