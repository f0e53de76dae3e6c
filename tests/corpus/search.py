"""All text in a DICOM file, by place, however it is encoded, compressed or hidden."""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
import warnings
import zlib
from collections import defaultdict
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from tests.corpus.patients import normal

CODECS = (
    "utf-8", "latin-1", "gb18030", "iso2022_jp_2", "iso2022_jp", "iso2022_kr", "euc_kr",
    "shift_jis", "euc_jp", "iso8859-5", "iso8859-2", "cp1251", "koi8-r",
)  # fmt: skip
_DELIMITERS = {0x0D, 0x0A, 0x09, 0x0C, 0x5C, 0x5E, 0x3D}
_NUMERIC = frozenset(["AT", "FD", "FL", "OD", "OF", "OL", "OV", "SL", "SS", "SV", "UL", "US", "UV"])
_STREAM = re.compile(rb"stream\r?\n(.*?)\r?\n?endstream", re.DOTALL)
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4}\s?){10,}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_HEX = re.compile(rb"<([0-9A-Fa-f\s]{8,})>")
_SHOWN = re.compile(rb"\(((?:[^()\\]|\\.)*)\)\s*(?:Tj|[^()]{0,12}(?=\()|\]\s*TJ)")
_LONG = 4 << 20


@dataclass
class Haystack:
    """A file's normalised text by place, and what of its dataset the checks compare."""

    dataset: FileDataset
    texts: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Normalised, every reading of the bytes."""
    values: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """As pydicom reads them, one entry for each value."""
    representations: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[list[str]]] = field(default_factory=lambda: defaultdict(list))
    """As values, one entry for each element."""

    def holds(self, place: str, token: str) -> bool:
        return any(token in text for text in self.texts.get(place, ()))


def haystack(path: Path) -> Haystack:
    """Return everything readable of a DICOM file, with or without a preamble."""
    data = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = dcmread(BytesIO(data), force=True)
        found = Haystack(dataset)
        for element in getattr(dataset, "file_meta", Dataset()):
            found.texts[f"meta:{element.tag:08X}"] += readings(_bytes(element), ())
        encodings = ("",)
        _walk(dataset, "", encodings, found)
    if data[128:132] == b"DICM":
        found.texts["preamble"] = readings(data[:128], ())
    if str(dataset.file_meta.get("TransferSyntaxUID", "")) == DeflatedExplicitVRLittleEndian:
        data += _inflated(data)
    found.texts["trailing"] = readings(data[-400:], ())
    found.texts["file"] = [squeezed(data)]
    return found


def squeezed(data: bytes) -> str:
    """Return the ASCII letters and digits of any bytes, one case: UTF-16 of them too."""
    return re.sub(rb"[^a-z0-9]", b"", data.lower()).decode("ascii")


def _inflated(data: bytes) -> bytes:
    meta = dcmread(BytesIO(data), stop_before_pixels=True, specific_tags=[])
    length = meta.file_meta[0x00020000].value
    return zlib.decompressobj(wbits=-zlib.MAX_WBITS).decompress(data[144 + length :])


def readings(raw: bytes, declared: tuple[str, ...]) -> list[str]:
    """Return the bytes as text in every encoding that fits, normalised."""
    texts = {raw.decode("ascii", "ignore")}
    if declared and any(b >= 0x80 or b == 0x1B for b in raw):
        with contextlib.suppress(LookupError, UnicodeError, ValueError):
            texts.add(decode_bytes(raw, convert_encodings(list(declared)), _DELIMITERS))
    if any(b >= 0x80 or b == 0x1B for b in raw):
        texts |= {raw.decode(codec, "ignore") for codec in CODECS}
    if b"\0" in raw:
        for start in (0, 1):
            texts.add(raw[start:].decode("utf-16-le", "ignore"))
            texts.add(raw[start:].decode("utf-16-be", "ignore"))
    for more in _unpacked(raw):
        texts |= set(readings(more, declared))
    return [n for t in texts if (n := normal(t))]


def _unpacked(raw: bytes) -> list[bytes]:
    inner: list[bytes] = []
    for found in _STREAM.finditer(raw):
        try:
            inner.append(zlib.decompressobj().decompress(found[1]))
        except zlib.error:
            continue
    shown = _SHOWN.findall(raw[:_LONG])
    if len(shown) > 1:
        inner.append(b"".join(shown))  # the text that a PDF page shows in several strings
    for found in _BASE64.finditer(raw[:_LONG]):
        try:
            inner.append(base64.b64decode(b"".join(found[0].split())))
        except (ValueError, binascii.Error):
            continue
    for found in _HEX.finditer(raw[:_LONG]):
        digits = b"".join(found[1].split())
        inner.append(bytes.fromhex(digits[: len(digits) // 2 * 2].decode()))
    return inner


def _walk(dataset: Dataset, place: str, encodings: tuple[str, ...], found: Haystack) -> None:
    declared = _declared(dataset)
    encodings = declared or encodings
    creators = _creators(dataset)
    for tag in sorted(dataset.keys()):
        here = f"{place}{_name(tag, creators)}"
        try:
            element = dataset[tag]
        except Exception:
            raw = dataset.get_item(tag).value
            found.texts[here] += readings(raw if isinstance(raw, bytes) else b"", encodings)
            continue
        found.representations[here] = element.VR
        if element.VR == "SQ":
            found.texts.setdefault(here, [])
            for item in element.value:
                _walk(item, f"{here}/", encodings, found)
        elif tag == 0x7FE00010 or element.VR in ("OF", "OD", "OL", "OV"):
            if element.is_undefined_length:
                found.texts[here] = [squeezed(element.value)]
        else:
            found.texts[here] += _texts(element, encodings)
            values = _values(element)
            found.values[here] += values
            found.lists[here].append(values)


def _texts(element: Any, encodings: tuple[str, ...]) -> list[str]:
    if element.VR in _NUMERIC:
        return []
    value = element.value
    if isinstance(value, bytes):
        return readings(value, encodings)
    written = [str(v) for v in value] if element.VM > 1 else ["" if value is None else str(value)]
    texts = [normal("".join(written))]
    raw = "\\".join(written)
    for codec in ("latin-1", "iso8859-5", "iso8859-2", "ascii", "utf-8"):
        # Text under a wrong or missing character set: back to its bytes, then every way.
        try:
            data = raw.encode(codec)
        except UnicodeEncodeError:
            continue
        if not raw.isascii() or "\x1b" in raw or element.VR in ("UT", "ST", "LT"):
            texts += readings(data, encodings)
        break
    return texts


def _values(element: Any) -> list[str]:
    value = element.value
    if isinstance(value, bytes):
        return [value.hex() if len(value) < 512 else f"{len(value)}:{hash(value)}"]
    if element.VM > 1:
        return [str(v) for v in value]
    return [] if value is None or value == "" else [str(value)]


def _bytes(element: Any) -> bytes:
    value = element.value
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "ignore")


def _declared(dataset: Dataset) -> tuple[str, ...]:
    value = dataset.get("SpecificCharacterSet")
    if not value:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def _creators(dataset: Dataset) -> dict[tuple[int, int], str]:
    found = {}
    for tag in list(dataset.keys()):
        if tag.group % 2 and 0x10 <= tag.element <= 0xFF:
            try:
                found[tag.group, tag.element] = str(dataset[tag].value).strip(" \0")
            except Exception:
                continue
    return found


def _name(tag: Any, creators: dict[tuple[int, int], str]) -> str:
    if tag.group % 2 == 0:
        return f"{tag.group:04X}{tag.element:04X}"
    if tag.element <= 0xFF:
        return f"{tag.group:04X}xxcr"
    creator = creators.get((tag.group, tag.element >> 8), "").replace("/", "|")
    return f"{tag.group:04X}xx{tag.element & 0xFF:02X}@{creator}"
