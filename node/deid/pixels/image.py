"""What a pixel cleaner is told of one instance, and what it answers: plain values, no dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from contract.errors import ConfigurationError

Bytes = bytes | memoryview


@dataclass(frozen=True, order=True)
class Box:
    """Pixels from column ``x0``, row ``y0`` up to, but without, column ``x1``, row ``y1``."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        return self.y1 - self.y0

    @property
    def area(self) -> int:
        return max(self.width, 0) * max(self.height, 0)

    def meet(self, other: Box) -> Box:
        """Return what both hold; its area is 0 when that is nothing."""
        return Box(
            max(self.x0, other.x0),
            max(self.y0, other.y0),
            min(self.x1, other.x1),
            min(self.y1, other.y1),
        )

    def join(self, other: Box) -> Box:
        """Return the smallest box around both."""
        return Box(
            min(self.x0, other.x0),
            min(self.y0, other.y0),
            max(self.x1, other.x1),
            max(self.y1, other.y1),
        )

    def grown(self, x: int, y: int, columns: int, rows: int) -> Box:
        """Return the box with a margin, within an image of ``rows`` and ``columns``."""
        return Box(
            max(self.x0 - x, 0),
            max(self.y0 - y, 0),
            min(self.x1 + x, columns),
            min(self.y1 + y, rows),
        )


@dataclass(frozen=True)
class Region:
    """Corners of a region of an ultrasound image, both within it (PS3.3 C.8.5.5.1.1)."""

    x0: int
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True)
class Palette:
    """Lookup tables of PALETTE COLOR (PS3.3 C.7.6.3.1.5 and .6), as their elements hold them."""

    entries: int
    first: int
    bits: int
    red: Bytes
    green: Bytes
    blue: Bytes
    little_endian: bool = True
    segmented: bool = False
    """The tables are those of Segmented ... Palette Color Lookup Table Data (PS3.3 C.7.9.2)."""


@dataclass(frozen=True)
class Image:
    """Image Pixel Module (PS3.3 C.7.6.3) and what tells where text may be."""

    transfer_syntax: str
    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    pixel_representation: int
    photometric: str
    planar: int = 0
    frames: int = 1
    little_endian: bool = True
    native: memoryview | None = None
    """The value of Pixel Data; or"""
    fragments: tuple[memoryview, ...] | None = None
    """the items of encapsulated Pixel Data that follow the basic offset table."""
    offsets: tuple[int, ...] = ()
    """Basic or extended offset table: where each frame's first item begins."""
    modality: str = ""
    sop_class: str = ""
    manufacturer: str = ""
    model: str = ""
    image_type: tuple[str, ...] = ()
    burned_in: str = ""
    regions: tuple[Region, ...] = ()
    palette: Palette | None = None
    floating: bool = False
    """Float or Double Float Pixel Data: ``bits_allocated`` of 32 or 64."""


Mode = Literal["off", "rules", "ocr"]


@dataclass(frozen=True)
class PixelSettings:
    """How pixels are cleaned. Sizes are of decoded pixels."""

    mode: Mode = "ocr"
    max_frame_bytes: int = 512 << 20
    max_total_bytes: int = 16 << 30
    max_frames: int = 65_536
    min_confidence: float = 0.8
    """Text read with less is not taken for harmless."""
    min_detection: float = 0.6
    """A place is taken for text from this probability on."""
    min_text_pixels: int = 7
    """Lower text than this can't be read, by people either."""
    threads: int = 1

    def __post_init__(self) -> None:
        if self.mode not in ("off", "rules", "ocr"):
            raise ConfigurationError('The mode of pixels is "off", "rules" or "ocr".')
        if not (1 <= self.threads <= 2 and 0 < self.min_detection < 1):
            raise ConfigurationError(
                "Pixels are read with one or two threads and a detection below 1."
            )
        if not 0 < self.min_confidence <= 1:
            raise ConfigurationError("The confidence of pixels is above 0 and at most 1.")


@dataclass(frozen=True)
class Account:
    """What was done, for a report. Counts only: what was read stays out."""

    mode: Mode = "off"
    frames: int = 0
    frames_searched: int = 0
    """Frames that a text detector saw; the prefilter or equal text in another spared the others."""
    frames_changed: int = 0
    boxes_found: int = 0
    boxes_removed: int = 0
    boxes_unreadable: int = 0
    """Of the removed: text in a script that can't be read, taken away to be safe."""
    by_rule: int = 0


@dataclass(frozen=True)
class Cleaned:
    """The outcome. Where ``changed`` is false, pixels and all attributes pass as they are.

    Otherwise one of three holds the new value of Pixel Data:

    - ``patches()``: native pixels in place; yields ``(offset, bytes)``, ascending and disjoint;
    - ``fragments``: encapsulated pixels in the same syntax, one tuple of items for each frame;
    - ``native()``: frames of pixels that were encapsulated and now are native, ``native_length``
      bytes in all (an odd length wants one byte of padding).

    The attributes that follow it are those to write with it.
    """

    changed: bool
    transfer_syntax: str
    photometric: str
    planar: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    pixel_representation: int
    account: Account
    boxes: Mapping[int, tuple[Box, ...]] = field(default_factory=dict)
    """Frame, from 0: what was blacked out."""
    patches: Callable[[], Iterator[tuple[int, bytes]]] | None = None
    fragments: tuple[tuple[Bytes, ...], ...] | None = None
    native: Callable[[], Iterator[bytes]] | None = None
    native_length: int = 0
