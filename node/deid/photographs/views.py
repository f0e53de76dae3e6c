"""A picture as people see it: 8-bit RGB, whatever its samples are, and which way up."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from node.deid.photographs.container import Pixels, Stripped
from node.deid.pixels.image import Box

Picture = npt.NDArray[np.uint8]


def views(stripped: Stripped, pixels: Pixels) -> list[Picture]:
    """Return the pictures, shape (rows, columns, 3), in which all that can be seen is seen.

    Most have one. A picture with transparency has several: colours under it can be shown again by
    anybody, and what is drawn by transparency alone shows on one background.
    """
    if stripped.meaning == "palette" and stripped.palette is not None:
        table = (stripped.palette.T >> 8).astype(np.uint8)
        index = pixels.astype(np.intp)
        return [table[np.clip(index, 0, len(table) - 1)]]
    samples = _bytes(pixels)
    if samples.ndim == 2:
        return [_grey(255 - samples if stripped.meaning == "inverted-grey" else samples)]
    if stripped.meaning == "cmyk":
        # Adobe's files hold the inverse of what they say; one of both is the picture.
        ink = samples[..., :4].astype(np.uint16)
        inverse = 255 - ink
        return [(part[..., :3] * part[..., 3:] // 255).astype(np.uint8) for part in (ink, inverse)]
    colours = samples[..., :1] if stripped.meaning in ("grey", "inverted-grey") else samples
    if stripped.meaning == "inverted-grey":
        colours = 255 - colours
    colours = _grey(colours[..., 0]) if colours.shape[-1] < 3 else colours[..., :3]
    if samples.shape[-1] in (1, 3):
        return [np.ascontiguousarray(colours)]
    alpha = samples[..., -1:]
    if alpha.min() == 255:
        return [np.ascontiguousarray(colours)]
    share = alpha.astype(np.uint16)
    on_white = (colours * share + 255 * (255 - share)) // 255
    return [np.ascontiguousarray(colours), on_white.astype(np.uint8), _grey(alpha[..., 0])]


def upright(picture: Picture, orientation: int) -> Picture:
    """Return the picture as it is to be shown (Exif 2.32, tag 274)."""
    if orientation >= 5:
        picture = picture.swapaxes(0, 1)
    down, across = _flips(orientation)
    return np.ascontiguousarray(picture[:: -1 if down else 1, :: -1 if across else 1])


def without_turn(box: Box, stripped: Stripped) -> Box:
    """Return the box, found in the upright picture, in the picture as it is stored."""
    width, height = stripped.width, stripped.height
    if stripped.orientation >= 5:
        width, height = height, width
    down, across = _flips(stripped.orientation)
    x0, x1 = (width - box.x1, width - box.x0) if across else (box.x0, box.x1)
    y0, y1 = (height - box.y1, height - box.y0) if down else (box.y0, box.y1)
    return Box(y0, x0, y1, x1) if stripped.orientation >= 5 else Box(x0, y0, x1, y1)


def _flips(orientation: int) -> tuple[bool, bool]:
    """Return whether rows and columns run backwards, after rows and columns changed places."""
    return {
        2: (False, True),
        3: (True, True),
        4: (True, False),
        6: (False, True),
        7: (True, True),
        8: (True, False),
    }.get(orientation, (False, False))


def _grey(samples: Picture) -> Picture:
    return np.repeat(samples[..., None], 3, axis=-1)


def _bytes(pixels: Pixels) -> Picture:
    """Return samples scaled to 8 bits; those of more than 8 bits by the range that is used."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * 255
    values = np.nan_to_num(pixels.astype(np.float64))
    low, high = float(values.min()), float(values.max())
    if pixels.dtype.kind == "u":
        low = 0.0
    scaled = (values - low) * (255.0 / (high - low)) if high > low else np.zeros_like(values)
    return scaled.astype(np.uint8)
