"""TIFF slides of every variant with words planted wherever words can be.

The writer here shares nothing with the project's own.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 9: 4, 11: 4, 12: 8, 13: 4, 16: 8}
FORMS = {1: "B", 3: "H", 4: "I", 5: "I", 9: "i", 11: "f", 12: "d", 13: "I", 16: "Q"}


class Plants:
    """Words that no clean file may hold, each with the place it was put."""

    def __init__(self) -> None:
        self.places: dict[str, str] = {}

    def word(self, place: str) -> str:
        word = f"Zq{len(self.places):03d}Kowalska"
        self.places[word] = place
        return word

    def ascii(self, place: str) -> bytes:
        return self.word(place).encode()

    def found_in(self, data: bytes) -> list[str]:
        return [
            place
            for word, place in self.places.items()
            if any(word.encode(form) in data for form in ("ascii", "utf-16-le", "utf-16-be"))
        ]


@dataclass
class Page:
    tags: dict[int, tuple[int, object]]
    blobs: list[bytes]
    tiled: bool = True
    below: dict[int, list[Page]] = field(default_factory=dict)


def make_tiff(
    pages: list[Page],
    *,
    order: str = "<",
    big: bool = False,
    ndpi: bool = False,
    slack: Callable[[], bytes] = bytes,
    tail: bytes = b"",
) -> bytes:
    """Write a TIFF with ``slack()`` between all structures and ``tail`` after the last."""
    mark = b"II" if order == "<" else b"MM"
    out = bytearray(mark + struct.pack(order + "H", 43 if big else 42))
    out += struct.pack(order + "HHQ", 8, 0, 0) if big else bytes(8 if ndpi else 4)
    first = 8 if big else 4
    wide = big or ndpi
    pointer = order + ("Q" if wide else "I")

    def put(data: bytes) -> int:
        out.extend(slack())
        if len(out) % 2:
            out.append(0)
        place = len(out)
        out.extend(data)
        return place

    def packed(kind: int, value: object) -> bytes:
        if isinstance(value, bytes):
            return value
        return struct.pack(f"{order}{len(value)}{FORMS[kind]}", *value)  # type: ignore

    def directory(page: Page) -> tuple[int, int]:
        tags = dict(page.tags)
        for tag, subs in page.below.items():
            tags[tag] = (16 if big else 4, [directory(sub)[0] for sub in subs])
        if page.blobs:
            places = [put(blob) if blob else 0 for blob in page.blobs]
            where, sizes = (324, 325) if page.tiled else (273, 279)
            tags[where] = (16 if big else 4, places)
            tags[sizes] = (16 if big else 4, [len(blob) for blob in page.blobs])
        lines, high = b"", b""
        for tag in sorted(tags):
            kind, value = tags[tag]
            data = packed(kind, value)
            room = 8 if big else 4
            count = len(data) // SIZES[kind]
            if len(data) <= room and not (ndpi and kind == 2):
                inside = data.ljust(8, b"\0")
            else:
                inside = struct.pack(pointer, put(data)).ljust(8, b"\0")
            lines += (
                struct.pack(order + ("HHQ" if big else "HHI"), tag, kind, count) + inside[:room]
            )
            high += inside[4:8]
        body = struct.pack(order + ("Q" if big else "H"), len(tags)) + lines
        place = put(body + bytes(struct.calcsize(pointer)) + (high if ndpi else b""))
        return place, place + len(body)

    link = first
    for page in pages:
        place, after = directory(page)
        struct.pack_into(pointer, out, link, place)
        link = after
    return bytes(out) + slack() + tail


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Return smooth colours of shape (height, width, 3)."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (4, 4, 3), np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def jpeg(
    pixels: np.ndarray, *segments: tuple[int, bytes], tail: bytes = b"", rows: int = 0
) -> bytes:
    """Return a JPEG with further segments after its first and ``tail`` after its end."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(
        out, "JPEG", quality=80, restart_marker_rows=rows, subsampling=0 if rows else 2
    )
    data = out.getvalue()
    extra = b"".join(
        bytes([0xFF, code]) + struct.pack(">H", len(text) + 2) + text for code, text in segments
    )
    return data[:20] + extra + data[20:] + tail


