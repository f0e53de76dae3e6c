"""All text of a written file, with the place of each: elements, tables' cells, runs in bytes."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from node.deid.charsets import Charset, parse_charset, readings
from node.deid.elements import PIXEL_DATA, Elements, File, parse, value
from node.deid.reading import Unsafe

_UNTOLD = frozenset(
    ["DS", "FD", "FL", "OD", "OF", "OL", "OV", "SL", "SS", "SV", "UL", "US", "UV", "AT"]
)
_LONGEST = 8 << 20
_STREAM = re.compile(rb"stream\r?\n(.*?)\r?\n?endstream", re.DOTALL)
_RUN = re.compile(rb"[0-9A-Za-z\x80-\xff][0-9A-Za-z\x80-\xff ._^,:/@-]{3,}")
_WIDE = re.compile(rb"(?:[\x20-\x7e]\0){4,}|(?:\0[\x20-\x7e]){4,}")
_PIECE, _OVERLAP = 4 << 20, 4096
_CHARSET = 0x00080005


@dataclass(frozen=True)
class Text:
    """A text, and where it is: an element's path of tags, or what kind of bytes."""

    place: str
    text: str
    is_uid: bool = False
    is_raw: bool = False
    """Found by the look of its bytes, so that short matches prove nothing."""


def of_dicom(file: File) -> Iterator[Text]:
    """Yield every value of every level that may hold text, in each encoding that its bytes fit."""
    for tag, raw in sorted(file.meta.items()):
        if tag not in (0x00020000, 0x00020001):
            yield from _readings(
                f"({tag >> 16:04x},{tag & 0xFFFF:04x})", raw, (), tag == 0x00020003
            )
    yield from _level(file, file.dataset, "", ())


def _level(file: File, scope: Elements, above: str, charset: Charset) -> Iterator[Text]:
    found = scope.get(_CHARSET)
    if found is not None:
        charset = parse_charset(value(file.data, found))
    for element in scope.elements:
        place = f"{above}({element.tag >> 16:04x},{element.tag & 0xFFFF:04x})"
        if element.items is not None:
            for number, item in enumerate(element.items, 1):
                yield from _level(file, item, f"{place}[{number}]", charset)
        elif element.tag != PIXEL_DATA and element.vr not in _UNTOLD and element.fragments is None:
            raw = bytes(file.data[element.start : min(element.end, element.start + _LONGEST)])
            yield from _readings(place, raw, charset, element.vr == "UI")


def _readings(place: str, raw: bytes, charset: Charset, is_uid: bool) -> Iterator[Text]:
    raw = raw.rstrip(b" \0")
    if not raw:
        return
    for text, _ in readings(raw, charset):
        yield Text(place, text, is_uid)
    if b"\0" in raw:
        for codec in ("utf-16-le", "utf-16-be"):
            yield Text(place, raw.decode(codec, "ignore"))
    for found in _STREAM.finditer(raw):
        try:
            inner = zlib.decompressobj().decompress(found[1], _LONGEST)
        except zlib.error:
            continue
        yield from of_bytes(inner, place)


def of_bytes(data: bytes | memoryview, place: str = "bytes") -> Iterator[Text]:
    """Yield runs of characters in any bytes: ASCII, UTF-8 and Latin, and UTF-16."""
    for start in range(0, max(len(data), 1), _PIECE):
        piece = bytes(data[start : start + _PIECE + _OVERLAP])
        runs = [found.group() for found in _RUN.finditer(piece)]
        if runs:
            joined = b"\n".join(runs)
            yield Text(place, joined.decode("utf-8", "replace"), is_raw=True)
        wide = b"\n".join(found.group().replace(b"\0", b"") for found in _WIDE.finditer(piece))
        if wide:
            yield Text(place, wide.decode("latin-1"), is_raw=True)


def of_parquet(data: bytes) -> Iterator[Text]:
    """Yield the different texts of a table's columns."""
    import polars as pl

    table = pl.read_parquet(io.BytesIO(data))
    for name in table.columns:
        yield Text("column", name)
        if table[name].dtype in (pl.String, pl.Categorical):
            for cell in table[name].cast(pl.String).unique().drop_nulls():
                yield Text(f"column {name}", cell)


def inflated(file: File, data: bytes | memoryview) -> bytes | memoryview:
    """Return what a deflated file's data set inflates to; of others nothing."""
    return b"" if file.data is data else file.data


def as_dicom(data: bytes | memoryview) -> File | None:
    """Return the file if it is a DICOM file."""
    try:
        return parse(data)
    except Unsafe:
        return None
