"""A MIRAX slide written anew: tiles and the camera's positions, and nothing else.

``Index.dat`` is a version, the slide's identifier and two roots of 32 bits: one leads to a pointer
for each zoom level, the other to one for each record outside the hierarchy (labels, previews,
scan data, profiles). A pointer leads to a zero and the first of a chain of pages, each of a count,
the next page, and (image, offset, size, file) or, outside, (0, 0, offset, size, file). Learnt from
OpenSlide's reader; 3DHISTECH publishes no description.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import zlib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from contract.errors import AlreadyExists, UsageError
from foundation.files import private_folder, storage_errors, sync_folder, write_new
from node.deid.pseudonyms import Pseudonyms
from node.deid.reading import Unsafe
from node.deid.slides.facts import Format, SlideFacts
from node.deid.slides.recognition import SLIDEDAT
from node.deid.slides.slidedat import MAX_BYTES, Slidedat, objective, read_slidedat, write_slidedat
from node.deid.slides.streams import JPEG, Blob, find_text
from node.deid.slides.writing import copy_blob, new_file

VERSION = b"01.02"
INDEX = "Index.dat"
_MAX_INDEX_BYTES = 512 << 20
_MAX_BLOB_BYTES = 64 << 20
_POSITION_BYTES = 9
_OURS = re.compile(r"\.?(Data\d{4}\.dat|Index\.dat|Slidedat\.ini)(\.[0-9a-f]{8})?")
_MAX_TILES = 1 << 23

Records = npt.NDArray[np.int64]
"""Shape (n, 4): image, offset, size and file of each tile."""


@dataclass(frozen=True, eq=False)
class _Index:
    levels: list[Records]
    positions: tuple[int, int, int] | None
    removed: list[tuple[int, int, int]]
    """(offset, size, file) of what stays behind."""


def clean_mirax(source: Path, target: Path, pseudonyms: Pseudonyms, subject: str) -> SlideFacts:
    """Write the slide of ``source`` (.mrxs) as ``target`` and the folder beside it.

    The .mrxs comes last: without it, a folder is the rest of a run that was cut off, and replaced.
    """
    if target.suffix != ".mrxs":
        raise UsageError("A MIRAX slide can only be written under a name that ends with .mrxs.")
    if target.exists():
        raise AlreadyExists("A cleaned slide exists already and is not overwritten.")
    old, new = source.with_suffix(""), target.with_suffix("")
    text = _read(old / SLIDEDAT, MAX_BYTES)
    slide = read_slidedat(text)
    index = _read_index(_read(old / slide.index_name, _MAX_INDEX_BYTES), slide)
    slide_id = pseudonyms.source(b"mirax", subject.encode(), slide.slide_id.encode())[:32].upper()
    building = new.with_name(f".{new.name}.building")
    with storage_errors(target), ExitStack() as cleanup:
        for rest in (building, new):
            _remove_rest(rest)
        private_folder(building)
        cleanup.callback(shutil.rmtree, building, ignore_errors=True)
        blanked, bytes_read = _write(old, building, slide, index, slide_id)
        building.rename(new)
        sync_folder(new.parent)
    # Its content is the same for no two slides, so that stores that go by content keep it apart.
    write_new(target, f"MIRAX {slide_id}\r\n".encode())
    written = sum(file.stat().st_size for file in new.iterdir())
    return _facts(slide, blanked, bytes_read + len(text), written)


def _remove_rest(folder: Path) -> None:
    if not folder.exists():
        return
    if not all(_OURS.fullmatch(file.name) for file in folder.iterdir()):
        raise AlreadyExists("The folder of a cleaned slide exists already and holds other files.")
    shutil.rmtree(folder)


def _read(path: Path, limit: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        raise Unsafe("unreadable-slide") from None
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Unsafe("too-large")
    return data


class _Numbers:
    """An Index.dat, read by 32-bit numbers."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def at(self, place: int, count: int) -> tuple[int, ...]:
        if place < 0 or place + 4 * count > len(self._data):
            raise Unsafe("truncated")
        return struct.unpack_from(f"<{count}i", self._data, place)

    def table(self, place: int, rows: int, columns: int) -> Records:
        if rows < 0 or place < 0 or place + 4 * rows * columns > len(self._data):
            raise Unsafe("truncated")
        flat = np.frombuffer(self._data, "<i4", rows * columns, place)
        return flat.astype(np.int64).reshape(rows, columns)

    def record(self, pointer: int, files: int) -> tuple[int, int, int]:
        """Return offset, size and file of a record outside the hierarchy."""
        zero, page = self.at(pointer, 2)
        rows, _, first, second, offset, size, file = self.at(page, 7)
        if zero or rows < 1 or first or second or not 0 <= file < files:
            raise Unsafe("unreadable-slide")
        return offset, size, file

    def pages(self, pointer: int) -> Records:
        """Return the tiles on all pages that the record at ``pointer`` leads to."""
        columns = 4
        zero, page = self.at(pointer, 2)
        if zero:
            raise Unsafe("unreadable-slide")
        tables: list[Records] = [np.zeros((0, columns), np.int64)]
        seen: set[int] = set()
        total = 0
        while page:
            if page in seen:
                raise Unsafe("unreadable-slide")
            seen.add(page)
            rows, following = self.at(page, 2)
            total += rows
            if total > _MAX_TILES:
                raise Unsafe("unreadable-slide")
            tables.append(self.table(page + 8, rows, columns))
            page = following
        return np.concatenate(tables)


