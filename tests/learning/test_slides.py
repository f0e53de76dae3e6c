"""Tiles of a slide: where tissue is, at the level asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from learning.releases import Release
from learning.slides import Slide
from tests.recipes import harness


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pixels = np.full((512, 1024, 3), 245, np.uint8)
    pixels[128:384, 256:512] = (180, 60, 150)
    path = tmp_path / "slide.tif"
    with tifffile.TiffWriter(path) as writer:
        for step in (1, 2):
            writer.write(
                pixels[::step, ::step], tile=(128, 128), photometric="rgb", subfiletype=step - 1
            )
    row = {"kind": "slide", "modality": "SM", "rows": 512, "columns": 1024, "frames": 1}
    file = harness.File("a", path.read_bytes(), ".tif", row)
    return harness.write_release(tmp_path / "release", files=[file])


def test_tiles_are_where_tissue_is(folder: Path) -> None:
    (asset,) = Release(folder).assets(kind="slide")
    with Slide(asset) as slide:
        tiles = slide.tiles(128)
        assert {(t.column, t.row) for t in tiles} == {
            (256, 128), (384, 128), (256, 256), (384, 256)
        }  # fmt: skip
        assert slide.read(tiles[0]).shape == (128, 128, 3)
        assert np.allclose(slide.read(tiles[0]).mean((0, 1)) * 255, (180, 60, 150), atol=1)
        assert len(slide.tiles(128, most=2)) == 2


def test_a_coarser_level_has_fewer_tiles_in_the_same_place(folder: Path) -> None:
    (asset,) = Release(folder).assets(kind="slide")
    with Slide(asset) as slide:
        tiles = slide.tiles(128, downsample=2, tissue=0.4)
        assert {(t.column, t.row, t.level) for t in tiles} == {(256, 0, 1), (256, 256, 1)}
        half = (np.array([180, 60, 150]) + 245) / 2
        for tile in tiles:
            assert np.allclose(slide.read(tile).mean((0, 1)) * 255, half, atol=2)
