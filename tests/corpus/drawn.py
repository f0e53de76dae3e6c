"""Identifiers as pixels: burned-in text, overlays, icons, and comments of compressed streams."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataelem import DataElement
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence

from tests.corpus import encode
from tests.corpus.key import Box
from tests.corpus.patients import date_notations, normal
from tests.corpus.pixels import frames
from tests.corpus.sheet import Sheet, item

HARMLESS = (
    "MI 1.1", "TIS 0.5", "5 cm", "FR 32Hz", "12 cm", "Gain 50", "120 kV", "L", "R", "SUPINE",
    "2D 70%", "Z 1.4", "Im 3/24", "W 400 L 40", "TR 2000", "PORTABLE", "80 mA", "10 mm",
)  # fmt: skip
CJK = "/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf"


@cache
def _font(size: int, text: str) -> Any:
    if text.isascii() or all(ord(c) < 0x530 for c in text):
        import matplotlib

        ttf = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"
        return ImageFont.truetype(ttf, size)
    return ImageFont.truetype(CJK, size)


def mask(text: str, size: int) -> NDArray[np.bool_]:
    """Return the text as a picture, cropped to what is drawn."""
    font = _font(size, text)
    _left, _top, right, bottom = font.getbbox(text)
    image = Image.new("L", (int(right) + 2, int(bottom) + 2))
    ImageDraw.Draw(image).text((0, 0), text, font=font, fill=255)
    array = np.asarray(image) > 110
    rows, columns = np.flatnonzero(array.any(1)), np.flatnonzero(array.any(0))
    return array[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def lines(sheet: Sheet) -> list[str]:
    """Return identifying lines as a device draws them."""
    p, random = sheet.patient, sheet.random
    latin = random.choice((p.person.dicom.split("=")[0].replace("^", " "),
                           f"{p.person.family.latin}, {p.person.given.latin}".upper(),
                           f"{p.person.given.latin} {p.person.family.latin}"))  # fmt: skip
    found = [latin, random.choice((f"ID: {p.mrn}", p.mrn)), f"DOB {date_notations(p.birth)[2]}"]
    if p.person.native != latin and _drawable(p.person.native):
        found.insert(0, p.person.native)
    found.append(
        random.choice((p.institution if _drawable(p.institution) else p.town, p.accessions[0]))
    )
    return [line for line in found[: random.randrange(2, 5)] if _drawable(line)]


def burn(sheet: Sheet, *, frame: int = -1) -> bool:
    """Draw identifying and harmless text into pixels and store them in the same syntax."""
    ds, random = sheet.dataset, sheet.random
    if not encode.can(ds) or ds.Rows < 200 or ds.Columns < 200:
        return False
    array = frames(ds).copy()
    _, height, _width = array.shape[:3]
    size = random.choice([s for s in (11, 14, 18, 24, 32, 44) if s < height / 12])
    texts = [(text, False) for text in lines(sheet)]
    texts += [(text, True) for text in random.sample(HARMLESS, 3)]
    quiet, plane = _activity(array)
    boxes = []
    for text, harmless in texts:
        ink = mask(text, size)
        place = _quiet_place(
            random, quiet, plane, ink.shape, boxes[-1][2] if boxes else None, harmless
        )
        if place is not None:
            boxes.append((text, ink, place, harmless))
            left, top = place
            around = 14 if harmless else 4
            quiet[max(0, top - around) : top + ink.shape[0] + around,
                  max(0, left - around) : left + ink.shape[1] + around] = np.inf  # fmt: skip
            if not harmless:
                _reserve(quiet, place, ink.shape)
    inks = _inks(ds, array)
    picked = slice(None) if frame < 0 else slice(frame, frame + 1)
    for _, drawn, (x, y), _ in boxes:
        region = array[picked, y : y + drawn.shape[0], x : x + drawn.shape[1]]
        ink = max(inks, key=lambda ink: abs(float(region.mean()) - ink))
        region[:, drawn] = ink
    encode.store(ds, array)
    for text, drawn, (x, y), harmless in boxes:
        box = (x, y, x + drawn.shape[1], y + drawn.shape[0])
        sheet.boxes.append(Box(sheet.number, "pixels", frame, box, text, harmless))
    if random.random() < 0.4:
        ds.BurnedInAnnotation = "YES"
    elif "BurnedInAnnotation" in ds:
        del ds.BurnedInAnnotation
    return True


def overlay(sheet: Sheet) -> None:
    """Draw a name into an overlay plane, and name it in the overlay's texts (PS3.3 C.9.2)."""
    ds, p, kind = sheet.dataset, sheet.patient, "overlay and curve text"
    if "Rows" not in ds or ds.Rows < 64 or ds.Columns < 150 or 0x60000010 in ds:
        return
    plane = np.zeros((ds.Rows, ds.Columns), dtype=np.uint8)
    text = f"{p.person.family.latin} {p.mrn}"
    drawn = mask(text, 11)[:, : ds.Columns - 10]
    plane[20 : 20 + drawn.shape[0], 5 : 5 + drawn.shape[1]] = drawn
    packed = np.packbits(plane.ravel(), bitorder="little").tobytes()
    for element, vr, value in (
        (0x0010, "US", ds.Rows), (0x0011, "US", ds.Columns), (0x0040, "CS", "G"),
        (0x0050, "SS", [1, 1]), (0x0100, "US", 1), (0x0102, "US", 0),
        (0x3000, "OW", packed + b"\0" * (len(packed) % 2)),
    ):  # fmt: skip
        ds.add_new(0x60000000 | element, vr, value)
    box = (5, 20, 5 + drawn.shape[1], 20 + drawn.shape[0])
    sheet.boxes.append(Box(sheet.number, "overlay", 0, box, text, False))
    for tag, limit, vr in ((0x60000022, 64, "LO"), (0x60001500, 64, "LO"), (0x60004000, 500, "LT")):
        made = sheet.sentence(limit)
        ds.add_new(tag, vr, sheet.written(made.text))
        for _, value, tokens in made.identifiers:
            sheet.plant(kind, f"{tag:08X}", value, tokens)


