"""The demo, as ``make demo-once`` runs it: four hospitals, and the published trial's figures."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pydicom
from pydicom.errors import InvalidDicomError

from demo import data
from demo.__main__ import ROOT as DEMO
from node.gate.ledger import read_entries
from tests.end_to_end.canaries import find, traces
from tests.end_to_end.processes import environment

ROOT = Path(__file__).resolve().parents[2]


def test_the_demo_runs_by_itself_and_agrees_with_the_pooled_truth() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "demo", "--once"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
        env=environment(),
    )
    said = done.stdout
    assert done.returncode == 0, said[-2000:] + done.stderr[-2000:]
    assert "Traceback" not in said + done.stderr
    rows = re.findall(r"│\s*(yes|NO)\s*│$", said, re.MULTILINE)
    assert len(rows) > 10
    assert set(rows) == {"yes"}
    assert "of 399" in said  # with an outcome; who is left out with those without is drawn by lot
    assert "of 398" in said
    # Federated, by secure sums, and pooled by another program.
    assert said.count("0.950 (0.656 to 1.376)") == 3
    assert len(re.findall(r"\d+ entries verified", said)) == 4
    _nothing_of_a_patient_left()


IDENTIFYING = (
    "PatientName", "PatientID", "OtherPatientIDs", "AccessionNumber", "InstitutionName",
    "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "StudyInstanceUID",
    "SeriesInstanceUID", "SOPInstanceUID", "StationName",
)  # fmt: skip
TELLING = 8
"""A shorter text, and one of hexadecimal digits alone, is in any pile of digests by chance."""
SAYS_NOTHING = re.compile(r"^[0-9a-fA-F]*$|anonym", re.IGNORECASE)


def _identifiers() -> Iterator[str]:
    """Yield what the demo's images say of their patients, as far as chance doesn't say it too."""
    for path in sorted(data.CACHE.rglob("images/**/*")):
        if not path.is_file():
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                dataset = pydicom.dcmread(path, stop_before_pixels=True)
            except (InvalidDicomError, OSError, ValueError, EOFError):
                continue
            for keyword in IDENTIFYING:
                text = str(dataset.get(keyword) or "")
                if len(text) >= TELLING and not SAYS_NOTHING.search(text):
                    yield text


def _numbers() -> list[str]:
    """Return every woman's number, as the hospitals' tables have it."""
    tables = [
        pl.read_csv(data.CACHE / h.name / "trial.csv", infer_schema=False) for h in data.HOSPITALS
    ]
    return [str(number) for table in tables for number in table["PID"]]


def _nothing_of_a_patient_left() -> None:
    """Search all that left a hospital, and all that the coordinator, researcher and logs hold."""
    wanted = traces(sorted(set(_identifiers())), [])
    assert len(wanted) > 500
    numbers = _numbers()
    assert len(set(numbers)) == 823
    # Not inside base64 or hexadecimal, and no fraction of a second: those hold any six digits.
    before, after = rb"(?<![0-9A-Za-z+/=_-])(?<![0-9]\.)", rb"(?![0-9A-Za-z+/=_-])"
    numbered = re.compile(before + rb"(" + "|".join(numbers).encode() + rb")" + after)
    nodes = [DEMO / hospital.name for hospital in data.HOSPITALS]
    left = [path for node in nodes for path in (node / "ledger").rglob("*") if path.is_file()]
    for node in nodes:
        answers = [e for e in read_entries(node / "ledger") if e.kind == "answer"]
        kept = {path.name for path in (node / "ledger" / "payloads").iterdir()}
        assert answers
        assert all({e.body["payload"], e.body["tensors"]} - {""} <= kept for e in answers)
    elsewhere = [
        path for path in DEMO.rglob("*")
        if path.is_file() and not any(path.is_relative_to(node) for node in nodes)
    ]  # fmt: skip
    assert len(elsewhere) > 10
    for path in (*left, *elsewhere):
        held = path.read_bytes()
        found = find(held, wanted) + [n.decode() for n in numbered.findall(held)]
        assert not found, (path, found)
