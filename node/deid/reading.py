"""DICOM from bytes, strictly: a file that ends too early is refused, never read in part.

pydicom reads what is there of a cut file and warns. Wardgate must not keep half an image, so the
reads are watched here, and ``check_length`` compares each element's length with what came.
"""

from __future__ import annotations

import io
import logging
from typing import Any, Literal

from pydicom import dcmread
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import UID, MediaStorageDirectoryStorage

from contract.errors import DataError

# pydicom's messages quote values.
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)

Reason = Literal[
    "archive",
    "burned-in-annotation",
    "dicomdir",
    "duplicate-instance",
    "embedded-overlay",
    "empty",
    "face",
    "identifier-left",
    "internal-error",
    "missing-uid",
    "nifti",
    "no-pixel-data",
    "no-subject",
    "not-dicom",
    "not-text",
    "other-subject",
    "pdf",
    "possible-face",
    "recognizable-visual-features",
    "several-images",
    "slide-compression",
    "slide-format-refused",
    "too-large",
    "too-large-pixels",
    "truncated",
    "undecodable-pixels",
    "unknown-document",
    "unknown-private-creator",
    "unreadable",
    "unreadable-codestream",
    "unreadable-document",
    "unreadable-slide",
    "unsupported-image",
    "unwritable",
    "worker-died",
]
UNDEFINED_LENGTH = 0xFFFFFFFF
PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010, 0x00287FE0)
"""Float, double float and integer pixel data, and the URL of a provider (PS3.3 C.7.6.3)."""
_PREFIX = slice(128, 132)


class Unsafe(DataError):
    """A file that can't be made safe, or can't be read whole; ``reason`` is a stable code."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(f"A file is put in quarantine: {reason}.")
        self.reason: Reason = reason


class _Watched(io.BytesIO):
    """Notes reads of an element's header that find less than they want, or nothing twice."""

    ends = 0
    cut = False

    def read(self, size: int | None = -1, /) -> bytes:
        got = super().read(size)
        if size in (2, 4, 8) and len(got) < size:
            if got:
                self.cut = True
            else:
                self.ends += 1
        return got

    @property
    def is_cut(self) -> bool:
        return self.cut or self.ends > 1


def read_dicom(data: bytes) -> FileDataset:
    """Return the dataset of a DICOM file, with or without preamble; ``Unsafe`` when it is none.

    Elements are as pydicom's raw elements: their values are bytes until they are asked for.
    """
    if not data:
        raise Unsafe("empty")
    declared = data[_PREFIX] == b"DICM"
    source = _Watched(data)
    try:
        dataset = dcmread(source, force=True)
    except Exception:
        # Whatever pydicom stumbles over, the file is not taken in and the rest goes on.
        reason: Reason = "truncated" if source.is_cut else "unreadable"
        raise Unsafe(reason if declared else "not-dicom") from None
    if MediaStorageDirectoryStorage in (text(dataset.file_meta, 0x00020002), _class(dataset)):
        raise Unsafe("dicomdir")
    identified = all(_is_uid(text(dataset, tag)) for tag in (0x00080016, 0x00080018))
    if not declared and not identified:
        raise Unsafe("not-dicom")
    if source.is_cut:
        raise Unsafe("truncated")
    if not identified:
        raise Unsafe("missing-uid")
    return dataset


def check_length(element: Any) -> None:
    """Raise ``Unsafe`` if an element has fewer bytes than its header says."""
    if (
        isinstance(element, RawDataElement)
        and element.length != UNDEFINED_LENGTH
        and len(element.value or b"") != element.length
    ):
        raise Unsafe("truncated")


def check_pixels(dataset: Dataset) -> None:
    """Raise ``Unsafe`` for an image without pixels, or with fewer than it declares.

    Native pixel data has Rows x Columns x Number of Frames x Samples per Pixel x Bits Allocated
    bits (PS3.5 section 8.1.1); YBR_FULL_422 has two samples for each pixel.
    """
    sizes = [number(dataset, tag) for tag in (0x00280010, 0x00280011, 0x00280100)]
    is_image = None not in sizes or UID(_class(dataset)).name.endswith("Image Storage")
    if is_image and not any(tag in dataset for tag in PIXELS):
        raise Unsafe("no-pixel-data")
    pixels: Any = dataset.get_item(0x7FE00010) if 0x7FE00010 in dataset else None
    if not isinstance(pixels, RawDataElement) or pixels.length == UNDEFINED_LENGTH:
        return
    bits = number(dataset, 0x00280008) or 1
    for size in (*sizes, number(dataset, 0x00280002) or 1):
        bits *= size or 0
    if text(dataset, 0x00280004) == "YBR_FULL_422":
        bits = bits * 2 // 3
    if len(pixels.value or b"") * 8 < bits:
        raise Unsafe("truncated")


def text(dataset: Dataset, tag: int) -> str:
    """Return the attribute's value as text, "" without one; the element stays raw."""
    value = _value(dataset, tag)
    return "" if value is None else str(value).strip(" \0")


def number(dataset: Dataset, tag: int) -> int | None:
    """Return the attribute's value as a whole number, None without one."""
    try:
        return int(_value(dataset, tag))
    except (TypeError, ValueError):
        return None


def _class(dataset: Dataset) -> str:
    return text(dataset, 0x00080016)


def _value(dataset: Dataset, tag: int) -> Any:
    if tag not in dataset:
        return None
    element: Any = dataset.get_item(tag)
    if isinstance(element, RawDataElement):
        try:
            encoding = dataset.original_character_set
            element = convert_raw_data_element(element, encoding=encoding, ds=dataset)
        except Exception:
            return None
    assert isinstance(element, DataElement)
    return element.value


def _is_uid(value: str) -> bool:
    return bool(value) and UID(value).is_valid
