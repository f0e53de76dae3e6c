"""Changed frames compressed anew without loss, in the syntax that they had.

A frame that was compressed with loss becomes what it decoded to, kept without loss: JPEG 2000 and
JPEG-LS allow that under their lossy syntaxes too (PS3.5 A.4.3 and A.4.4). Nothing is taken on
trust: each result is decoded again and compared.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from pydicom.uid import (
    JPEG2000,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from node.deid.pixels.frames import Array, decode, precision
from node.deid.pixels.image import Bytes, Image
from node.deid.reading import Unsafe

_TRANSFORMED = ("YBR_RCT", "YBR_ICT")


def encode(
    image: Image, stream: tuple[Bytes, ...], array: Array, properties: dict[str, Any]
) -> bytes | None:
    """Return ``array`` as a frame of the image's syntax; None where there is no way without loss.

    ``stream`` is the frame as it was; it decoded to an array of the same shape and type with
    ``properties`` (``frames.decode`` with ``raw``).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = _encode(image, stream, np.ascontiguousarray(array))
            if made is None:
                return None
            made += b"\0" * (len(made) % 2)
            back, now = decode(replace(image, photometric=after(image)), (made,), raw=True)
    except (Unsafe, RuntimeError, ValueError, TypeError, ArithmeticError):
        return None
    told = ("photometric_interpretation", "bits_stored", "pixel_representation")
    same = all(now.get(name) == properties.get(name) for name in told)
    if not same or back.dtype != array.dtype or not np.array_equal(back, array):
        return None
    return made


def after(image: Image) -> str:
    """Return the photometric interpretation of frames that were encoded anew."""
    # The transform without loss is the only one that is used (PS3.5 section 8.2.4).
    return "YBR_RCT" if image.photometric == "YBR_ICT" else image.photometric


def _encode(image: Image, stream: tuple[Bytes, ...], array: Array) -> bytes | None:
    syntax = image.transfer_syntax
    if syntax == RLELossless:
        return _rle(array)
    bits = precision(stream[0]) or image.bits_stored
    if bits > array.dtype.itemsize * 8:
        return None
    if syntax in (JPEG2000, JPEG2000Lossless):
        return _jpeg2000(image, array, bits)
    import imagecodecs

    # Samples of these are patterns of bits; a sign is the reader's business.
    plain = array.view(f"u{array.dtype.itemsize}")
    plain = plain & plain.dtype.type((1 << bits) - 1)
    if bits <= 8:
        plain = plain.astype(np.uint8)
    if syntax in (JPEGLSLossless, JPEGLSNearLossless):
        return _without_spiff(bytes(imagecodecs.jpegls_encode(plain)))
    if syntax in (JPEGLossless, JPEGLosslessSV1):
        space = "rgb" if plain.ndim == 3 else "gray"
        made = imagecodecs.jpeg8_encode(
            plain,
            lossless=True,
            predictor=1,
            bitspersample=bits,
            colorspace=space,
            outcolorspace=space,
        )
        return bytes(made)
    return None


def _jpeg2000(image: Image, array: Array, bits: int) -> bytes:
    from openjpeg.utils import encode_buffer

    mixed = array.ndim == 3 and image.photometric in _TRANSFORMED
    made = encode_buffer(
        array.astype(array.dtype.newbyteorder("<")).tobytes(),
        columns=array.shape[1],
        rows=array.shape[0],
        samples_per_pixel=1 if array.ndim == 2 else array.shape[2],
        bits_stored=bits,
        is_signed=array.dtype.kind == "i",
        photometric_interpretation=1 if mixed else 0,
        use_mct=mixed,
    )
    return bytes(made)


def _rle(array: Array) -> bytes:
    """Return an RLE frame: byte planes, the most significant first, row by row (PS3.5 annex G)."""
    from imagecodecs import packbits_encode

    rows, columns = array.shape[:2]
    planes = array.astype(array.dtype.newbyteorder(">")).reshape(rows, columns, -1)
    held = np.ascontiguousarray(planes).view(np.uint8).reshape(rows, columns, -1)
    header, body = [int(held.shape[2])], bytearray()
    if header[0] > 15:
        raise ValueError("RLE has at most 15 segments.")
    for number in range(held.shape[2]):
        header.append(64 + len(body))
        plane = np.ascontiguousarray(held[..., number])
        for row in plane:
            body += packbits_encode(row.tobytes())
        body += b"\0" * (len(body) % 2)
    return np.array(header, "<u4").tobytes().ljust(64, b"\0") + bytes(body)


def _without_spiff(stream: bytes) -> bytes:
    """Drop the application segments that CharLS begins with; they tell nothing that is needed."""
    at = 2
    while stream[at : at + 2] == b"\xff\xe8":
        at += 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    return stream[:2] + stream[at:]
