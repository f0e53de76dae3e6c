"""Writes a PDF of text alone, whatever its script, with nothing in it but what it is given.

ISO 32000-1. No font is embedded: Latin text is in Helvetica (WinAnsi), Chinese, Japanese and Korean
in the fonts and CMaps that readers know by name (9.7.5.2), from which they know the text too; all
other signs are called by their glyphs' names (9.6.6), with a ToUnicode map (9.10.3). So what is
extracted is what was written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_SIMPLE_SIGNS = 200
_CHUNK = 100
"""A CMap's blocks have at most so many entries (Adobe Technical Note 5014)."""


@dataclass(frozen=True)
class Line:
    """Text at a point of the page; size in points."""

    x: float
    y: float
    size: float
    text: str


@dataclass(frozen=True)
class Page:
    """A page of width and height in points, its origin at the lower left."""

    width: float
    height: float
    lines: Sequence[Line]


@dataclass(frozen=True)
class _Collection:
    """A character collection, and a font and CMap that every reader knows for it."""

    ordering: str
    supplement: int
    font: str
    cmap: str
    codec: str
    """Python's name of a character set all of whose signs the collection has."""


_GB1 = _Collection("GB1", 2, "STSong-Light", "UniGB-UCS2-H", "gbk")
_JAPAN1 = _Collection("Japan1", 2, "HeiseiMin-W3", "UniJIS-UCS2-H", "shift_jis")
_KOREA1 = _Collection("Korea1", 1, "HYSMyeongJo-Medium", "UniKS-UCS2-H", "cp949")
_RIGHT_TO_LEFT = re.compile(
    "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]+(?: +[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]+)*"
)


def write_pdf(pages: Sequence[Page]) -> bytes:
    """Return the file: no information, identifier, time or producer is in it."""
    fonts = _Fonts([line.text for page in pages for line in page.lines])
    objects: list[bytes] = [b"<< /Type /Catalog /Pages 2 0 R >>", b""]
    first_font = 3 + 2 * len(pages)
    resources, font_objects = fonts.objects(first_font)
    kids = []
    for page in pages:
        number = len(objects) + 1
        kids.append(f"{number} 0 R")
        content = b"\n".join(fonts.show(line) for line in page.lines)
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {page.width:.2f} {page.height:.2f}] "
            f"/Resources << /Font << {resources} >> >> /Contents {number + 1} 0 R >>".encode()
        )
        objects.append(_stream(content))
    objects[1] = f"<< /Type /Pages /Count {len(pages)} /Kids [{' '.join(kids)}] >>".encode()
    objects.extend(font_objects)
    return _file(objects)


def _file(objects: Sequence[bytes]) -> bytes:
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\n" % (len(objects) + 1)
    out += b"startxref\n%d\n%%%%EOF\n" % start
    return bytes(out) + b"\n" * (len(out) % 2)


def _stream(content: bytes) -> bytes:
    return b"<< /Length %d >>\nstream\n%b\nendstream" % (len(content), content)


class _Fonts:
    """Which font and code each sign has."""

    def __init__(self, texts: Sequence[str]) -> None:
        used = sorted(set("".join(texts)))
        self._codes: dict[str, tuple[int, bytes]] = {}
        self._other_codes: dict[str, tuple[int, bytes]] = {}
        self._wide: dict[_Collection, list[str]] = {}
        others: set[str] = set()
        has_kana = any("\u3040" <= sign <= "\u30ff" for sign in used)
        for sign in used:
            latin = _latin(sign)
            collection = _collection(sign, has_kana)
            if latin:
                self._codes[sign] = (1, latin)
            elif collection:
                self._wide.setdefault(collection, []).append(sign)
            elif sign > "\x7f" and not "\ud800" <= sign <= "\udfff":
                others.add(sign)
        # A word is in one font.
        for text in texts if others else ():
            for word in text.split():
                if not others.isdisjoint(word):
                    others.update(sign for sign in word if sign in self._codes and sign > " ")
        signs = sorted(others)
        self._simple = [
            signs[at : at + _SIMPLE_SIGNS] for at in range(0, len(signs), _SIMPLE_SIGNS)
        ]
        number = 1
        for group in self._simple:
            number += 1
            for code, sign in enumerate(group, 33):
                self._other_codes[sign] = (number, bytes((code,)))
        for group in self._wide.values():
            number += 1
            for sign in group:
                self._codes[sign] = (number, sign.encode("utf-16-be"))

    def _word(self, word: str) -> list[tuple[int, bytes]]:
        is_other = any(sign in self._other_codes and sign not in self._codes for sign in word)
        first, second = self._codes, self._other_codes
        if is_other:
            first, second = second, first
        return [first.get(sign) or second.get(sign, (1, b" ")) for sign in word]

    def show(self, line: Line) -> bytes:
        """Return the operators that show a line, a string for each run of one font (9.4)."""
        runs: list[tuple[int, bytearray]] = []
        spaces = 0
        # A page shows signs where they are seen: those from right to left are turned round.
        text = _RIGHT_TO_LEFT.sub(lambda run: run.group()[::-1], line.text)
        for word in re.split("( +)", text):
            if word.startswith(" "):
                spaces = len(word)
                continue
            for number, code in self._word(word):
                if spaces:
                    is_wide = number > 1 + len(self._simple)
                    self._append(runs, 1 if is_wide else number, b" " * spaces)
                    spaces = 0
                self._append(runs, number, code)
        for number, signs in runs:
            if len(signs) == 1 and 1 < number <= 1 + len(self._simple):
                signs.extend(b" ")  # or readers that lack the glyph see a text without width
        size = f"{line.size:.2f}"
        shown = b" ".join(
            b"/F%d %b Tf %b Tj" % (number, size.encode(), _string(bytes(code), number == 1))
            for number, code in runs
        )
        return b"BT 1 0 0 1 %.2f %.2f Tm %b ET" % (line.x, line.y, shown)

    @staticmethod
    def _append(runs: list[tuple[int, bytearray]], number: int, code: bytes) -> None:
        if not runs or runs[-1][0] != number:
            runs.append((number, bytearray()))
        runs[-1][1].extend(code)

    def objects(self, first: int) -> tuple[str, list[bytes]]:
        """Return the entries of a font dictionary, and the objects that begin at ``first``."""
        objects = [
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
        ]
        entries = [f"/F1 {first} 0 R"]
        number = 1
        for group in self._simple:
            number += 1
            entries.append(f"/F{number} {first + len(objects)} 0 R")
            objects.extend(_simple_font(group, first + len(objects)))
        for collection in self._wide:
            number += 1
            entries.append(f"/F{number} {first + len(objects)} 0 R")
            objects.extend(_wide_font(collection, first + len(objects)))
        return " ".join(entries), objects


