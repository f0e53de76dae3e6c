"""Store changed pixels in the transfer syntax that a file has."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

_JPEG2000 = "1.2.840.10008.1.2.4.91"
_NATIVE = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
)
_ENCODED = (
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEG2000Lossless,
    _JPEG2000,
    RLELossless,
)


def can(dataset: Any) -> bool:
    """Say whether ``store`` can write this file's syntax and layout."""
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if "PixelData" not in dataset or syntax is None:
        return False
    if syntax == ExplicitVRBigEndian and dataset.BitsAllocated == 8:
        return False  # words of two pixels, swapped by some writers and not by others
    if "422" in str(dataset.PhotometricInterpretation):
        return syntax == JPEGBaseline8Bit
    return syntax in (*_NATIVE, *_ENCODED) and dataset.BitsAllocated in (8, 16)


def store(dataset: Any, array: NDArray[Any]) -> None:
    """Replace the pixel data; ``array`` is frames x rows x columns x samples, as stored."""
    syntax = dataset.file_meta.get("TransferSyntaxUID", "1.2.840.10008.1.2")
    if syntax in _NATIVE:
        if int(dataset.get("PlanarConfiguration", 0) or 0) == 1 and array.shape[3] > 1:
            array = np.moveaxis(array, 3, 1)
        if syntax == ExplicitVRBigEndian and dataset.BitsAllocated == 16:
            array = array.byteswap()
        data = array.tobytes()
        dataset.PixelData = data + b"\0" * (len(data) % 2)
        return
    frames = [_frame(dataset, np.squeeze(f, 2) if f.shape[2] == 1 else f, syntax) for f in array]
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].is_undefined_length = True
    dataset.pop("ExtendedOffsetTable", None)
    dataset.pop("ExtendedOffsetTableLengths", None)


def _frame(dataset: Any, frame: NDArray[Any], syntax: str) -> bytes:
    import imagecodecs

    frame = np.ascontiguousarray(frame)
    color = frame.ndim == 3
    if syntax == JPEGBaseline8Bit:
        space = "ycbcr" if "YBR" in str(dataset.PhotometricInterpretation) else "rgb"
        space = space if color else "gray"
        made = imagecodecs.jpeg8_encode(frame, level=92, colorspace=space, outcolorspace=space)
    elif syntax == JPEGLosslessSV1:
        made = imagecodecs.jpeg8_encode(frame, lossless=True, predictor=1)
    elif syntax == JPEGLSLossless:
        made = imagecodecs.jpegls_encode(frame)
    elif syntax in (JPEG2000Lossless, _JPEG2000):
        plain = color and "RGB" not in dataset.PhotometricInterpretation
        made = imagecodecs.jpeg2k_encode(
            frame, level=0, codecformat="j2k", mct=plain, bitspersample=int(dataset.BitsStored)
        )
    else:
        from pydicom.pixels.encoders.native import _encode_frame  # the encoder behind compress()

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = _rle(dataset, frame, _encode_frame)
    return bytes(made)


def _rle(dataset: Any, frame: NDArray[Any], encoder: Any) -> bytes:
    from pydicom.pixels.encoders.base import EncodeRunner

    runner = EncodeRunner(RLELossless)
    runner.set_options(
        rows=frame.shape[0], columns=frame.shape[1], samples_per_pixel=int(dataset.SamplesPerPixel),
        bits_allocated=int(dataset.BitsAllocated), bits_stored=int(dataset.BitsStored),
        number_of_frames=1, pixel_representation=int(dataset.PixelRepresentation),
        photometric_interpretation=str(dataset.PhotometricInterpretation), planar_configuration=0,
    )  # fmt: skip
    return bytes(encoder(frame.tobytes(), runner))
