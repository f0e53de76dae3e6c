"""Taking FHIR resources in, into a store in memory."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from node.deid.pseudonyms import Pseudonyms
from node.home import NodeHome
from node.intake.fhir.export import FhirSource, export_files
from node.intake.records import SourceReport, take_in
from tests.node.intake.fhir.making import Resource, Take, write_export
from tests.node.intake.keeping import MemoryStore


@pytest.fixture
def take(tmp_path: Path, home: NodeHome, pseudonyms: Pseudonyms, now: datetime) -> Take:
    store = MemoryStore()

    def run(
        *resources: Resource | bytes, dry_run: bool = False, **options: Any
    ) -> tuple[SourceReport, MemoryStore]:
        folder = write_export(tmp_path / "export", *resources)
        source = FhirSource(export_files(folder), pseudonyms, **options)
        report = take_in(source, "s", home, store, pseudonyms, now=now, dry_run=dry_run)
        return report, store

    return run
