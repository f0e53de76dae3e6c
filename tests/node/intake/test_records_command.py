"""Tables and records by the real command: summaries, the quality file, exit codes, no canary."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from contract.errors import DataError, UsageError
from tests.node.intake.fhir.making import condition, observation, patient, quantity, write_export

PROGRAM = Path(sys.executable).with_name("wardgate-node")
SCHEMA = """
table = "trial"
subject = "pid"
[[columns]]
name = "arm"
type = "category"
levels = ["A", "B"]
[[columns]]
name = "name"
type = "identifier"
"""
DICTIONARY = """
name = "d"
[[variables]]
name = "arm"
kind = "category"
levels = ["A", "B"]
required = true
[[variables]]
name = "sbp"
kind = "number"
unit = "mm[Hg]"
required = true
"""
MAPPING = """
dictionary = "d"
[variables]
arm = { from = "trial.arm" }
sbp = { observation = "http://loinc.org|8480-6", take = "last", unit = "mm[Hg]" }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    named = patient(name=[{"family": "CANARY"}])
    told = condition(note=[{"text": "CANARY"}], onsetDateTime="CANARY")
    write_export(tmp_path / "fhir", named, told, observation(valueQuantity=quantity(120)))
    for name, text in (
        ("trial.csv", "pid,arm,name\nMRN1,A,CANARY\nMRN2,CANARY,CANARY\n"),
        ("trial.toml", SCHEMA),
        ("d.toml", DICTIONARY),
        ("m.toml", MAPPING),
    ):
        (tmp_path / name).write_text(text)
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"WARDGATE_NODE_HOME": str(folder / "node")}
    return subprocess.run(
        [PROGRAM, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=environment,
    )


def test_a_hospitals_records_are_taken_in_and_mapped(folder: Path) -> None:
    outputs = []

    def done(*arguments: str, code: int = 0) -> str:
        result = run(folder, *arguments)
        outputs.append(result.stdout + result.stderr)
        assert result.returncode == code, result.stderr
        return result.stdout

    refused = done("ingest", "trial.csv", "--schema", "trial.toml", code=DataError.exit_code)
    assert "unknown-level" in refused
    assert "row 3, column arm: unknown level" in outputs[-1]
    done("ingest", "fhir", "--fhir", "--schema", "trial.toml", code=UsageError.exit_code)
    told = done("ingest", "fhir", "--fhir", "--quality", "q.json")
    assert "Source fhir (FHIR R4): 1 subjects." in told
    found = {f["rule"]: f["count"] for f in json.loads((folder / "q.json").read_text())["findings"]}
    assert found == {"date-unreadable": 1, "no-time": 1}
    done("mapping", "check", "d.toml", "m.toml", code=DataError.exit_code)
    assert "Not ready: 1 of 2 required variables are not covered: arm." in outputs[-1]
    done("ingest", "trial.csv", "--schema", "trial.toml", "--lenient")
    done("mapping", "check", "d.toml", "m.toml")
    assert "Table table: 2 subjects, 2 variables." in done("mapping", "apply", "d.toml", "m.toml")
    assert "CANARY" not in "".join(outputs)
    for path in (folder / "node").rglob("*"):
        if path.is_file():
            assert b"canary" not in path.read_bytes().lower(), path.name
