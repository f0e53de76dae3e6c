"""What a DICOM file's attributes say of its pixels (PS3.3 C.7.6.3, C.8.5.5, C.7.9)."""

from __future__ import annotations

import struct

from node.deid.elements import Elements, File
from node.deid.pixels.image import Image, Palette, Region

_REGIONS = 0x00186011
_CORNERS = (0x00186018, 0x0018601A, 0x0018601C, 0x0018601E)


class Header:
    """Reads attributes of one level: the data set, or an item."""

    def __init__(self, file: File, level: Elements | None = None) -> None:
        self.file = file
        self.level = level or file.dataset
        self.elements = {element.tag: element for element in self.level.elements}

    def raw(self, tag: int) -> bytes:
        """Return a value's bytes, empty without one."""
        element = self.elements.get(tag)
        if element is None or element.items is not None:
            return b""
        return bytes(self.file.data[element.start : element.end])

    def text(self, tag: int) -> str:
        """Return a value as text of the default repertoire."""
        return self.raw(tag).decode("latin-1").partition("\0")[0].strip()

    def texts(self, tag: int) -> tuple[str, ...]:
        """Return the values as text."""
        found = self.text(tag)
        return tuple(part.strip() for part in found.split("\\")) if found else ()

    def number(self, tag: int, default: int = 0) -> int:
        """Return a US, UL, SS, SL or IS."""
        raw, element = self.raw(tag), self.elements.get(tag)
        if element is None or not raw:
            return default
        return _number(raw, element.vr, self.level.little, default)


def image(
    header: Header,
    native: memoryview | None,
    fragments: tuple[memoryview, ...] | None,
    offsets: tuple[int, ...] = (),
) -> Image:
    """Return what a pixel cleaner is told of the file."""
    bits = header.number(0x00280100)
    stored = header.number(0x00280101, bits)
    return Image(
        transfer_syntax=header.file.transfer_syntax,
        rows=header.number(0x00280010),
        columns=header.number(0x00280011),
        samples=header.number(0x00280002, 1),
        bits_allocated=bits,
        bits_stored=stored,
        high_bit=header.number(0x00280102, stored - 1),
        pixel_representation=header.number(0x00280103),
        photometric=header.text(0x00280004),
        planar=header.number(0x00280006),
        frames=max(header.number(0x00280008, 1), 1),
        little_endian=header.level.little,
        native=native,
        fragments=fragments,
        offsets=offsets,
        modality=header.text(0x00080060),
        sop_class=header.text(0x00080016),
        manufacturer=header.text(0x00080070),
        model=header.text(0x00081090),
        image_type=header.texts(0x00080008),
        burned_in=header.text(0x00280301),
        regions=_regions(header),
        palette=_palette(header),
    )


def _regions(header: Header) -> tuple[Region, ...]:
    sequence = header.elements.get(_REGIONS)
    if sequence is None or not sequence.items:
        return ()
    found = []
    for item in sequence.items:
        corners = {}
        for element in item.elements:
            if element.tag in _CORNERS:
                raw = bytes(header.file.data[element.start : element.end])
                corners[element.tag] = _number(raw, element.vr, item.little, -1)
        if len(corners) == len(_CORNERS) and min(corners.values()) >= 0:
            found.append(Region(*(corners[tag] for tag in _CORNERS)))
    return tuple(found)


def _palette(header: Header) -> Palette | None:
    if header.text(0x00280004) != "PALETTE COLOR":
        return None
    raw = header.raw(0x00281101)
    order = "<" if header.level.little else ">"
    if len(raw) < 6:
        return None
    entries, first, bits = struct.unpack(f"{order}3H", raw[:6])
    red, green, blue = (header.raw(tag) for tag in (0x00281201, 0x00281202, 0x00281203))
    segmented = not red
    if segmented:
        red, green, blue = (header.raw(tag) for tag in (0x00281221, 0x00281222, 0x00281223))
    return Palette(entries, first, bits, red, green, blue, header.level.little, segmented)


def _number(raw: bytes, vr: str, little: bool, default: int) -> int:
    order = "<" if little else ">"
    try:
        if vr in ("IS", "DS"):
            return int(float(raw.split(b"\\")[0].strip(b" \0") or default))
        sizes = {"SS": "h", "SL": "l", "UL": "L", "US": "H"}
        form = sizes.get(vr) or ("H" if len(raw) < 4 else "L")
        return int(struct.unpack_from(order + form, raw)[0])
    except (ValueError, OverflowError, struct.error):
        return default