def curve(sheet: Sheet) -> None:
    """Add a curve (retired, PS3.3-2004 C.10.2) whose label and data name the patient."""
    ds, p, kind = sheet.dataset, sheet.patient, "overlay and curve text"
    text = f"{normal(p.person.family.latin)} {p.mrn}".encode()
    for element, vr, value in (
        (0x0005, "US", 1), (0x0010, "US", 16), (0x0020, "CS", "ECG"), (0x0103, "US", 0),
        (0x2500, "LO", p.person.family.latin), (0x3000, "OW", text.ljust(64, b"\0")),
    ):  # fmt: skip
        ds.add_new(0x50000000 | element, vr, value)
    sheet.plant(kind, "50002500", p.person.family.latin)
    sheet.plant(kind, "50003000", p.mrn)


def icon(sheet: Sheet) -> None:
    """Add an icon that shows a name (PS3.3 C.7.6.1.1.6)."""
    if "Rows" not in sheet.dataset:
        return
    text = sheet.patient.person.family.latin
    plane = np.full((64, 128), 30, dtype=np.uint8)
    drawn = mask(text, 14)[:, :120]
    plane[20 : 20 + drawn.shape[0], 4 : 4 + drawn.shape[1]][drawn] = 255
    made = item(
        SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2", Rows=64, Columns=128,
        BitsAllocated=8, BitsStored=8, HighBit=7, PixelRepresentation=0,
    )  # fmt: skip
    made.add(DataElement(0x7FE00010, "OB", plane.tobytes()))
    sheet.dataset.IconImageSequence = Sequence([made])
    box = (4, 20, 4 + drawn.shape[1], 20 + drawn.shape[0])
    sheet.boxes.append(Box(sheet.number, "icon", 0, box, text, False))


def stream_comments(sheet: Sheet) -> None:
    """Write the name into comments and application segments of JPEG and JPEG 2000 frames."""
    ds, p = sheet.dataset, sheet.patient
    if "PixelData" not in ds or not ds["PixelData"].is_undefined_length:
        return
    count = int(ds.get("NumberOfFrames", 1) or 1)
    family = normal(p.person.family.latin)
    text = f"{family} {p.mrn}".encode("ascii", "replace")
    parts = [
        _commented(bytes(f), text) for f in generate_frames(ds.PixelData, number_of_frames=count)
    ]
    if None in parts or any(
        name in ds for name in ("ExtendedOffsetTable", "EncapsulatedPixelDataValueTotalLength")
    ):
        return
    ds.PixelData = encapsulate([part for part in parts if part is not None])
    ds["PixelData"].is_undefined_length = True
    sheet.plant("compressed stream comments", "7FE00010", p.mrn, (family, normal(p.mrn)))