def tiled_page(
    width: int, height: int, tags: dict[int, tuple[int, object]], *, tile: int = 64, seed: int = 1
) -> Page:
    """Return a page in JPEG tiles."""
    pixels = picture(-(-width // tile) * tile, -(-height // tile) * tile, seed)
    blobs = [
        jpeg(pixels[y : y + tile, x : x + tile])
        for y in range(0, height, tile)
        for x in range(0, width, tile)
    ]
    base = {
        256: (4, [width]), 257: (4, [height]), 258: (3, [8, 8, 8]), 259: (3, [7]), 262: (3, [6]),
        277: (3, [3]), 284: (3, [1]), 322: (3, [tile]), 323: (3, [tile]), 530: (3, [2, 2]),
    }  # fmt: skip
    return Page(base | tags, blobs)


def strip_page(
    width: int, height: int, tags: dict[int, tuple[int, object]], data: bytes | None = None
) -> Page:
    """Return a page in one strip, uncompressed unless ``data`` is a JPEG."""
    base = {
        256: (4, [width]), 257: (4, [height]), 258: (3, [8, 8, 8]),
        259: (3, [1 if data is None else 7]), 262: (3, [2 if data is None else 6]),
        277: (3, [3]), 278: (4, [height]), 284: (3, [1]),
    }  # fmt: skip
    return Page(base | tags, [data or picture(width, height, 9).tobytes()], tiled=False)


APERIO_TEXT = (
    "Aperio Image Library v11.2.1 \r\n46000x32914 [0,0 256x192] (64x64) JPEG/RGB Q=30;"
    "{0} Image Library v10.0.51\r\n46920x33014 {1}|AppMag = 20|StripeWidth = 2040|"
    "ScanScope ID = {2}|Filename = {3}|Date = {4}|Time = {5}|User = {6}|Parmset = {7}|"
    "MPP = 0.4990|Left = {8}|Title = {9}|Barcode = {10}|{11} = 3|Slide ID={12}|Filtered = 5"
)


def icc_profile(plants: Plants) -> bytes:
    """Return Little CMS's sRGB with words in its texts, in a private tag, and in the slack."""
    from PIL import ImageCms

    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    count = struct.unpack_from(">I", data, 128)[0]
    entries = [struct.unpack_from(">4sII", data, 132 + 12 * n) for n in range(count)]
    tags = {
        name: data[start : start + size]
        for name, start, size in entries
        if name not in (b"desc", b"cprt")
    }
    long_text = plants.word("ICC description").encode("utf-16-be")
    tags[b"desc"] = b"mluc" + bytes(4) + struct.pack(">II4sII", 1, 12, b"enUS", len(long_text), 28)
    tags[b"desc"] += long_text
    tags[b"cprt"] = b"text" + bytes(4) + plants.ascii("ICC copyright") + b"\0"
    tags[b"priv"] = b"text" + bytes(4) + plants.ascii("ICC private tag") + b"\0"
    tags[b"wtpt"] += plants.ascii("ICC after a tag's own length")
    body, table = b"", struct.pack(">I", len(tags))
    start = 132 + 12 * len(tags)
    for name, value in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(value))
        body += value + bytes(-len(value) % 4) + plants.ascii("ICC between tags").ljust(16, b"\0")
    header = bytearray(data[:128])
    header[48:60] = plants.ascii("ICC header")[:12]
    header[100:116] = plants.ascii("ICC reserved")[:16].ljust(16, b"\0")
    return bytes(header) + table + body


def planted_tags(plants: Plants, name: str) -> dict[int, tuple[int, object]]:
    """Return every tag that holds words or bytes, each with a word of its own."""
    text = (
        269,
        271,
        272,
        285,
        305,
        306,
        315,
        316,
        333,
        337,
        700,
        32932,
        32995,
        33432,
        42016,
        42112,
    )
    tags: dict[int, tuple[int, object]] = {
        tag: (2, plants.ascii(f"{name}: tag {tag}") + b"\0") for tag in text
    }
    for tag in (33723, 34377, 37724, 37500, 37510, 50839, 65000, 65500, 51123):
        tags[tag] = (7, plants.ascii(f"{name}: tag {tag}"))
    tags[700] = (1, b"<x:xmpmeta>" + plants.ascii(f"{name}: XMP") + b"</x:xmpmeta>")
    tags[40091] = (1, plants.word(f"{name}: XPTitle").encode("utf-16-le"))
    word = plants.ascii(f"{name}: numbers of 16 bits").ljust(16, b"\0")
    tags[65010] = (3, list(struct.unpack("<8H", word)))
    tags[282] = (5, [10000, 1])
    tags[283] = (5, [10000, 1, *struct.unpack("<2I", plants.ascii(f"{name}: long ratio")[:8])])
    tags[296] = (3, [3])
    tables = (
        b"\xff\xd8\xff\xfe" + struct.pack(">H", 13) + plants.ascii(f"{name}: tables") + b"\xff\xd9"
    )
    tags[347] = (7, tables[:4] + struct.pack(">H", len(tables) - 8 + 2) + tables[6:])
    tags[34675] = (7, icc_profile(plants))
    return tags


def planted_below(plants: Plants, name: str) -> dict[int, list[Page]]:
    """Return SubIFDs, EXIF and GPS directories with words."""
    exif = {
        tag: (2, plants.ascii(f"{name}: EXIF {tag}") + b"\0")
        for tag in (0x9003, 0x9C9B, 0xA420, 0xA430, 0xA431)
    }
    exif[0x927C] = (7, plants.ascii(f"{name}: maker note"))
    exif[0x9286] = (7, b"UNICODE\0" + plants.word(f"{name}: user comment").encode("utf-16-le"))
    gps = {tag: (2, plants.ascii(f"{name}: GPS {tag}") + b"\0") for tag in (27, 28, 29)}
    label = strip_page(40, 30, planted_tags(plants, f"{name}: SubIFD"))
    label.blobs = [plants.ascii(f"{name}: SubIFD's pixels") + label.blobs[0]]
    return {330: [label], 34665: [Page(exif, [])], 34853: [Page(gps, [])]}


def aperio(plants: Plants, **how: object) -> bytes:
    """Return an Aperio slide: two levels, thumbnail, label, macro, words everywhere."""
    text = APERIO_TEXT.format(*(plants.word(f"description {n}") for n in range(13)))

    def own(subfile: int, description: bytes, place: str = "") -> dict[int, tuple[int, object]]:
        words = description + (plants.ascii(place) if place else b"") + b"\0"
        return {254: (4, [subfile]), 270: (2, words)}

    thumbnail = b"Aperio Image Library v11.2.1 \r\n256x192 -> 128x96 - |User = "
    pages = [
        tiled_page(256, 192, own(0, text.encode())),
        strip_page(128, 96, own(0, thumbnail, "thumbnail"), jpeg(picture(128, 96, 3))),
        tiled_page(128, 96, own(0, b"Aperio ", "level 1"), seed=2),
        strip_page(60, 90, own(1, b"Aperio v1\r\nlabel 60x90 ", "label")),
        strip_page(120, 40, own(9, b"Aperio v1\r\nmacro 120x40 ", "macro")),
    ]
    pages[3].blobs = [plants.ascii("label's pixels") + pages[3].blobs[0]]
    pages[4].blobs = [plants.ascii("macro's pixels") + pages[4].blobs[0]]
    for number, page in enumerate(pages):
        page.tags = planted_tags(plants, f"page {number}") | page.tags
        page.below = planted_below(plants, f"page {number}")
    return make_tiff(
        pages,
        slack=lambda: plants.ascii("slack"),
        tail=plants.word("tail").encode("utf-16-le"),
        **how,
    )  # type: ignore


def pyramid(plants: Plants, **how: object) -> bytes:
    """Return a tiled pyramid with a tiled label, a stripped page and a reduced copy below."""
    pages = [
        tiled_page(256, 192, {270: (2, plants.ascii("description"))}),
        tiled_page(128, 96, {254: (4, [1])}, seed=2),
        tiled_page(64, 128, {254: (4, [1])}, seed=3),
        strip_page(60, 90, {254: (4, [1])}),
    ]
    pages[2].blobs = [jpeg(picture(64, 64), (0xFE, plants.ascii("label's comment")))] * 2
    for number, page in enumerate(pages):
        page.tags = planted_tags(plants, f"page {number}") | page.tags
        page.below = planted_below(plants, f"page {number}")
    pages[0].below[330].append(tiled_page(64, 48, {254: (4, [1]), 305: (2, plants.ascii("below"))}))
    return make_tiff(pages, slack=lambda: plants.ascii("slack"), tail=plants.ascii("tail"), **how)  # type: ignore


def ndpi(plants: Plants) -> bytes:
    """Return an NDPI: two levels of one JPEG each with restart markers, macro and map."""
    pages = []
    for number, (width, height) in enumerate(((256, 192), (128, 96))):
        comment = (0xFE, plants.ascii(f"comment of level {number}"))
        data = jpeg(picture(width, height, number), comment, rows=1)
        starts = [_scan_start(data)] + [n + 2 for n in _restarts(data)]
        page = strip_page(width, height, {65421: (11, [40.0 / 2**number])}, data)
        page.tags[65426] = (4, starts)
        pages.append(page)
    pages.append(
        strip_page(
            120, 40, {65421: (11, [-1.0])}, jpeg(picture(120, 40), (0xE1, plants.ascii("macro")))
        )
    )
    pages.append(strip_page(60, 20, {65421: (11, [-2.0])}))
    blob = "Created={}\r\nNDP.S/N={}\r\nProduct=C9600-12\r\nsystem.version=1.0\r\n{}=5\r\n"
    blob += "ccd.width={}\r\n"
    for number, page in enumerate(pages):
        name = f"page {number}"
        page.tags = planted_tags(plants, name) | page.tags
        page.tags |= {65420: (4, [1]), 65422: (9, [1]), 65423: (9, [-2]), 65424: (9, [0])}
        page.tags |= {
            tag: (2, plants.ascii(f"{name}: tag {tag}") + b"\0") for tag in (65427, 65434, 65442)
        }
        page.tags[65449] = (
            2,
            blob.format(*(plants.word(f"{name}: blob {n}") for n in range(4))).encode() + b"\0",
        )
        page.tags[65439] = (
            9,
            list(struct.unpack("<3i", plants.ascii(f"{name}: focus points")[:12])),
        )
    return make_tiff(
        pages, ndpi=True, slack=lambda: plants.ascii("slack"), tail=plants.ascii("tail")
    )


def _scan_start(data: bytes) -> int:
    start = data.index(b"\xff\xda")
    return start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")


def _restarts(data: bytes) -> list[int]:
    start = _scan_start(data)
    return [
        n for n in range(start, len(data) - 1) if data[n] == 0xFF and 0xD0 <= data[n + 1] <= 0xD7
    ]
