"""A node's home, an open catalogue, and image files to take in."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydicom
import pytest

from node.catalog.store import Catalog
from node.deid.engine import Deidentifier
from node.deid.profile import load_profile
from node.deid.pseudonyms import Pseudonyms, load_key
from node.home import NodeHome
from node.intake.run import IntakeReport, ingest
from tests.node.homes import new_home

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DATA = Path(pydicom.__file__).parent / "data" / "test_files"


def image(number: int = 0, **values: object) -> bytes:
    """A small CT image with an instance UID of its own."""
    dataset = pydicom.dcmread(DATA / "CT_small.dcm")
    dataset.SOPInstanceUID = f"1.2.3.4.{number}"
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    file = io.BytesIO()
    dataset.save_as(file)
    return file.getvalue()


@pytest.fixture(scope="session")
def make_image() -> Callable[..., bytes]:
    return image


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    """A home with a key that is always the same, and so are all pseudonyms."""
    made = new_home(tmp_path / "node")
    made.pseudonym_key.touch(mode=0o600)
    made.pseudonym_key.write_bytes(bytes(range(32)))
    return made


@pytest.fixture
def pseudonyms(home: NodeHome) -> Pseudonyms:
    return Pseudonyms(load_key(home.pseudonym_key, create=True))


@pytest.fixture
def catalog(home: NodeHome) -> Iterator[Catalog]:
    with Catalog.open(home) as opened:
        yield opened


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "landing"
    folder.mkdir()
    return folder


@pytest.fixture
def deidentifier(pseudonyms: Pseudonyms) -> Deidentifier:
    return Deidentifier(load_profile("basic"), pseudonyms)


@pytest.fixture
def take(
    home: NodeHome, catalog: Catalog, deidentifier: Deidentifier
) -> Callable[..., IntakeReport]:
    """Take folders in, with the basic profile."""

    def run(*paths: Path, **options: Any) -> IntakeReport:
        return ingest(paths, home, catalog, deidentifier, clock=lambda: NOW, **options)

    return run
