"""Images of nobody: chest films with opacities, skin lesions, organs with their outlines.

What tells their classes apart is what a reader would look at: how many opacities, which colour and
edge, which texture. Sites differ in contrast and light, as hospitals do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[Any]


def _grid(side: int) -> tuple[Image, Image]:
    rows, columns = np.mgrid[:side, :side]
    return rows / side - 0.5, columns / side - 0.5


def chest(stage: int, rng: np.random.Generator, side: int = 48, contrast: float = 1.0) -> Image:
    """Two lungs with more small opacities the higher the stage (0 to 3), in 12 bits."""
    y, x = _grid(side)
    film = 0.75 - 0.1 * y
    for centre in (-0.22, 0.22):
        film = film - 0.45 * (((x - centre) / 0.17) ** 2 + (y / 0.38) ** 2 < 1)
    for _ in range(rng.poisson((0.5, 5, 14, 30)[stage])):
        at_x = rng.choice([-0.22, 0.22]) + rng.uniform(-0.13, 0.13)
        at_y = rng.uniform(-0.3, 0.3)
        film = film + 0.35 * np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / (2 * 0.018**2))
    film = film * contrast + rng.normal(0, 0.02, film.shape)
    return np.clip(film * 4095 / 2, 0, 4095).astype(np.uint16)


def lesion(kind: int, rng: np.random.Generator, side: int = 48, light: Any = (1, 1, 1)) -> Image:
    """Skin with a lesion: 0 even and brown, 1 dark with a ragged edge, 2 red with bright spots."""
    y, x = _grid(side)
    skin = np.ones((side, side, 3)) * np.array([0.86, 0.7, 0.6])
    angle = np.arctan2(y, x)
    ragged = 0.06 * np.sin(7 * angle + rng.uniform(0, 6)) if kind == 1 else 0
    size = rng.uniform(0.2, 0.3)
    inside = np.hypot(x - rng.uniform(-0.1, 0.1), y - rng.uniform(-0.1, 0.1)) < size + ragged
    skin[inside] = np.array([(0.5, 0.32, 0.22), (0.22, 0.16, 0.16), (0.72, 0.3, 0.28)][kind])
    if kind == 2:
        skin[inside & (rng.random((side, side)) < 0.06)] = 0.95
    picture = skin * np.asarray(light) + rng.normal(0, 0.03, skin.shape)
    return (np.clip(picture, 0, 1) * 255).astype(np.uint8)


def nodule(
    kind: int, rng: np.random.Generator, shape: tuple[int, int, int] = (12, 24, 24)
) -> Image:
    """A CT with one nodule, in HU + 1024: solid (0) or of ground glass in grains (1)."""
    z, y, x = (np.arange(n)[s] for n, s in zip(shape, _axes(), strict=True))
    centre = [n / 2 + rng.uniform(-0.1, 0.1) * n for n in shape]
    spacing = shape[1] / shape[0]
    distance = np.sqrt(
        ((z - centre[0]) * spacing) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
    )
    inside = distance < rng.uniform(0.2, 0.32) * shape[1]
    lung = rng.normal(-850, 40, shape)
    solid = rng.normal(30, 40, shape)
    grains = np.where(rng.random(shape) < 0.5, -650.0, -50.0) + rng.normal(0, 60, shape)
    volume = np.where(inside, grains if kind else solid, lung)
    return np.clip(volume + 1024, 0, 4095).astype(np.uint16)


def _axes() -> tuple[Any, Any, Any]:
    return np.s_[:, None, None], np.s_[None, :, None], np.s_[None, None, :]


def organ(
    rng: np.random.Generator, shape: tuple[int, ...] = (48, 48), contrast: float = 1.0
) -> tuple[Image, Image]:
    """An ellipse somewhere, of another echo than what is around it; its image and its mask."""
    axes = np.meshgrid(*[np.arange(n) / n - 0.5 for n in shape], indexing="ij")
    distance = np.zeros(shape)
    for axis in axes:
        distance += ((axis - rng.uniform(-0.22, 0.22)) / rng.uniform(0.14, 0.24)) ** 2
    mask = distance < 1
    speckle = rng.gamma(6, 1 / 6, shape)
    image = np.where(mask, 0.25, 0.6) * speckle * contrast
    bright = rng.random(shape) < 0.03  # a threshold alone isn't enough
    image = np.where(bright, 0.1, image)
    return np.clip(image * 200, 0, 255).astype(np.uint8), mask.astype(np.uint8)
