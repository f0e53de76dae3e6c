"""Tiles of a whole slide as float arrays, those with tissue, read when they are wanted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learning.releases import Asset

Floats = NDArray[np.float32]
_THUMBNAIL = 1024


@dataclass(frozen=True)
class Tile:
    """A square of a slide: its corner in pixels of level 0, and the level it is read from."""

    column: int
    row: int
    level: int
    side: int
    """Pixels that it has at that level."""


class Slide:
    """One slide, open. Use as a context manager."""

    def __init__(self, asset: Asset) -> None:
        import openslide

        self._slide: Any = openslide.OpenSlide(str(asset.path))

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *exception: object) -> None:
        self._slide.close()

    def tiles(
        self, side: int, *, downsample: float = 1.0, tissue: float = 0.25, most: int = 0
    ) -> tuple[Tile, ...]:
        """Return the tiles of ``side`` pixels of which at least the share ``tissue`` isn't glass.

        ``downsample``: how much coarser than level 0; the level next to it is read. ``most``: of
        which that many are taken, evenly spaced, if it isn't 0.
        """
        level = int(self._slide.get_best_level_for_downsample(downsample + 1e-6))
        factor = float(self._slide.level_downsamples[level])
        width, height = self._slide.level_dimensions[level]
        mask = self._tissue()
        found = []
        for row in range(0, height - side + 1, side):
            for column in range(0, width - side + 1, side):
                part = _part(mask, column / width, row / height, side / width, side / height)
                if part.mean() >= tissue:
                    found.append(Tile(round(column * factor), round(row * factor), level, side))
        if most and len(found) > most:
            wanted = np.linspace(0, len(found) - 1, most).round().astype(int)
            found = [found[int(index)] for index in wanted]
        return tuple(found)

    def read(self, tile: Tile) -> Floats:
        """Return a tile's red, green and blue, 0 to 1: (side, side, 3)."""
        size = (tile.side, tile.side)
        picture = self._slide.read_region((tile.column, tile.row), tile.level, size)
        values = np.asarray(picture, dtype=np.float32)
        # What the scanner didn't look at is transparent, and white like glass.
        alpha = values[..., 3:] / np.float32(255)
        found: Floats = (values[..., :3] * alpha + np.float32(255) * (1 - alpha)) / np.float32(255)
        return found

    def read_all(self, tiles: tuple[Tile, ...]) -> Iterator[Floats]:
        """Yield the tiles one by one."""
        return map(self.read, tiles)

    def _tissue(self) -> NDArray[np.bool_]:
        """Where a small picture of the slide is coloured or dark, as tissue is and glass isn't."""
        small = np.asarray(
            self._slide.get_thumbnail((_THUMBNAIL, _THUMBNAIL)).convert("RGB"), dtype=np.float32
        )
        saturation = small.max(axis=2) - small.min(axis=2)
        found: NDArray[np.bool_] = (saturation > 20) | (small.max(axis=2) < 120)
        return found


def _part(
    mask: NDArray[np.bool_], left: float, top: float, width: float, height: float
) -> NDArray[np.bool_]:
    rows, columns = mask.shape
    first_row, first_column = int(top * rows), int(left * columns)
    last_row = max(first_row + 1, round((top + height) * rows))
    last_column = max(first_column + 1, round((left + width) * columns))
    return mask[first_row:last_row, first_column:last_column]
