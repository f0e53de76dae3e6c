"""Intensities over sites: one question, one histogram, and constants to normalise by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from contract.errors import DocumentError, UsageError
from researcher import cli
from researcher.consortium import Consortium
from tests.contract.world import World
from tests.researcher.local import LocalConsortium, split

DERIVE = {"intensity": "all", "modality": "CT", "minimum": 0, "maximum": 4, "bins": 4}
PROJECT = World().project(variables=[{"name": "ct", "kind": "number", "derive": DERIVE}])
RNG = np.random.default_rng(2)
PIXELS = RNG.uniform(0, 4, (50, 200)) ** 1.2 % 4
TABLE = {
    "ct.mean": PIXELS.mean(axis=1),
    "ct.sd": PIXELS.std(axis=1),
    **{f"ct.b{i:02}": (np.floor(PIXELS) == i).mean(axis=1) for i in range(4)},
}


def test_the_histogram_and_the_constants_are_those_of_all_pixels() -> None:
    consortium = LocalConsortium(PROJECT.variables, split(TABLE, 3))
    found = consortium.study().intensities("ct")
    assert len(consortium.asked) == 1
    counts = np.histogram(PIXELS, bins=4, range=(0, 4))[0] / PIXELS.size
    assert found.result.shares == pytest.approx(counts.tolist())
    assert found.result.edges == (0, 1, 2, 3, 4)
    assert found.result.normalisation.mean == pytest.approx(PIXELS.mean())
    assert found.result.normalisation.standard_deviation == pytest.approx(PIXELS.std())
    assert found.figure is not None
    assert max(map(len, str(found).splitlines())) <= 80


def test_what_the_dictionary_has_no_intensities_of_is_an_error() -> None:
    with pytest.raises(DocumentError, match="no intensities called mr"):
        LocalConsortium(PROJECT.variables, split(TABLE, 3)).study().intensities("mr")


def parameter(name: str, modality: str, what: str, **more: object) -> dict[str, object]:
    derive = {"imaging": what, "modality": modality}
    return {"name": name, "derive": derive, "kind": "number", **more}


GRID = {"minimum": 60, "maximum": 160, "bins": 10}
TAKEN = World().project(
    variables=[
        parameter("mr.tesla", "MR", "field_strength", unit="T", minimum=0, maximum=7),
        parameter("ct.kvp", "CT", "kvp", unit="kV", **GRID),
        parameter("ct.thick", "CT", "slice_thickness", unit="mm", minimum=0, maximum=10),
        parameter("ct.maker", "CT", "manufacturer", kind="category", levels=["A", "B", "mixed"]),
        {"name": "age", "kind": "number"},
    ]
)
SCANNED = {
    "mr.tesla": np.where(np.arange(80) < 30, np.nan, np.where(np.arange(80) % 2, 1.5, 3.0)),
    "ct.kvp": np.where(np.arange(80) < 60, RNG.choice([80.0, 100, 120, 140], 80), np.nan),
    "ct.thick": np.where(np.arange(80) < 60, RNG.uniform(0.5, 5, 80), np.nan),
    "ct.maker": np.where(np.arange(80) < 60, np.arange(80) % 2, -1),
    "age": RNG.uniform(20, 80, 80),
}


def test_how_images_were_taken_is_told_by_modality_over_all_sites_in_one_question() -> None:
    consortium = LocalConsortium(TAKEN.variables, split(SCANNED, 2))
    found = consortium.study().acquisition()
    assert len(consortium.asked) == 1
    assert [row[:3] for row in found.rows] == [
        ("CT", "kvp (kV)", ""),
        ("CT", "slice thickness (mm)", ""),
        ("CT", "manufacturer", "A"),
        ("CT", "manufacturer", "B"),
        ("MR", "field strength (T)", ""),
    ]
    kvp, thick, *makers, tesla = found.tidy()
    voltages = SCANNED["ct.kvp"][:60]
    assert (kvp["n"], kvp["missing"]) == (60, 20)
    assert kvp["mean"] == pytest.approx(voltages.mean(), rel=1e-12)
    assert kvp["SD"] == pytest.approx(voltages.std(ddof=1), rel=1e-12)
    # Within the width of a cell of the grid.
    assert abs(float(kvp["median"]) - np.quantile(voltages, 0.5)) <= 10
    assert thick["mean"] == pytest.approx(SCANNED["ct.thick"][:60].mean(), rel=1e-12)
    assert [(m["n"], m["share"]) for m in makers] == [(30, 0.5), (30, 0.5)]
    assert (tesla["n"], tesla["mean"]) == (50, pytest.approx(2.25))
    assert max(map(len, str(found).splitlines())) <= 80


def test_how_images_of_one_modality_were_taken_is_asked_alone() -> None:
    consortium = LocalConsortium(TAKEN.variables, split(SCANNED, 2))
    found = consortium.study().acquisition("mr")
    assert [s.variable for s in consortium.asked[0]] == ["mr.tesla"]
    assert {row[0] for row in found.rows} == {"MR"}
    with pytest.raises(DocumentError, match="no acquisition parameters of SM images"):
        consortium.study().acquisition("SM")


def test_the_command_tells_how_images_were_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def connect(_home: Path) -> Iterator[LocalConsortium]:
        yield LocalConsortium(TAKEN.variables, split(SCANNED, 2))

    monkeypatch.setattr(Consortium, "connect", connect)
    run = CliRunner().invoke
    done = run(cli.app, ["analyse", "acquisition", "-p", "birth", "--modality", "CT"])
    assert done.exit_code == 0, (done.output, done.exception)
    assert "slice thickness" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "field strength" not in done.stdout
    for wrong, why in (
        (["acquisition", "age"], "of all parameters"),
        (["describe"], "of variables; say which"),
        (["describe", "age", "--modality", "CT"], "--modality is of acquisition"),
    ):
        done = run(cli.app, ["analyse", *wrong, "-p", "birth"])
        assert isinstance(done.exception, UsageError)
        assert why in str(done.exception)
