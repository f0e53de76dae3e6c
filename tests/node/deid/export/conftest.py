"""Trees of small images, and the command that copies them."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.data import get_testdata_file

from node.commands.deid import app
from tests.node.deid.invoking import Done, invoke

COMMAND = str(Path(sys.executable).with_name("wardgate-node"))
Run = Callable[..., Done]
Image = Callable[..., bytes]


def image(number: int, patient: str = "KX48853", **values: object) -> bytes:
    """A CT image of a patient, with an instance UID of its own."""
    dataset = pydicom.dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
    dataset.PatientID, dataset.PatientName = patient, f"Thornbury{patient}^Barnaby"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"1.2.3.{len(patient)}.1", "1.2.3.2"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{number}"
    dataset.InstanceNumber = number
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    file = io.BytesIO()
    dataset.save_as(file)
    return file.getvalue()


@pytest.fixture(scope="session")
def make_image() -> Image:
    return image


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "pseudonym.key"
    path.touch(mode=0o600)
    path.write_bytes(bytes(range(32)))
    return path


@pytest.fixture
def run(source: Path, tmp_path: Path, key: Path) -> Run:
    """Run ``deid run`` over the source to a folder of the test's, with a key of its own."""

    def run(*options: str, out: str = "out", check: bool = True) -> Done:
        command = ["run", source, tmp_path / out, "--pixels", "off", "--key-file", key]
        done = invoke(app, *command, *options)
        assert done.returncode == 0 or not check, done.stderr
        return done

    return run


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


def tree(folder: Path) -> dict[str, bytes]:
    """Every file but the report, by its place."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "report.json"
    }