def _commented(frame: bytes, text: bytes) -> bytes | None:
    size = (len(text) + 2).to_bytes(2, "big")
    if frame[:3] == b"\xff\xd8\xff":
        exif = b"Exif\0\0" + text
        segments = b"\xff\xfe" + size + text
        segments += b"\xff\xe5" + (len(exif) + 2).to_bytes(2, "big") + exif
        return frame[:2] + segments + frame[2:]
    if frame[:4] == b"\xff\x4f\xff\x51":
        end = 4 + int.from_bytes(frame[4:6], "big")
        comment = b"\xff\x64" + (len(text) + 4).to_bytes(2, "big") + b"\0\1" + text
        return frame[:end] + comment + frame[end:]
    return None


def _activity(array: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how much is drawn at each pixel already, and its brightness from 0 to 1."""
    plane = array.astype(np.float64).mean(axis=(0, 3))
    scale = max(float(plane.max() - plane.min()), 1.0)
    plane = (plane - plane.min()) / scale
    down, right = np.gradient(plane)
    return np.asarray(np.hypot(down, right)), plane


def _quiet_place(
    random: Random, activity: NDArray[np.float64], plane: NDArray[np.float64],
    shape: tuple[int, ...], after: tuple[int, int] | None, harmless: bool,
) -> tuple[int, int] | None:  # fmt: skip
    """Return left and top where nothing else is drawn, below the last text if it can be."""
    height, width = shape
    rows, columns = activity.shape[0] - height - 4, activity.shape[1] - width - 4
    if rows < 4 or columns < 4:
        return None
    tried = [(random.randrange(2, columns), random.randrange(2, rows)) for _ in range(60)]
    if after is not None and not harmless:
        tried.insert(0, (min(after[0], columns), min(after[1] + height + 8, rows)))

    def drawn(place: tuple[int, int]) -> float:
        left, top = place
        area = slice(top - 2, top + height + 2), slice(left - 2, left + width + 2)
        return float(activity[area].mean() + plane[area].std() / 2)

    best = tried[0] if after is not None and drawn(tried[0]) < 0.02 else min(tried, key=drawn)
    return best if np.isfinite(drawn(best)) else None


def _reserve(activity: NDArray[np.float64], place: tuple[int, int], shape: tuple[int, ...]) -> None:
    """Keep harmless text out of the margin that may be blacked out around an identifier."""
    left, top = place
    area = activity[
        max(0, top - 24) : top + shape[0] + 24, max(0, left - 40) : left + shape[1] + 40
    ]
    area += 0.5


def _inks(dataset: Any, array: NDArray[Any]) -> list[int]:
    """Return the stored values of black and white, one of which is seen on any background."""
    if "RedPaletteColorLookupTableData" in dataset:
        return [_brightest_entry(dataset)]
    if array.dtype.kind == "u" and array.dtype.itemsize == 1:
        return [0, 255]
    return [int(array.min()), max(int(array.max()), int(array.min()) + 1)]


def _brightest_entry(dataset: Any) -> int:
    """Return the palette's index that shows brightest."""
    first = int(dataset.RedPaletteColorLookupTableDescriptor[1])
    bits = int(dataset.RedPaletteColorLookupTableDescriptor[2])
    dtype = np.uint16 if bits == 16 else np.uint8
    channels = [
        np.frombuffer(dataset[f"{c}PaletteColorLookupTableData"].value, dtype).astype(int)
        for c in ("Red", "Green", "Blue")
    ]
    size = min(len(c) for c in channels)
    return first + int(np.argmax(sum(c[:size] for c in channels)))


def _drawable(text: str) -> bool:
    korean = any(0xAC00 <= ord(c) <= 0xD7A3 for c in text)  # not in that font
    return all(ord(c) < 0x530 for c in text) or (Path(CJK).is_file() and not korean)
