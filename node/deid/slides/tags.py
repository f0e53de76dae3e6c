"""Which tags of a kept picture are written, each read and made anew.

Of a tag with numbers, as many are taken as its meaning needs, so that a longer value carries
nothing over. Texts come from closed lists (``texts``). EXIF and GPS directories, XMP, IPTC,
Photoshop blocks, dates, names, every private tag but those listed: nothing of them is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from node.deid.reading import Unsafe
from node.deid.slides import texts
from node.deid.slides.facts import Format
from node.deid.slides.icc import MAX_BYTES, clean_profile
from node.deid.slides.layout import Field, numbers, rationals, words
from node.deid.slides.pictures import Picture, whole
from node.deid.slides.streams import clean_tables
from node.deid.slides.tiff import (
    LONG,
    SHORT,
    SIGNED,
    UNDEFINED,
    Directory,
    Tiff,
)

FLOAT = 11
_SHORTS = {
    259: 1, 262: 1, 266: 1, 274: 1, 277: 1, 284: 1, 296: 1, 317: 1, 530: 2, 531: 1,
}  # fmt: skip
_LONGS = {254: 1, 256: 1, 257: 1, 278: 1, 322: 1, 323: 1, 32997: 1}
_FRACTIONS = {282: 1, 283: 1, 529: 3, 532: 6}
_PER_SAMPLE = (258, 338, 339)
_NDPI = {
    65420: LONG, 65421: FLOAT, 65422: SIGNED, 65423: SIGNED, 65424: SIGNED, 65433: LONG,
    65435: LONG, 65436: LONG, 65437: LONG, 65438: LONG, 65441: LONG, 65444: LONG, 65451: FLOAT,
}  # fmt: skip
"""Technical numbers of NDPI, each single: lens, offsets, focal plane, channel, wavelength."""
DESCRIPTION, MAKE, MODEL, SOFTWARE, PROFILE, TABLES = 270, 271, 272, 305, 34675, 347
MCU_STARTS, MCU_STARTS_HIGH, FILTER, PROPERTIES = 65426, 65432, 65434, 65449
IMAGE_ID = 32781
"""What identifies the original picture (TIFF technical notes for PageMaker 6, ImageID)."""
MAX_TEXT_BYTES = 4 << 20
MAX_TABLES_BYTES = 1 << 16


@dataclass(frozen=True)
class Said:
    """The texts of a picture's directory, as they may be said."""

    maker: str | None
    model: str | None
    stain: str | None


@dataclass(frozen=True)
class Tags:
    """The tags of one picture, but for where its data is."""

    fields: list[Field]
    said: Said
    description: str
    """The new ImageDescription, "" without one."""
    rewritten: int