def _latin(sign: str) -> bytes:
    if sign < " " or "\x7f" <= sign < "\xa0":
        return b" "
    return sign.encode("cp1252", "ignore")


def _collection(sign: str, has_kana: bool) -> _Collection | None:
    if not "\u2e80" <= sign <= "\uffef":
        return None
    for collection in (_JAPAN1, _GB1, _KOREA1) if has_kana else (_GB1, _JAPAN1, _KOREA1):
        if sign.encode(collection.codec, "ignore"):
            return collection
    return None


def _string(code: bytes, is_latin: bool) -> bytes:
    if not is_latin:
        return b"<" + code.hex().encode() + b">"
    return b"(" + code.replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)") + b")"


def _simple_font(signs: Sequence[str], number: int) -> list[bytes]:
    """Return a font whose codes from 33 are ``signs``, its descriptor and its map (9.6.6.1)."""
    names = " ".join(
        f"/uni{ord(sign):04X}" if ord(sign) < 0x10000 else f"/u{ord(sign):05X}" for sign in signs
    )
    widths = " ".join(["600"] * (len(signs) + 1))
    font = (
        f"<< /Type /Font /Subtype /TrueType /BaseFont /CourierNewPSMT /FirstChar 32 "
        f"/LastChar {32 + len(signs)} /Widths [{widths}] /FontDescriptor {number + 1} 0 R "
        f"/ToUnicode {number + 2} 0 R "
        f"/Encoding << /Type /Encoding /BaseEncoding /WinAnsiEncoding "
        f"/Differences [32 /space {names}] >> >>"
    )
    codes = {" ": b" ", **{sign: bytes((code,)) for code, sign in enumerate(signs, 33)}}
    return [font.encode(), _descriptor("CourierNewPSMT", 33), _stream(_to_unicode(codes))]


def _wide_font(collection: _Collection, number: int) -> list[bytes]:
    """Return a font of a predefined CMap, its descendant and its descriptor (9.7)."""
    font = (
        f"<< /Type /Font /Subtype /Type0 /BaseFont /{collection.font}-{collection.cmap} "
        f"/Encoding /{collection.cmap} /DescendantFonts [{number + 1} 0 R] >>"
    )
    descendant = (
        f"<< /Type /Font /Subtype /CIDFontType0 /BaseFont /{collection.font} "
        f"/CIDSystemInfo << /Registry (Adobe) /Ordering ({collection.ordering}) "
        f"/Supplement {collection.supplement} >> /DW 1000 /FontDescriptor {number + 2} 0 R >>"
    )
    return [font.encode(), descendant.encode(), _descriptor(collection.font, 4)]


def _descriptor(font: str, flags: int) -> bytes:
    return (
        f"<< /Type /FontDescriptor /FontName /{font} /Flags {flags} /FontBBox [-200 -250 1100 950] "
        "/ItalicAngle 0 /Ascent 880 /Descent -120 /CapHeight 720 /StemV 80 >>"
    ).encode()


def _to_unicode(codes: dict[str, bytes]) -> bytes:
    """Return a CMap from codes of one byte to UTF-16 (9.10.3)."""
    pairs = [f"<{code.hex()}> <{sign.encode('utf-16-be').hex()}>" for sign, code in codes.items()]
    blocks = []
    for at in range(0, len(pairs), _CHUNK):
        block = pairs[at : at + _CHUNK]
        blocks.append("\n".join([f"{len(block)} beginbfchar", *block, "endbfchar"]))
    return "\n".join(
        [
            "/CIDInit /ProcSet findresource begin",
            "12 dict begin",
            "begincmap",
            "/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def",
            "/CMapName /Adobe-Identity-UCS def",
            "/CMapType 2 def",
            "1 begincodespacerange",
            "<00> <ff>",
            "endcodespacerange",
            *blocks,
            "endcmap",
            "CMapName currentdict /CMap defineresource pop",
            "end",
            "end",
        ]
    ).encode()
