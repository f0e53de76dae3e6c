"""The pictures of a TIFF slide: which stay, and which show or may show the label.

Aperio: tiled directories are the pyramid; of the others, the second is a thumbnail of the scanned
tissue, and NewSubfileType 1 and 9 are label and macro. NDPI: SourceLens (65421) above 0 is a level,
-1 the macro, -2 the map of focus points. Elsewhere a picture stays only if it has the first one's
proportions, since a label or a view of the whole glass has others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from node.deid.reading import Unsafe
from node.deid.slides.facts import Format
from node.deid.slides.streams import COMPRESSIONS, NONE
from node.deid.slides.tiff import Directory, Numbers, Tiff

MAX_SIDE = 1 << 24
MAX_TILES = 1 << 22
"""Of all pictures together: at 256 x 256 pixels 275 gigapixels, ten times the largest scans."""
MAX_BLOB_PIXEL_BYTES = 1 << 31
SOURCE_LENS = 65421
_NAMES = re.compile(r"(?<![a-z])(label|macro|thumbnail|barcode|overview)(?![a-z])", re.IGNORECASE)
_SPEAKING = (270, 285, 269)
_READABLE_NAME_BYTES = 1 << 16


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture, and where its tiles or strips are: ``offsets`` and ``counts``, in bytes."""

    directory: Directory
    width: int
    height: int
    tile_width: int
    tile_height: int
    tiled: bool
    compression: int
    offsets: Numbers
    counts: Numbers
    pixel_bytes: Numbers
    """What each tile or strip takes uncompressed."""
    below: list[Picture] = field(default_factory=list)
    """Reduced copies of this picture, in SubIFDs."""


@dataclass(frozen=True, eq=False)
class Sorted:
    """The pictures that stay, and what is known of the others."""

    kept: list[Picture]
    removed: tuple[str, ...]
    removed_ranges: Numbers
    """Shape (n, 2): offset and size of what must not be within a kept tile."""

    @property
    def all_kept(self) -> list[Picture]:
        return [one for picture in self.kept for one in (picture, *picture.below)]


def sort_pictures(tiff: Tiff, form: Format) -> Sorted:
    """Decide about every picture of the file; ``Unsafe`` if the first can't be read."""
    kept: list[Picture] = []
    removed: list[str] = []
    ranges: list[tuple[int, int]] = []
    for index, directory in enumerate(tiff.directories):
        ranges += _structure_ranges(tiff, directory)
        name = _reason_to_remove(tiff, form, index, directory, kept)
        below = [] if form is Format.NDPI else tiff.directories_below(directory)
        for other in below:
            ranges += _structure_ranges(tiff, other)
        if name is not None:
            removed.append(name)
            for one in (directory, *below):
                ranges += _data_ranges(tiff, one)
            continue
        picture = read_picture(tiff, directory)
        for other in below:
            level = None if form is Format.APERIO else _level_below(tiff, other, picture)
            if level is None:
                removed.append("other")
                ranges += _data_ranges(tiff, other)
            else:
                picture.below.append(level)
        kept.append(picture)
    if not kept:
        raise Unsafe("unreadable-slide")
    table = np.array(ranges, np.uint64).reshape(-1, 2)
    found = Sorted(kept, tuple(removed), table)
    if sum(len(picture.counts) for picture in found.all_kept) > MAX_TILES:
        raise Unsafe("unreadable-slide")
    return found


def _reason_to_remove(
    tiff: Tiff, form: Format, index: int, directory: Directory, kept: list[Picture]
) -> str | None:
    if form is Format.NDPI:
        lens = _first(tiff, directory, SOURCE_LENS) or 0
        return None if lens > 0 else {-1.0: "macro", -2.0: "map"}.get(float(lens), "other")
    if index == 0:
        return None
    subfile = _first(tiff, directory, 254) or 0
    tiled = 322 in directory.entries
    name = spoken_name(tiff, directory)
    if form is Format.APERIO and (subfile == 9 or not tiled):
        if subfile in (1, 9):
            return "label" if subfile == 1 else "macro"
        if index != 1 or name in ("label", "macro"):
            return name or "other"
    elif name is not None or tiled != kept[0].tiled:
        return name or "other"
    return None if _is_like(tiff, directory, kept[0]) else name or "other"


def spoken_name(tiff: Tiff, directory: Directory) -> str | None:
    """Return what a directory's own texts call its picture: "label", "macro", "thumbnail"."""
    for tag in _SPEAKING:
        entry = directory.entries.get(tag)
        if entry is None or entry.kind not in (1, 2, 7):
            continue
        text = tiff.value(entry, _READABLE_NAME_BYTES).decode("latin-1")
        # Of an Aperio description, only the line about this picture: keys have names, too.
        found = _NAMES.search(text.partition("|")[0][:1000])
        if found is not None:
            name = found[0].lower()
            return {"barcode": "label", "overview": "macro"}.get(name, name)
    return None