class Rebuilder:
    """Makes the tags of every kept picture of one file."""

    def __init__(self, tiff: Tiff, form: Format, planes: int, allow: Callable[[str], bool]) -> None:
        """``planes`` is how many main directories stay; ``allow`` has the last word on a text."""
        self._tiff, self._form, self._planes, self._allow = tiff, form, planes, allow

    def rebuild(self, picture: Picture, index: int) -> Tags:
        """Return the tags of the main directory ``index``, or of one below it (index -1)."""
        directory = picture.directory
        fields = self._structure(directory)
        found = self._texts(picture, index)
        fields += [words(tag, text) for tag, text in found.items()]
        if self._form is Format.NDPI:
            fields += self._ndpi(picture)
        rewritten = sum(tag in found for tag in (DESCRIPTION, PROPERTIES))
        return Tags(fields, self._said(directory, found), found.get(DESCRIPTION, ""), rewritten)

    def _structure(self, directory: Directory) -> list[Field]:
        order, entries = self._tiff.order, directory.entries
        fields = []
        for kind, table in ((SHORT, _SHORTS), (LONG, _LONGS)):
            for tag, most in table.items():
                values = self._whole_numbers(directory, tag, most)
                if values:
                    fields.append(numbers(order, tag, kind, values))
        samples = whole(self._tiff, directory, 277, 1)
        for tag in _PER_SAMPLE:
            values = self._whole_numbers(directory, tag, samples)
            if values:
                fields.append(numbers(order, tag, SHORT, values))
        for tag, most in _FRACTIONS.items():
            parts = self._fractions(directory, tag, most)
            if parts:
                fields.append(rationals(order, tag, parts))
        if whole(self._tiff, directory, 262, 1) == 3:
            fields.append(self._palette(directory))
        if TABLES in entries and entries[TABLES].size <= MAX_TABLES_BYTES:
            tables = clean_tables(self._tiff.value(entries[TABLES]))
            fields.append(Field(TABLES, UNDEFINED, len(tables), tables))
        if PROFILE in entries and entries[PROFILE].size <= MAX_BYTES:
            profile = clean_profile(self._tiff.value(entries[PROFILE]))
            if profile is not None:
                fields.append(Field(PROFILE, UNDEFINED, len(profile), profile))
        return fields

    def _whole_numbers(self, directory: Directory, tag: int, most: int) -> list[int]:
        entry = directory.entries.get(tag)
        values = () if entry is None else self._tiff.numbers(entry, most)
        return [value for value in values if isinstance(value, int) and value >= 0]

    def _fractions(self, directory: Directory, tag: int, most: int) -> list[Fraction]:
        entry = directory.entries.get(tag)
        if entry is None or entry.kind == UNDEFINED:
            return []
        found = self._tiff.numbers(entry, most)
        if not all(math.isfinite(value) for value in found):
            return []
        values = [Fraction(value) for value in found]
        good = all(
            value >= 0 and max(value.numerator, value.denominator) < 1 << 32 for value in values
        )
        return values if good and len(values) == most else []

    def _palette(self, directory: Directory) -> Field:
        entry = directory.entries.get(320)
        bits = whole(self._tiff, directory, 258, 1)
        if entry is None or bits > 16 or entry.count != 3 << bits or entry.kind != SHORT:
            raise Unsafe("unreadable-slide")
        return Field(320, SHORT, entry.count, self._tiff.value(entry))

    def _texts(self, picture: Picture, index: int) -> dict[int, str]:
        directory = picture.directory
        found: dict[int, str | None] = {
            MAKE: texts.maker(self._text(directory, MAKE)),
            MODEL: texts.model(self._text(directory, MODEL)),
            SOFTWARE: texts.software(self._text(directory, SOFTWARE)),
        }
        description = self._text(directory, DESCRIPTION)
        if self._form is Format.APERIO and description.startswith(texts.APERIO):
            found[DESCRIPTION] = texts.aperio(description, picture.width, picture.height)
        elif self._form is Format.NDPI:
            found[MAKE] = "Hamamatsu"  # by which readers know the format
            found[FILTER] = texts.stain(self._text(directory, FILTER))
            if PROPERTIES in directory.entries:
                found[PROPERTIES] = texts.ndpi_properties(self._text(directory, PROPERTIES))
        elif index == 0 and "OME" in description[-16:]:
            found[DESCRIPTION] = texts.ome(description, self._planes)
        built = (DESCRIPTION, PROPERTIES, *((MAKE,) if self._form is Format.NDPI else ()))
        return {
            tag: text for tag, text in found.items() if text and (tag in built or self._allow(text))
        }

    def _text(self, directory: Directory, tag: int) -> str:
        entry = directory.entries.get(tag)
        if entry is None or entry.kind not in (1, 2, 7) or entry.size > MAX_TEXT_BYTES:
            return ""
        encoding = "utf-8" if tag == DESCRIPTION and self._form is Format.TILED_TIFF else "latin-1"
        return self._tiff.value(entry).decode(encoding, "replace").rstrip("\0")

    def _said(self, directory: Directory, found: dict[int, str]) -> Said:
        declared = found.get(FILTER)
        if self._form is Format.APERIO:
            values = texts.pairs(self._text(directory, DESCRIPTION), "|")
            declared = texts.stain(values.get("Stain", ""))
            if declared is not None and not self._allow(declared):
                declared = None
        maker, model = found.get(MAKE), found.get(MODEL)
        if self._form is Format.APERIO:
            maker = maker or texts.APERIO
            model = model or texts.aperio_model(found.get(DESCRIPTION, ""))
        return Said(maker, model, declared)

    def _ndpi(self, picture: Picture) -> list[Field]:
        order, directory = self._tiff.order, picture.directory
        fields = []
        for tag, kind in _NDPI.items():
            entry = directory.entries.get(tag)
            values = self._tiff.numbers(entry, 1) if entry is not None else ()
            if values and (kind == FLOAT or isinstance(values[0], int)):
                fields.append(numbers(order, tag, kind, values))
        return fields + self._restarts(picture)

    def _restarts(self, picture: Picture) -> list[Field]:
        """Where each restart interval begins, counted from the strip: only if that is what it is.

        Readers that miss them search the strip for restart markers.
        """
        entries, order = picture.directory.entries, self._tiff.order
        if MCU_STARTS not in entries:
            return []
        low = self._tiff.unsigned(entries[MCU_STARTS])
        starts = low.copy()
        fields = [Field(MCU_STARTS, LONG, len(low), low.astype(f"{order}u4").tobytes())]
        if MCU_STARTS_HIGH in entries:
            high = self._tiff.unsigned(entries[MCU_STARTS_HIGH])
            if len(high) != len(low):
                return []
            starts |= high << np.uint64(32)
            data = high.astype(f"{order}u4").tobytes()
            fields.append(Field(MCU_STARTS_HIGH, LONG, len(high), data))
        rising = bool((starts[1:] > starts[:-1]).all()) and bool(starts[-1] < picture.counts[0])
        return fields if len(starts) and rising else []


def micrometres(tiff: Tiff, directory: Directory) -> tuple[float | None, float | None]:
    """Return micrometres a pixel by the resolution tags, None where they say nothing credible."""
    unit = whole(tiff, directory, 296, 2)
    length = {2: 25400, 3: 10000}.get(unit)
    found: list[float | None] = []
    for tag in (282, 283):
        entry = directory.entries.get(tag)
        values = tiff.numbers(entry, 1) if entry is not None else ()
        value = float(length / values[0]) if length and values and values[0] > 0 else None
        found.append(value if value is not None and 0.01 <= value <= 100 else None)
    return found[0], found[1]
