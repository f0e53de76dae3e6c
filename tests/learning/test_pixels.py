"""Images of a release as arrays: units, order of slices, windows, sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from learning import pixels
from learning.releases import Release
from tests.recipes import harness


def _assets(tmp_path: Path, files: list[harness.File]) -> tuple[pixels.Asset, ...]:
    return Release(harness.write_release(tmp_path / "release", files=files)).assets()


def test_a_ct_is_in_hounsfield_units_and_its_window_is_0_to_1(tmp_path: Path) -> None:
    stored = np.array([[0, 1024], [1064, 3000]])
    (asset,) = _assets(tmp_path, [harness.dicom(stored, "a", modality="CT", intercept=-1024)])
    values = pixels.image(asset)
    assert values.dtype == np.float32
    assert values.tolist() == [[-1024, 0], [40, 1976]]
    assert np.allclose(pixels.windowed(values, -160, 240), [[0, 0.4], [0.5, 1]])
    assert values[0, 0] == -1024


def test_a_series_is_stacked_by_position_whatever_the_order_of_its_files(tmp_path: Path) -> None:
    values = np.arange(5 * 3 * 4).reshape(5, 3, 4)
    files = harness.series(values, "a", thickness_mm=2.5, spacing_mm=(0.5, 0.7))
    found = pixels.volume(_assets(tmp_path, files))
    assert (found.values == values).all()
    assert found.spacing_mm == (2.5, 0.5, 0.7)
    assert found.origin_mm == (0, 0, 0)
    assert found.directions.tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]


def test_one_instance_of_many_frames_is_a_volume_too(tmp_path: Path) -> None:
    values = np.arange(24).reshape(2, 3, 4)
    (asset,) = _assets(tmp_path, [harness.dicom(values, "a", thickness_mm=3)])
    assert (pixels.volume([asset]).values == values).all()
    assert pixels.volume([asset]).spacing_mm[0] == 3
    assert pixels.frames(asset).shape == (2, 3, 4)


def test_two_slices_in_one_place_are_no_volume(tmp_path: Path) -> None:
    values = np.zeros((2, 2, 2))
    one, other = harness.series(values, "a", thickness_mm=0.0)
    with pytest.raises(ValueError, match="one place"):
        pixels.volume(_assets(tmp_path, [one, other]))


def test_a_photograph_is_read_in_colour_and_as_brightness(tmp_path: Path) -> None:
    red = np.zeros((2, 3, 3), np.uint8)
    red[..., 0] = 255
    (asset,) = _assets(tmp_path, [harness.photograph(red, "a")])
    assert pixels.colour(asset).tolist() == [[[1, 0, 0]] * 3] * 2
    assert np.allclose(pixels.image(asset), 0.299)


def test_an_empty_frame_doesnt_count_when_a_scale_is_made() -> None:
    values = np.zeros((4, 4), np.float32)
    values[1:3, 1:3] = [[1, 3], [1, 3]]
    scaled = pixels.standardised(values)
    assert scaled[1, 1] == pytest.approx(-1)
    assert scaled[1, 2] == pytest.approx(1)
    assert pixels.standardised(np.ones((2, 2), np.float32)).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(("before", "after"), [((8, 6), (4, 3)), ((8, 6, 4), (4, 3, 8))])
def test_another_size_keeps_the_mean(before: tuple[int, ...], after: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).random(before, dtype=np.float32)
    small = pixels.resized(values, after)
    assert small.shape == after
    assert small.mean() == pytest.approx(values.mean(), abs=0.05)
    assert pixels.resized(values, before) is values