def _is_like(tiff: Tiff, directory: Directory, first: Picture) -> bool:
    width, height = _first(tiff, directory, 256), _first(tiff, directory, 257)
    if not width or not height or width > first.width or height > first.height:
        return False
    expected = width * first.height / first.width
    return bool(abs(expected - height) <= 2 + 0.02 * height)


def _level_below(tiff: Tiff, directory: Directory, picture: Picture) -> Picture | None:
    if spoken_name(tiff, directory) is not None or not _is_like(tiff, directory, picture):
        return None
    if (322 in directory.entries) != picture.tiled:
        return None
    return read_picture(tiff, directory)


def _structure_ranges(tiff: Tiff, directory: Directory) -> list[tuple[int, int]]:
    found = [(directory.offset, directory.size)]
    values = (*directory.entries.values(), *directory.again)
    found += [(one.offset, one.size) for one in values if one.offset]
    return [(at, min(size, tiff.size - at)) for at, size in found if at < tiff.size]


def _data_ranges(tiff: Tiff, directory: Directory) -> list[tuple[int, int]]:
    """Where a removed picture's data is, as far as that can be read."""
    entries = directory.entries
    found: list[tuple[int, int]] = []
    for where, sizes in ((324, 325), (273, 279), (513, 514)):
        if where in entries and sizes in entries:
            try:
                pairs = zip(
                    tiff.unsigned(entries[where]), tiff.unsigned(entries[sizes]), strict=False
                )
                found += [(int(offset), int(size)) for offset, size in pairs]
            except Unsafe:
                continue
    return [(offset, size) for offset, size in found if offset + size <= tiff.size]


def _first(tiff: Tiff, directory: Directory, tag: int) -> float | int | None:
    entry = directory.entries.get(tag)
    values = tiff.numbers(entry, 1) if entry is not None else ()
    return values[0] if values else None


def whole(tiff: Tiff, directory: Directory, tag: int, default: int | None = None) -> int:
    """Return a tag's only whole number; ``Unsafe`` without one and without a default."""
    value = _first(tiff, directory, tag)
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or value < 0:
        raise Unsafe("unreadable-slide")
    return value


def read_picture(tiff: Tiff, directory: Directory) -> Picture:
    """Read a picture's geometry and the places of its data; ``Unsafe`` if they don't fit."""
    entries = directory.entries
    width, height = (whole(tiff, directory, tag) for tag in (256, 257))
    samples = whole(tiff, directory, 277, 1)
    planes = samples if whole(tiff, directory, 284, 1) == 2 else 1
    bits = max(tiff.numbers(entries[258], 64), default=0) if 258 in entries else 1
    tiled = 322 in entries
    tile_width = whole(tiff, directory, 322) if tiled else width
    rows = whole(tiff, directory, 323) if tiled else whole(tiff, directory, 278, height)
    rows = rows if tiled else min(rows, height)
    sizes = (width, height, tile_width, rows)
    if not all(0 < size <= MAX_SIDE for size in sizes) or not 0 < samples <= 64:
        raise Unsafe("unreadable-slide")
    if not isinstance(bits, int) or not 0 < bits <= 64 or whole(tiff, directory, 32997, 1) != 1:
        raise Unsafe("unreadable-slide")
    across, down = -(-width // tile_width), -(-height // rows)
    count = across * down * planes
    compression = whole(tiff, directory, 259, 1)
    if compression not in COMPRESSIONS:
        raise Unsafe("slide-compression")
    if compression == NONE and whole(tiff, directory, 262, 1) == 6 and 530 in entries:
        raise Unsafe("slide-compression")  # subsampled pixels have sizes of their own
    wanted = (324, 325) if tiled else (273, 279)
    if count > MAX_TILES or any(
        tag not in entries or entries[tag].count != count for tag in wanted
    ):
        raise Unsafe("unreadable-slide")
    offsets, counts = (tiff.unsigned(entries[tag]) for tag in wanted)
    _check_places(offsets, counts, tiff.size)
    row_bytes = -(-tile_width * (samples // planes) * bits // 8)
    if row_bytes * rows > MAX_BLOB_PIXEL_BYTES and compression != 7:
        raise Unsafe("unreadable-slide")
    lines = np.full(count, rows, np.uint64)
    if not tiled:
        lines[down - 1 :: down] = height - (down - 1) * rows
    return Picture(
        directory, width, height, tile_width, rows, tiled, compression, offsets, counts,
        lines * np.uint64(row_bytes),
    )  # fmt: skip


def _check_places(offsets: Numbers, counts: Numbers, size: int) -> None:
    limit = np.uint64(size)
    if bool(((counts > limit) | (offsets > limit)).any()):
        raise Unsafe("truncated")
    if bool(((offsets + counts > limit) & (counts > 0)).any()):
        raise Unsafe("truncated")
    if bool(((offsets == 0) & (counts > 0)).any()):
        raise Unsafe("unreadable-slide")
