"""Pictures from packages, and files of every kind with identifiers in every place."""

from __future__ import annotations

import importlib.util
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms, PngImagePlugin

Array = npt.NDArray[np.uint8]
PLANTED = (b"QUILLFEATHER", b"4711-0815", b"Ostrander", b"52.5200")
"""A name, a number, a photographer and a latitude, planted as text."""


class KnownWords:
    """A matcher that knows the planted words."""

    terms = frozenset({"quillfeather", "47110815", "ostrander"})

    def spans(self, text: str) -> list[tuple[int, int]]:
        found = []
        for word in ("quillfeather", "4711-0815", "ostrander"):
            start = text.casefold().find(word)
            if start >= 0:
                found.append((start, start + len(word)))
        return sorted(found)

    def clean(self, text: str) -> str:
        for start, stop in reversed(self.spans(text)):
            text = text[:start] + "***" + text[stop:]
        return text


@pytest.fixture(scope="session")
def packaged() -> Callable[[str], bytes]:
    """Return a picture that scikit-image or matplotlib ships, by its name."""

    def read(name: str) -> bytes:
        for package, folder in (
            ("skimage", "data"),
            ("matplotlib", "mpl-data/sample_data"),
        ):
            found = importlib.util.find_spec(package)
            assert found is not None and found.origin is not None, package
            path = Path(found.origin).parent / folder / name
            if path.is_file():
                return path.read_bytes()
        raise AssertionError(name)

    return read


@pytest.fixture(scope="session")
def scene() -> Array:
    """A smooth picture with a dark spot, without text and faces: shape (120, 168, 3)."""
    rows, columns = np.mgrid[0:120, 0:168].astype(np.float64)
    spot = np.exp(-((rows - 60) ** 2 + (columns - 80) ** 2) / 900)
    noise = np.random.default_rng(7).normal(0, 3, (120, 168, 3))
    skin = np.array([214.0, 168.0, 146.0])
    return (skin - 110 * spot[..., None] + noise).clip(0, 255).astype(np.uint8)


def exif_segment(orientation: int = 6) -> bytes:
    """Exif with orientation, description, artist, maker note, position and a thumbnail."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "Mole of QUILLFEATHER 4711-0815"
    exif[0x013B] = "Ostrander"
    exif.get_ifd(0x8769)[0x927C] = b"MAKER QUILLFEATHER"
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0QUILLFEATHER"
    exif.get_ifd(0x8825)[0x001B] = b"52.5200"
    return exif.tobytes()


def profile_with_text() -> bytes:
    """An sRGB profile whose description holds a name."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    spoiled = profile.replace(
        "sRGB built-in".encode("utf-16-be"), "QUILLFEATHER.".encode("utf-16-be")
    )
    assert spoiled != profile
    # Without the time of its making (ICC.1, 7.2.10) the same file comes out each time.
    return spoiled[:24] + bytes(12) + spoiled[36:]


def segment(code: int, payload: bytes) -> bytes:
    return bytes([0xFF, code]) + (len(payload) + 2).to_bytes(2, "big") + payload


def planted_jpeg(picture: Array, **options: object) -> bytes:
    """A JPEG with identifiers in every segment that may hold them, and after its end."""
    target = io.BytesIO()
    Image.fromarray(picture).save(
        target,
        "JPEG",
        quality=92,
        exif=exif_segment(),
        icc_profile=profile_with_text(),
        comment=b"QUILLFEATHER 4711-0815",
        **options,
    )
    data = target.getvalue()
    jfif = segment(0xE0, b"JFXX\0\x10QUILLFEATHER")
    iptc = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x13\x1c\x02\x50\0\x0cQUILLFEATHER\0"
    planted = (
        jfif
        + segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x>QUILLFEATHER</x>")
        + segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0QUILLFEATHER")
        + segment(0xE2, b"MPF\0QUILLFEATHER")
        + segment(0xED, iptc)
        + segment(0xEB, b"JP QUILLFEATHER")
        + segment(0xEF, b"4711-0815")
        + segment(0xFE, b"52.5200 Ostrander")
    )
    return data[:2] + planted + data[2:] + data + b"QUILLFEATHER 4711-0815"


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def planted_png(picture: Array, mode: str | None = None) -> bytes:
    """A PNG with identifiers in text, Exif, profile, unknown chunks and after its end."""
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Author", "QUILLFEATHER")
    notes.add_text("Comment", "4711-0815 " * 20, zip=True)
    notes.add_itxt("XML:com.adobe.xmp", "<x>QUILLFEATHER</x>")
    target = io.BytesIO()
    image = Image.fromarray(picture)
    (image.convert(mode) if mode else image).save(
        target,
        "PNG",
        pnginfo=notes,
        exif=exif_segment(),
        icc_profile=profile_with_text(),
        dpi=(300, 300),
    )
    data = target.getvalue()
    end = data.rindex(b"IEND") - 4
    extra = (
        png_chunk(b"tIME", b"\x07\xea\1\2\3\4\5")
        + png_chunk(b"prVt", b"QUILLFEATHER")
        + png_chunk(b"bKGD", b"\0\0\0\0\0\0")
    )
    after_header = 8 + 25
    return data[:after_header] + extra + data[after_header:end] + data[end:] + b"QUILLFEATHER"


def planted_tiff(picture: Array, **options: object) -> bytes:
    """A TIFF with identifiers in its tags, a small copy in a second directory, and slack."""
    import tifffile

    target = io.BytesIO()
    text = "QUILLFEATHER 4711-0815"
    with tifffile.TiffWriter(target) as file:
        file.write(
            picture,
            description=text,
            software="Ostrander",
            iccprofile=profile_with_text(),
            resolution=(300, 300),
            resolutionunit="INCH",
            metadata=None,
            extratags=[
                (315, 2, 0, "Ostrander", True),
                (316, 2, 0, text, True),
                (269, 2, 0, text, True),
                (285, 2, 0, text, True),
                (700, 1, None, b"<x>QUILLFEATHER</x>", True),
                (33723, 7, None, b"QUILLFEATHER", True),
                (34377, 1, None, b"8BIM QUILLFEATHER", True),
                (37724, 7, None, b"Adobe Photoshop QUILLFEATHER", True),
                (274, 3, 1, 8, True),
                (65000, 2, 0, text, True),
            ],
            **options,  # type: ignore[arg-type]
        )
        file.write(picture[::4, ::4], subfiletype=1, description=text, metadata=None)
    return target.getvalue() + b"QUILLFEATHER"
