"""A TIFF file written anew around its one picture: the same pixels, and no other tag.

TIFF 6.0 and BigTIFF. Strips of a stranger's TIFF can hold anything after their last pixel, so the
pixels are decoded and packed again without loss (Deflate). Smaller copies in further directories
(reduced resolution, masks) go; a file with several pictures of its own is refused.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np

from node.deid.photographs.container import Meaning, Pixels, Stripped, check_size, said_subject
from node.deid.photographs.icc import clean_profile
from node.deid.reading import Unsafe

_MAX_DIRECTORIES = 64
_MAX_SEGMENTS = 1 << 16
_COMPRESSIONS = (1, 5, 7, 8, 32773, 32946)
"""None, LZW, JPEG, Deflate, PackBits, and Deflate under its older number."""
_JPEG, _YCBCR = 7, 6
_MEANINGS: dict[int, Meaning] = {
    0: "inverted-grey",
    1: "grey",
    2: "rgb",
    3: "palette",
    5: "cmyk",
    _YCBCR: "rgb",  # decoded so
}
_COLOURS: dict[Meaning, int] = {"grey": 1, "inverted-grey": 1, "palette": 1, "rgb": 3, "cmyk": 4}
_PHOTOMETRIC: dict[Meaning, str] = {
    "grey": "minisblack",
    "inverted-grey": "miniswhite",
    "rgb": "rgb",
    "palette": "palette",
    "cmyk": "separated",
}
_STRUCTURE = frozenset(
    (
        *(254, 255, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 282, 283, 284, 296),
        *(317, 320, 322, 323, 324, 325, 332, 334, 338, 339, 347, 530, 531, 532),
    )
)
"""Tags that only say how pixels are stored and seen."""
_NAMES = {
    270: "description",
    700: "xmp",
    33723: "iptc",
    34377: "photoshop",
    34665: "exif",
    34675: "profile",
    34853: "gps",
    37724: "photoshop",
}
_REDUCED_OR_MASK = 0b101
_ORIENTATION, _PROFILE, _DENSITY_UNIT = 274, 34675, 296
_PER_METRE = {2: 1 / 0.0254, 3: 100.0}


def with_subject(data: bytes, subject: str) -> bytes:
    """Return a stripped file with a description that says whose it is."""
    stripped, pixels = strip(data)
    return encode(pixels, stripped, subject)


def strip(data: bytes) -> tuple[Stripped, Pixels]:
    """Return the file with its picture alone, and the picture as stored.

    The array has shape (rows, columns) or (rows, columns, samples). ``Unsafe`` when the file has
    several pictures, is too large, or isn't one of the common kinds.
    """
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page, others = _pages(file)
            _check(page)
            pixels = _pixels(page)
            known = _known(page, pixels, others)
    except Unsafe:
        raise
    except Exception:
        # tifffile raises whatever a stranger's bytes make it raise (struct, index and zlib
        # errors among them); the file is not taken in.
        raise Unsafe("unreadable") from None
    return replace(known, data=encode(pixels, known)), pixels


def encode(pixels: Pixels, like: Stripped, subject: str = "") -> bytes:
    """Return a TIFF of these pixels, with the colours and the orientation of ``like``.

    Its ImageDescription says whose it is.
    """
    import tifffile

    target = io.BytesIO()
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    extra = samples - _COLOURS[like.meaning]
    tags = [(_ORIENTATION, 3, 1, like.orientation, True)] if like.orientation != 1 else []
    resolution = tuple(value / 100 for value in like.density) if like.density else None
    with tifffile.TiffWriter(target, bigtiff=False, byteorder="<") as file:
        file.write(
            pixels,
            photometric=_PHOTOMETRIC[like.meaning],
            planarconfig="contig" if samples > 1 else None,
            extrasamples=["unassalpha"] * extra if extra else None,
            compression="zlib",
            predictor=pixels.dtype.kind == "u" and pixels.dtype.itemsize < 4,
            rowsperstrip=max(1, (1 << 20) // max(1, pixels[0].nbytes)),
            colormap=like.palette,
            iccprofile=like.profile,
            resolution=resolution,
            resolutionunit="centimeter" if resolution else None,
            description=said_subject(subject) or None,
            metadata=None,
            software=False,
            datetime=None,
            extratags=tags,
        )
    return target.getvalue()


def _pages(file: Any) -> tuple[Any, bool]:
    """Return the one picture's page and whether smaller copies or masks stand beside it."""
    pages = []
    for number, page in enumerate(file.pages):
        if number >= _MAX_DIRECTORIES:
            raise Unsafe("several-images")
        pages.append(page)
    # In a mask or a smaller copy NewSubfileType says so (TIFF 6.0, page 36).
    own = [page for page in pages if not int(_value(page, 254, 0)) & _REDUCED_OR_MASK]
    if len(own) > 1:
        first = own[0]
        smaller = [p for p in own[1:] if p.imagewidth * 2 <= first.imagewidth]
        if len(smaller) < len(own) - 1:
            raise Unsafe("several-images")
    if not own:
        raise Unsafe("unreadable")
    return own[0].aspage(), len(pages) > 1


