"""Pictures with text, images of them in any native layout, and datasets as a cleaner sees them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont
from pydicom.encaps import generate_fragments, parse_basic_offsets
from pydicom.uid import UID, ExplicitVRLittleEndian

from node.deid.identifiers import Known, Matcher
from node.deid.pixels.frames import Frames, decode
from node.deid.pixels.image import Box, Cleaned, Image, Palette, PixelSettings

Array = NDArray[Any]
SETTINGS = PixelSettings()
NOBODY = Matcher(Known())
PATIENT = Matcher(
    Known(
        persons=frozenset(["Kowalczyk^Magdalena", "Ouyang^Xiaoming=欧阳^晓明", "Иванов^Пётр"]),
        numbers=frozenset(["ZV676936"]),
    )
)


def font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)


def letters(text: str, size: int) -> NDArray[np.bool_]:
    """Return the text as it is drawn, cropped."""
    picture = Picture.new("L", (size * (len(text) + 2), 2 * size))
    ImageDraw.Draw(picture).text((2, 2), text, font=font(size), fill=255)
    drawn = np.asarray(picture) > 110
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    return drawn[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def write(array: Array, text: str, x: int, y: int, size: int, ink: Any) -> Box:
    """Draw text into an array, rows x columns (x samples), and return where it is."""
    drawn = letters(text, size)
    box = Box(x, y, x + drawn.shape[1], y + drawn.shape[0])
    array[box.y0 : box.y1, box.x0 : box.x1][drawn] = ink
    return box


def tissue(rows: int, columns: int, seed: int = 1, top: int = 120) -> Array:
    """Return something smooth with noise, as scanners show it, from 0 to ``top``."""
    random = np.random.default_rng(seed)
    coarse = random.random((rows // 32 + 2, columns // 32 + 2)) * 200
    smooth = Picture.fromarray(coarse.astype(np.uint8)).resize((columns, rows), Picture.BICUBIC)
    noisy = np.asarray(smooth) * 0.8 + random.random((rows, columns)) * 12
    return np.asarray(noisy / noisy.max() * top).astype(np.uint8)


def native(array: Array, photometric: str = "MONOCHROME2", **changes: Any) -> Image:
    """Return an image of frames x rows x columns (x samples), interleaved and little endian."""
    samples = array.shape[3] if array.ndim == 4 else 1
    bits = array.dtype.itemsize * 8
    image = Image(
        transfer_syntax=ExplicitVRLittleEndian,
        rows=array.shape[1],
        columns=array.shape[2],
        samples=samples,
        bits_allocated=bits,
        bits_stored=bits,
        high_bit=bits - 1,
        pixel_representation=1 if array.dtype.kind == "i" else 0,
        photometric=photometric,
        frames=array.shape[0],
        native=memoryview(np.ascontiguousarray(array).tobytes()),
    )
    return replace(image, **changes)


def of_dataset(dataset: Any) -> Image:
    """Return what a cleaner is told of a dataset."""
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    value = dataset.PixelData
    types = dataset.get("ImageType") or ()
    palette = None
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        entries, first, bits = dataset.RedPaletteColorLookupTableDescriptor
        segmented = "RedPaletteColorLookupTableData" not in dataset
        prefix = "Segmented" if segmented else ""
        names = (f"{prefix}{c}PaletteColorLookupTableData" for c in ("Red", "Green", "Blue"))
        tables = (dataset[name].value for name in names)
        palette = Palette(entries, first, bits, *tables, segmented=segmented)
    image = Image(
        transfer_syntax=str(syntax),
        rows=dataset.Rows,
        columns=dataset.Columns,
        samples=dataset.SamplesPerPixel,
        bits_allocated=dataset.BitsAllocated,
        bits_stored=dataset.BitsStored,
        high_bit=dataset.HighBit,
        pixel_representation=dataset.PixelRepresentation,
        photometric=str(dataset.PhotometricInterpretation),
        planar=int(dataset.get("PlanarConfiguration", 0) or 0),
        frames=int(dataset.get("NumberOfFrames", 1) or 1),
        little_endian=syntax.is_little_endian,
        modality=str(dataset.get("Modality", "")),
        sop_class=str(dataset.get("SOPClassUID", "")),
        manufacturer=str(dataset.get("Manufacturer", "")),
        model=str(dataset.get("ManufacturerModelName", "")),
        image_type=(types,) if isinstance(types, str) else tuple(types),
        palette=palette,
    )
    if not syntax.is_encapsulated:
        return replace(image, native=memoryview(value))
    items = tuple(memoryview(item) for item in list(generate_fragments(value))[1:])
    return replace(image, fragments=items, offsets=tuple(parse_basic_offsets(value)))


def read(path: Path) -> Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return of_dataset(pydicom.dcmread(path))


def patched(image: Image, patches: Iterable[tuple[int, bytes]]) -> bytes:
    """Apply patches, which must be ascending and disjoint."""
    assert image.native is not None
    value, end = bytearray(image.native), 0
    for offset, new in patches:
        assert end <= offset and offset + len(new) <= len(value)
        end = offset + len(new)
        value[offset:end] = new
    return bytes(value)


def before(image: Image) -> list[Array]:
    """Return all frames in their own colour space."""
    frames = Frames(image, SETTINGS)
    if image.native is not None:
        return [frames.held(number) for number in range(image.frames)]
    return [frames.decoded(number, raw=True)[0] for number in range(image.frames)]


def after(image: Image, cleaned: Cleaned) -> list[Array]:
    """Return all frames as they are once the change is made."""
    if not cleaned.changed:
        return before(image)
    if cleaned.patches is not None:
        return before(replace(image, native=memoryview(patched(image, cleaned.patches()))))
    changed = replace(
        image,
        transfer_syntax=cleaned.transfer_syntax,
        photometric=cleaned.photometric,
        planar=cleaned.planar,
        bits_allocated=cleaned.bits_allocated,
        bits_stored=cleaned.bits_stored,
        high_bit=cleaned.high_bit,
        pixel_representation=cleaned.pixel_representation,
    )
    if cleaned.fragments is not None:
        assert all(len(item) % 2 == 0 for items in cleaned.fragments for item in items)
        return [decode(changed, items, raw=True)[0] for items in cleaned.fragments]
    assert cleaned.native is not None
    value = b"".join(cleaned.native())
    assert len(value) == cleaned.native_length
    return before(replace(changed, native=memoryview(value), fragments=None))


def outside(shape: tuple[int, ...], boxes: Iterable[Box], margin: int = 0) -> NDArray[np.bool_]:
    """Mask the pixels that are in none of the boxes."""
    mask = np.ones(shape[:2], bool)
    for box in boxes:
        rows = slice(max(box.y0 - margin, 0), box.y1 + margin)
        mask[rows, max(box.x0 - margin, 0) : box.x1 + margin] = False
    return mask


def likeness(old: Array, new: Array) -> float:
    """Return the correlation of two regions, 0 when one shows nothing."""
    a = old.astype(float).reshape(*old.shape[:2], -1)
    b = new.astype(float).reshape(*new.shape[:2], -1)
    a, b = a - a.mean((0, 1)), b - b.mean((0, 1))
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return abs(float((a * b).sum())) / scale if scale > 1e-9 else 0.0
