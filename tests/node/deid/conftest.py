"""Real DICOM files, and a de-identifier with a key of the tests' own."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from node.deid.engine import Deidentifier
from node.deid.profile import load_profile
from node.deid.pseudonyms import Pseudonyms

KEY = bytes(range(32))


def _public_files() -> list[Path]:
    folders = [Path(pydicom.__file__).parent / "data"]
    extra = importlib.util.find_spec("data_store")
    if extra is not None and extra.origin is not None:
        folders.append(Path(extra.origin).parent)
    files = (path for folder in folders for path in sorted(folder.rglob("*")))
    return [path for path in files if path.is_file() and path.suffix not in (".py", ".pyc")]


@pytest.fixture(scope="session")
def public_files() -> list[Path]:
    """Every file that comes with pydicom and pydicom-data."""
    return _public_files()


@pytest.fixture(scope="session")
def public_file() -> Callable[[str], Path]:
    """Look up one of them by name."""
    files = {path.name: path for path in _public_files()}
    return lambda name: files[name]


@pytest.fixture(scope="session")
def pseudonyms() -> Pseudonyms:
    return Pseudonyms(KEY)


@pytest.fixture(scope="session")
def basic(pseudonyms: Pseudonyms) -> Deidentifier:
    return Deidentifier(load_profile("basic"), pseudonyms)


@pytest.fixture(scope="session")
def longitudinal(pseudonyms: Pseudonyms) -> Deidentifier:
    return Deidentifier(load_profile("longitudinal"), pseudonyms)
