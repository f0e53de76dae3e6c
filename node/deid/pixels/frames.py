"""One frame at a time of pixels as they are stored, native or encapsulated, as arrays."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from node.deid.pixels.image import Bytes, Image, PixelSettings
from node.deid.reading import Unsafe

Array = NDArray[Any]
_SUBSAMPLED = "YBR_FULL_422"
_JPEG = frozenset(f"1.2.840.10008.1.2.4.{end}" for end in (50, 51, 57, 70))
_JPEG_LS = frozenset(["1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"])
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
"""Markers of JPEG (T.81 table B.1) and JPEG-LS (T.87) frame headers, which tell the size."""


def check_sizes(image: Image, settings: PixelSettings) -> None:
    """Refuse what is too large to decode, by what the header says; nothing is decoded yet."""
    if min(image.rows, image.columns, image.samples, image.bits_allocated, image.frames) < 1:
        raise Unsafe("undecodable-pixels")
    if image.samples not in (1, 3, 4) or image.bits_allocated not in (1, 8, 16, 32, 64):
        raise Unsafe("undecodable-pixels")
    if not 0 < image.bits_stored <= image.high_bit + 1 <= image.bits_allocated:
        raise Unsafe("undecodable-pixels")
    size = frame_bytes(image)
    if (
        image.frames > settings.max_frames
        or size > settings.max_frame_bytes
        or size * image.frames > settings.max_total_bytes
    ):
        raise Unsafe("too-large-pixels")
    if image.native is not None and len(image.native) * 8 < native_bits(image) * image.frames:
        raise Unsafe("undecodable-pixels")


def frame_bytes(image: Image) -> int:
    """Return the size of a decoded frame (without 4:2:2 subsampling)."""
    return -(-image.rows * image.columns * image.samples * image.bits_allocated // 8)


def is_subsampled(image: Image) -> bool:
    """Say whether native pixels are in pairs of ``Y Y Cb Cr``; some only claim it."""
    if image.photometric != _SUBSAMPLED or image.native is None or image.samples != 3:
        return False
    return len(image.native) < frame_bytes(image) * image.frames


def native_bits(image: Image) -> int:
    """Return how many bits a native frame takes; frames of single bits need not end on a byte."""
    samples = 2 if image.photometric == _SUBSAMPLED and image.samples == 3 else image.samples
    return image.rows * image.columns * samples * image.bits_allocated


class Frames:
    """Reads frames of one image; ``Unsafe`` when that can't be done whole."""

    def __init__(self, image: Image, settings: PixelSettings) -> None:
        check_sizes(image, settings)
        self.image = image
        self.streams: tuple[tuple[Bytes, ...], ...] = ()
        if image.native is None:
            self.streams = _split(image)
            for stream in self.streams:
                _check_stream(stream, image, settings)

    def stored(self, index: int) -> Array:
        """Return frame ``index`` as pydicom's ``pixel_array`` shows it.

        Shape (rows, columns) or (rows, columns, samples); YBR is turned into RGB, about.
        """
        image = self.image
        photometric = image.photometric
        if image.native is None:
            array, properties = self.decoded(index, raw=True)
            photometric = str(properties["photometric_interpretation"])
        else:
            array = self.held(index)
        if array.ndim == 3 and photometric.startswith(("YBR_FULL", "YBR_PARTIAL")):
            return to_rgb(array)
        return array

    def decoded(self, index: int, raw: bool = False) -> tuple[Array, dict[str, Any]]:
        """Return an encapsulated frame and its properties, by pydicom's decoders.

        ``raw`` leaves YBR as it is.
        """
        return decode(self.image, self.streams[index], raw)

    def held(self, index: int) -> Array:
        """Return a native frame in its own colour space, its stored bits alone."""
        image = self.image
        assert image.native is not None
        shape = (image.rows, image.columns)
        if image.bits_allocated == 1:
            bits = native_bits(image)
            first, last = index * bits, (index + 1) * bits
            held = np.frombuffer(image.native[first // 8 : -(-last // 8)], np.uint8)
            flat = np.unpackbits(held, bitorder="little")[first % 8 :][:bits]
            return flat.reshape(shape if image.samples == 1 else (*shape, image.samples))
        subsampled = is_subsampled(image)
        size = native_bits(image) // 8 if subsampled else frame_bytes(image)
        order = "<" if image.little_endian else ">"
        kind = "f" if image.floating else "i" if image.pixel_representation else "u"
        dtype = np.dtype(f"{order}{kind}{image.bits_allocated // 8}")
        held = np.frombuffer(image.native[index * size : (index + 1) * size], dtype)
        if not image.floating:
            held = _within_bits_stored(held, image)
        if subsampled:
            if image.columns % 2:
                raise Unsafe("undecodable-pixels")
            quads = held.reshape(image.rows, image.columns // 2, 4)
            array = np.empty((*shape, 3), held.dtype)
            array[:, 0::2, 0], array[:, 1::2, 0] = quads[..., 0], quads[..., 1]
            array[..., 1:] = np.repeat(quads[..., 2:], 2, axis=1)
            return array
        if image.samples == 1:
            return held.reshape(shape)
        if image.planar:
            return held.reshape(image.samples, *shape).transpose(1, 2, 0)
        return held.reshape(*shape, image.samples)


def decode(image: Image, stream: tuple[Bytes, ...], raw: bool) -> tuple[Array, dict[str, Any]]:
    """Decode the items of one encapsulated frame; ``raw`` leaves YBR as it is.

    Not by GDCM: it ends the whole process on some broken streams.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if image.transfer_syntax in _JPEG or image.transfer_syntax in _JPEG_LS:
                array, properties = _decode_jpeg(image, b"".join(stream))
            else:
                array, properties = _decode_other(image, b"".join(stream))
    except Exception:
        # Codecs raise whatever they like, and quote what they saw.
        raise Unsafe("undecodable-pixels") from None
    if array.shape[:2] != (image.rows, image.columns):
        raise Unsafe("undecodable-pixels")
    if not raw and array.ndim == 3 and str(properties["photometric_interpretation"]) != "RGB":
        array = to_rgb(array)
    return array, properties


def _decode_jpeg(image: Image, stream: bytes) -> tuple[Array, dict[str, Any]]:
    """Decode JPEG and JPEG-LS with libjpeg-turbo and CharLS, in the colour space of the stream."""
    import imagecodecs

    if image.transfer_syntax in _JPEG_LS:
        array = imagecodecs.jpegls_decode(stream)
    elif image.samples == 3:
        array = imagecodecs.jpeg8_decode(stream, colorspace="ycbcr", outcolorspace="ycbcr")
    else:
        array = imagecodecs.jpeg8_decode(stream)
    if array.size != image.rows * image.columns * image.samples:
        raise ValueError(array.shape)
    array = array.astype(f"u{image.bits_allocated // 8}", copy=False)
    unused = image.bits_allocated - image.bits_stored
    if image.pixel_representation:
        array = (array << unused).view(f"i{image.bits_allocated // 8}") >> unused
    return array, {
        "photometric_interpretation": image.photometric,
        "bits_allocated": image.bits_allocated,
        "bits_stored": image.bits_stored,
        "pixel_representation": image.pixel_representation,
    }


def _decode_other(image: Image, stream: bytes) -> tuple[Array, dict[str, Any]]:
    """Decode JPEG 2000, its high-throughput kind and RLE with pydicom's decoders."""
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    decoder = get_decoder(UID(image.transfer_syntax))
    plugin = next(name for name in ("pylibjpeg", "pydicom") if name in decoder.available_plugins)
    array, properties = decoder.as_array(
        encapsulate([stream], has_bot=False),
        index=0,
        raw=True,
        decoding_plugin=plugin,
        number_of_frames=1,
        rows=image.rows,
        columns=image.columns,
        samples_per_pixel=image.samples,
        bits_allocated=image.bits_allocated,
        bits_stored=image.bits_stored,
        pixel_representation=image.pixel_representation,
        photometric_interpretation=image.photometric,
        planar_configuration=image.planar,
        pixel_keyword="PixelData",
    )
    return array, dict(properties)


def to_rgb(array: Array) -> Array:
    """Turn full-range YCbCr into RGB (PS3.3 C.7.6.3.1.2)."""
    if array.dtype != np.uint8:
        return array
    import cv2

    red_first = cv2.cvtColor(np.ascontiguousarray(array[..., [0, 2, 1]]), cv2.COLOR_YCrCb2RGB)
    return np.asarray(red_first)


def _within_bits_stored(held: Array, image: Image) -> Array:
    """Drop what the unused bits hold, and bring the stored bits down to bit 0."""
    unused = image.bits_allocated - image.bits_stored
    if not unused:
        return held
    low = image.high_bit + 1 - image.bits_stored
    # To the top and down again: the second shift extends the sign.
    top = unused - low
    return (held.astype(held.dtype.newbyteorder("=")) << top) >> unused


def _split(image: Image) -> tuple[tuple[Bytes, ...], ...]:
    """Give each frame its items (PS3.5 A.4)."""
    items = image.fragments or ()
    if not items:
        raise Unsafe("undecodable-pixels")
    if image.frames == 1:
        return (tuple(items),)
    if len(items) == image.frames:
        return tuple((item,) for item in items)
    starts = _starts_by_offsets(image) or _starts_by_end_of_image(image)
    if len(starts) != image.frames or starts[0] != 0:
        raise Unsafe("undecodable-pixels")
    ends = [*starts[1:], len(items)]
    return tuple(tuple(items[a:b]) for a, b in zip(starts, ends, strict=True))


def _starts_by_offsets(image: Image) -> list[int]:
    at, places = 0, {}
    for number, item in enumerate(image.fragments or ()):
        places[at] = number
        at += 8 + len(item)
    found = [places.get(offset, -1) for offset in image.offsets]
    return found if found and -1 not in found and found == sorted(set(found)) else []


def _starts_by_end_of_image(image: Image) -> list[int]:
    starts, fresh = [], True
    for number, item in enumerate(image.fragments or ()):
        if fresh:
            starts.append(number)
        fresh = b"\xff\xd9" in bytes(item[-10:])
    return starts


def _check_stream(stream: tuple[Bytes, ...], image: Image, settings: PixelSettings) -> None:
    """Refuse a codestream that would decode to more than its header has declared."""
    size = _declared_size(stream[0])
    if size is None:
        return
    rows, columns = size
    if rows * columns * image.samples * 2 > max(settings.max_frame_bytes, 1 << 20):
        raise Unsafe("too-large-pixels")
    if (rows, columns) != (image.rows, image.columns):
        raise Unsafe("undecodable-pixels")


def precision(stream: Bytes) -> int | None:
    """Return the bits of a sample that a JPEG, JPEG-LS or JPEG 2000 stream declares."""
    head = bytes(stream[: 1 << 20])
    if head[:4] == b"\xff\x4f\xff\x51" and len(head) > 42:
        return (head[42] & 0x7F) + 1
    at = _frame_header(head)
    return None if at is None else head[at + 4]


def _declared_size(stream: Bytes) -> tuple[int, int] | None:
    head = bytes(stream[: 1 << 20])
    if head[:4] == b"\xff\x4f\xff\x51" and len(head) >= 24:  # JPEG 2000: SOC, SIZ
        x1, y1, x0, y0 = (int.from_bytes(head[at : at + 4], "big") for at in (8, 12, 16, 20))
        return y1 - y0, x1 - x0
    at = _frame_header(head)
    if at is None:
        return None
    return (
        int.from_bytes(head[at + 5 : at + 7], "big"),
        int.from_bytes(head[at + 7 : at + 9], "big"),
    )


def _frame_header(head: bytes) -> int | None:
    """Return where the frame header of a JPEG or JPEG-LS stream is."""
    if head[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(head):
        if head[at] != 0xFF:
            return None
        marker = head[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in _SOF:
            return at
        at += 2 + int.from_bytes(head[at + 2 : at + 4], "big")
    return None