def _read_index(data: bytes, slide: Slidedat) -> _Index:
    root = len(VERSION) + len(slide.slide_id.encode())
    if data[:root] != VERSION + slide.slide_id.encode():
        raise Unsafe("unreadable-slide")
    numbers = _Numbers(data)
    inside, outside = numbers.at(root, 2)
    levels = []
    for pointer in numbers.at(inside, len(slide.levels)):
        table = numbers.pages(pointer)
        if (table < 0).any() or (table[:, 3] >= len(slide.data_names)).any():
            raise Unsafe("unreadable-slide")
        if len(table) and (table[:, 0] // slide.images[0]).max() >= slide.images[1]:
            raise Unsafe("unreadable-slide")
        levels.append(table)
    positions, removed = None, []
    for number in range(len(slide.layer_names)):
        try:
            place = numbers.record(numbers.at(outside + 4 * number, 1)[0], len(slide.data_names))
        except Unsafe:
            if number == slide.positions_record:
                raise
            continue  # what is left behind need not be readable
        if number == slide.positions_record:
            positions = place
        else:
            removed.append(place)
    return _Index(levels, positions, removed)


def _write(old: Path, new: Path, slide: Slidedat, index: _Index, slide_id: str) -> tuple[int, int]:
    """Write the new folder; return how many comments were blanked and how much was read."""
    names = [f"Data{number:04d}.dat" for number in range(len(slide.data_names))]
    tiles = np.concatenate(index.levels)
    formats = np.concatenate([
        np.full(len(table), n, np.int64) for n, table in enumerate(index.levels)
    ])  # fmt: skip
    moved = tiles.copy()
    blanked = read = 0
    new_positions = None
    for number, (old_name, name) in enumerate(zip(slide.data_names, names, strict=True)):
        own = np.flatnonzero(tiles[:, 3] == number)
        with ExitStack() as stack:
            file = _open(old / old_name, stack)
            size = os.fstat(file.fileno()).st_size
            read += size
            places, inverse = np.unique(tiles[own, 1:3], axis=0, return_inverse=True)
            inverse = inverse.ravel()
            _check_apart(places, size, number, index)
            out = stack.enter_context(new_file(new / name))
            out.write(VERSION + slide_id.encode())
            starts = np.zeros(len(places), np.int64)
            levels = np.zeros(len(places), np.int64)
            levels[inverse] = formats[own]
            for place, (offset, length) in enumerate(places.tolist()):
                starts[place] = out.tell()
                image_format = slide.levels[int(levels[place])].image_format
                blanked += _copy(file, out, offset, length, image_format)
            moved[own, 1] = starts[inverse]
            if index.positions is not None and index.positions[2] == number:
                payload = _positions(file, slide, index.positions)
                new_positions = (out.tell(), len(payload), number)
                out.write(payload)
            if out.tell() >= 1 << 31:
                raise Unsafe("too-large")
    ends = np.cumsum([len(table) for table in index.levels])
    tables = np.split(moved, ends[:-1])
    write_new(new / INDEX, _index_bytes(slide_id, tables, new_positions))
    write_new(new / SLIDEDAT, write_slidedat(slide, slide_id, names, INDEX))
    return blanked, read


def _open(path: Path, stack: ExitStack) -> BinaryIO:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        raise Unsafe("truncated") from None
    return stack.enter_context(os.fdopen(descriptor, "rb"))


def _check_apart(places: Records, size: int, number: int, index: _Index) -> None:
    """Tiles may share a place, but neither reach into each other nor into what stays behind."""
    ends = places[:, 0] + places[:, 1]
    if len(places) and (ends.max() > size or places[:, 1].max() > _MAX_BLOB_BYTES):
        raise Unsafe("truncated")
    if (ends[:-1] > places[1:, 0]).any():
        raise Unsafe("unreadable-slide")
    for offset, length, file in index.removed:
        inside = (places[:, 0] < offset + length) & (ends > offset)
        if file == number and length > 0 and inside.any():
            raise Unsafe("unreadable-slide")


def _read_piece(file: BinaryIO, offset: int, size: int) -> bytes:
    data = os.pread(file.fileno(), size, offset)
    if len(data) != size:
        raise Unsafe("truncated")
    return data


def _copy(file: BinaryIO, out: BinaryIO, offset: int, size: int, image_format: str) -> int:
    data = _read_piece(file, offset, size)
    if not data:
        return 0

    def read(start: int, length: int) -> bytes:
        return data[start : start + length]

    if image_format == "JPEG":
        blanks = find_text(Blob(read, size), JPEG, 0)
    elif image_format == "PNG":
        _check_png(data)
        blanks = []
    else:
        blanks = Blob(read, size).rest(_bmp_bytes(data))
    copy_blob(out, read, 0, size, blanks)
    return len(blanks)


def _check_png(data: bytes) -> None:
    """Raise ``Unsafe`` for chunks that could hold text (PNG, third edition, section 11.3).

    They have checksums, so that they can't be overwritten in place.
    """
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise Unsafe("unreadable-slide")
    place = 8
    while place < len(data):
        if place + 12 > len(data):
            raise Unsafe("unreadable-slide")
        length, name = struct.unpack_from(">I4s", data, place)
        if name not in (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"sRGB", b"pHYs"):
            raise Unsafe("unreadable-slide")
        place += 12 + length
        if name == b"IEND":
            break
    if place > len(data) or data[place:].strip(b"\0"):
        raise Unsafe("unreadable-slide")


def _bmp_bytes(data: bytes) -> int:
    """Return how long a BMP of 24 bits is by its own header."""
    if len(data) < 54 or data[:2] != b"BM":
        raise Unsafe("unreadable-slide")
    begin, header, width, height = struct.unpack_from("<IIii", data, 10)
    depth = struct.unpack_from("<H", data, 28)[0]
    if begin != 54 or header != 40 or depth != 24 or width <= 0:
        raise Unsafe("unreadable-slide")
    return int(begin + (width * 3 + 3) // 4 * 4 * abs(height))


def _positions(file: BinaryIO, slide: Slidedat, record: tuple[int, int, int]) -> bytes:
    """Return the camera's positions, each a flag and two numbers, if the record holds them."""
    across, down = slide.images
    wanted = _POSITION_BYTES * (across // slide.divisions) * (down // slide.divisions)
    offset, size, _ = record
    if offset < 0 or not 0 < size <= max(2 * wanted + 1024, 0):
        raise Unsafe("unreadable-slide")
    data = _read_piece(file, offset, size)
    if slide.positions_deflated:
        stream = zlib.decompressobj()
        try:
            data = stream.decompress(data, wanted + 1)
        except zlib.error:
            raise Unsafe("unreadable-slide") from None
    if len(data) != wanted or any(flag > 1 for flag in data[::_POSITION_BYTES]):
        raise Unsafe("unreadable-slide")
    return zlib.compress(data) if slide.positions_deflated else data


def _index_bytes(
    slide_id: str, tables: list[Records], positions: tuple[int, int, int] | None
) -> bytes:
    head = VERSION + slide_id.encode()
    inside = len(head) + 8
    outside = inside + 4 * len(tables)
    place = outside + (4 if positions is not None else 0)
    pointers: list[int] = []
    body = b""
    for table in tables:
        pointers.append(place)
        body += struct.pack("<iiii", 0, place + 8, len(table), 0) + table.astype("<i4").tobytes()
        place += 16 + 16 * len(table)
    last = b""
    if positions is not None:
        last = struct.pack("<i", place)
        body += struct.pack("<iiiiii", 0, place + 8, 1, 0, 0, 0) + struct.pack("<iii", *positions)
    roots = struct.pack("<ii", inside, outside)
    return head + roots + struct.pack(f"<{len(pointers)}i", *pointers) + last + body


def _facts(slide: Slidedat, blanked: int, read: int, written: int) -> SlideFacts:
    first = slide.levels[0]
    tile_width, tile_height = (
        int(float(first.numbers[key])) for key in ("DIGITIZER_WIDTH", "DIGITIZER_HEIGHT")
    )
    overlaps = [float(first.numbers[key]) for key in ("OVERLAP_X", "OVERLAP_Y")]
    width, height = (
        int(count * size - (count - 1) // slide.divisions * overlap)
        for count, size, overlap in zip(
            slide.images, (tile_width, tile_height), overlaps, strict=True
        )
    )
    names = [
        _removed_name(name)
        for n, name in enumerate(slide.layer_names)
        if n != slide.positions_record
    ]
    kept = len(slide.general) + sum(len(level.numbers) + 1 for level in slide.levels)
    mpp = [float(first.numbers[f"MICROMETER_PER_PIXEL_{axis}"]) for axis in "XY"]
    return SlideFacts(
        format=Format.MIRAX,
        width=width,
        height=height,
        levels=len(slide.levels),
        tile_width=tile_width,
        tile_height=tile_height,
        objective=objective(slide),
        mpp_x=mpp[0],
        mpp_y=mpp[1],
        vendor="3DHISTECH",
        model=None,
        stain=None,
        removed_images=tuple(name for name in names if name),
        removed_tags=max(slide.keys - kept, 0),
        rewritten_texts=1,
        blanked_comments=blanked,
        icc_profile=False,
        bytes_read=read,
        bytes_written=written,
    )


def _removed_name(layer: str) -> str | None:
    """Return the picture that a layer outside the hierarchy is, None for one that is no picture."""
    pictures = {"SlideThumbnail": "macro", "SlideBarcode": "label", "SlidePreview": "thumbnail"}
    return next((name for word, name in pictures.items() if word in layer), None)