def _check(page: Any) -> None:
    samples = int(page.samplesperpixel)
    bits = page.bitspersample if isinstance(page.bitspersample, int) else 0
    check_size(page.imagewidth, page.imagelength, samples * max(1, bits // 8))
    meaning = _MEANINGS.get(int(page.photometric))
    if (
        page.imagedepth != 1
        or int(page.compression) not in _COMPRESSIONS
        or meaning is None
        or bits not in (1, 8, 16, 32)
        or page.dtype is None
        or not 0 <= samples - _COLOURS[meaning] <= 1
        or (int(page.photometric) == _YCBCR and int(page.compression) != _JPEG)
        or (meaning == "palette" and (page.colormap is None or bits > 8))
        or len(page.dataoffsets) > _MAX_SEGMENTS
    ):
        raise Unsafe("unsupported-image")
    size = page.parent.filehandle.size
    if any(
        start + length > size
        for start, length in zip(page.dataoffsets, page.databytecounts, strict=True)
    ):
        raise Unsafe("truncated")


def _pixels(page: Any) -> Pixels:
    pixels = np.asarray(page.asarray(maxworkers=1))
    samples = int(page.samplesperpixel)
    if samples > 1 and int(page.planarconfig) == 2:
        pixels = np.moveaxis(pixels, 0, -1)
    shape = (page.imagelength, page.imagewidth) + ((samples,) if samples > 1 else ())
    if pixels.shape != shape:
        raise Unsafe("unreadable")
    return np.ascontiguousarray(pixels)


def _known(page: Any, pixels: Pixels, others: bool) -> Stripped:
    codes = {int(tag.code) for tag in page.tags}
    removed = {_NAMES.get(code, "tag") for code in codes - _STRUCTURE}
    raw = _value(page, _PROFILE, None)
    profile = clean_profile(bytes(raw)) if raw is not None else None
    if raw is not None and profile is None:
        removed.add("whole-profile")
    if others:
        removed.add("directory")
    orientation = int(_value(page, _ORIENTATION, 1))
    return Stripped(
        data=b"",
        width=page.imagewidth,
        height=page.imagelength,
        bits=int(page.bitspersample),
        meaning=_MEANINGS[int(page.photometric)],
        orientation=orientation if 1 <= orientation <= 8 else 1,
        profile=profile,
        density=_density(page),
        palette=np.asarray(page.colormap, np.uint16) if int(page.photometric) == 3 else None,
        removed=tuple(sorted(removed)),
    )


def _density(page: Any) -> tuple[int, int] | None:
    per_metre = _PER_METRE.get(int(_value(page, _DENSITY_UNIT, 2)))
    values = [_value(page, tag, None) for tag in (282, 283)]
    if per_metre is None or None in values:
        return None
    found = [
        round(value[0] / value[1] * per_metre) if value[0] and value[1] else 0 for value in values
    ]
    return (found[0], found[1]) if all(0 < value < 1 << 31 for value in found) else None


def _value(page: Any, tag: int, default: Any) -> Any:
    found = page.tags.get(tag) if hasattr(page, "tags") else None
    return default if found is None else found.value
