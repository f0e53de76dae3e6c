"""Planted identifiers are removed, and what is worth keeping is kept, category by category."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from node.commands.deid import app
from tests.corpus.generate import make
from tests.corpus.key import Key
from tests.corpus.score import Result, score
from tests.corpus.table import table

REMOVED, KEPT, WORDS, PIXELS, CHALLENGE = 99.5, 99.5, 95.0, 98.0, 99.0
"""Per cent, at least."""


def deidentified(folder: Path, seed: int, *, small: bool) -> tuple[Key, Result]:
    """Make a corpus, run the command over it as a hospital would, and score the result."""
    key = make(folder / "in", seed, small=small)
    run = CliRunner().invoke(app, ["run", str(folder / "in"), str(folder / "out")])
    assert run.exit_code == 0, run.output
    conformance = shutil.which("dciodvfy") is not None
    return key, score(folder / "in", key, folder / "out", conformance=conformance)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Key, Result]:
    return deidentified(tmp_path_factory.mktemp("corpus"), 2026, small=True)


def test_the_scorer_finds_every_planted_identifier_in_the_corpus_itself(tmp_path: Path) -> None:
    key = make(tmp_path / "in", 7, small=True)
    result = score(tmp_path / "in", key, tmp_path / "in", conformance=False)
    found = len(result.failures("removed")) - len(result.failures("removed", "elsewhere"))
    assert found == len(key.plants) > 2000
    assert result.percent("files") == result.percent("kept") == 100
    assert result.percent("pixels", "burned-in text gone") == 0
    assert result.percent("pixels", "outside untouched") == 100
    assert result.percent("consistent", "pseudonyms") == 0  # a name that stays is none


def test_a_seed_gives_the_same_corpus_again_and_another_one_another(tmp_path: Path) -> None:
    keys = [make(tmp_path / str(n), seed, small=True) for n, seed in enumerate((5, 5, 6))]
    assert keys[0] == keys[1]
    assert {p.value for p in keys[0].plants} != {p.value for p in keys[2].plants}
    for file in keys[0].files:
        if file.patient >= 0:
            assert (tmp_path / "0" / file.path).read_bytes() == (
                tmp_path / "1" / file.path
            ).read_bytes()


def test_no_file_is_lost(small: tuple[Key, Result]) -> None:
    assert small[1].failures("files") == []


@pytest.mark.parametrize(
    "category",
    [
        "DICOMDIR", "UIDs in text", "compressed stream comments", "dates",
        "encapsulated documents", "file meta", "free text", "nested items",
        "overlay and curve text", "padding of values", "paths", "preamble", "presentation state",
        "private binary", "private sequence", "private, known creator", "private, safe attribute",
        "private, unknown creator", "radiotherapy", "standard", "structured report",
        "trailing padding", "unlisted attributes",
    ],
)  # fmt: skip
def test_planted_identifiers_are_removed(small: tuple[Key, Result], category: str) -> None:
    assert category in {plant.category for plant in small[0].plants}
    _at_least(small[1], "removed", category, REMOVED)


def test_nothing_identifying_turns_up_elsewhere_or_in_the_report(small: tuple[Key, Result]) -> None:
    assert small[1].failures("removed", "elsewhere") == []
    assert small[1].failures("removed", "reports") == []


@pytest.mark.parametrize(
    ("category", "percent"),
    [
        ("must-keep attributes", KEPT),
        ("clinical words", WORDS),
        ("safe private attributes", KEPT),
        ("dates", KEPT),
    ],
)
def test_what_is_worth_keeping_is_kept(
    small: tuple[Key, Result], category: str, percent: float
) -> None:
    _at_least(small[1], "kept", category, percent)


@pytest.mark.parametrize("category", ["pseudonyms", "UIDs", "UIDs in text", "intervals"])
def test_what_belongs_together_still_does(small: tuple[Key, Result], category: str) -> None:
    _at_least(small[1], "consistent", category, 100)


@pytest.mark.parametrize("category", ["burned-in text gone", "overlay text gone", "icon text gone"])
def test_text_in_pixels_is_gone(small: tuple[Key, Result], category: str) -> None:
    _at_least(small[1], "pixels", category, PIXELS)


@pytest.mark.parametrize("category", ["harmless text kept", "outside untouched"])
def test_other_pixels_stay(small: tuple[Key, Result], category: str) -> None:
    _at_least(small[1], "pixels", category, PIXELS)


def test_pixels_without_text_are_never_touched(small: tuple[Key, Result]) -> None:
    assert small[1].failures("pixels", "untouched without text") == []


def test_every_file_says_what_was_done(small: tuple[Key, Result]) -> None:
    assert small[1].failures("declared") == []


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
def test_no_file_has_a_conformance_error_that_it_had_not(small: tuple[Key, Result]) -> None:
    assert small[1].failures("conformance") == []


def test_the_score_in_the_manner_of_the_challenge_is_high(small: tuple[Key, Result]) -> None:
    _at_least(small[1], "challenge", None, CHALLENGE)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_full_corpus_is_as_good_with_any_seed(tmp_path: Path, seed: int) -> None:
    _, result = deidentified(tmp_path, seed, small=False)
    shown = table(result, 5)
    assert result.percent("files") == 100, shown
    assert result.percent("removed") >= REMOVED, shown
    assert result.percent("kept", "must-keep attributes") >= KEPT, shown
    assert result.percent("kept", "clinical words") >= WORDS, shown
    assert result.percent("pixels", "burned-in text gone") >= PIXELS, shown
    assert result.percent("consistent") == 100, shown
    assert result.percent("conformance") == 100, shown
    assert result.percent("challenge") >= CHALLENGE, shown


def _at_least(result: Result, section: str, category: str | None, percent: float) -> None:
    failures = "\n".join(result.failures(section, category)[:12])
    assert result.percent(section, category) >= percent, failures
